"""Compact encoding of columns of numbers as text in a page; `templates/scripts/parts.js` decodes it."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_LARGEST = 2.0**51  # of a whole number: twice the step between two of them is still exact in JavaScript
_MOST_DIGITS = 8  # decimals that prices are tried with
_SIGNIFICANT = 8  # digits of a number that need not be exact


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of numbers, NaN where there is none.

    Attributes:
        digits: the decimals to keep; may be negative. None keeps the numbers unchanged.
    """

    values: np.ndarray
    digits: int | None = None


def exactly(values: np.ndarray) -> Column:
    """Return a column that unpacks to exactly the same numbers; infinities become NaN."""
    return Column(np.asarray(values, float))


def rounded(values: np.ndarray, digits: int | None = None) -> Column:
    """Return a column with this many decimals, or with eight significant digits if that is too much or not given."""
    values = np.asarray(values, float)
    known = np.abs(values[np.isfinite(values)])
    greatest = float(known.max()) if len(known) else 0.0
    if not greatest:
        return Column(values, digits or 0)
    magnitude = int(np.floor(np.log10(greatest)))
    if digits is None:
        return Column(values, _SIGNIFICANT - 1 - magnitude)
    return Column(values, min(digits, 14 - magnitude))


def pack(columns: Mapping[str, Column]) -> tuple[list[dict[str, Any]], str]:
    """
    Return a description of each column, in order, and the columns as one text: compressed, in base64.

    A column is stored as whole numbers, each as its difference from the previous one: first the first bytes of all,
    then the second bytes and so on, so that they compress well.
    """
    about, parts = [], []
    for name, column in columns.items():
        words, content = _packed(column)
        about.append({"name": name, "rows": len(column.values), **words})
        parts.append(content)
    # Without a time, so that the same columns give the same text.
    return about, base64.b64encode(gzip.compress(b"".join(parts), 6, mtime=0)).decode()


def _packed(column: Column) -> tuple[dict[str, Any], bytes]:
    values = np.where(np.isfinite(column.values), column.values, np.nan)
    missing = np.isnan(values)
    digits = _digits_of(values[~missing]) if column.digits is None else column.digits
    words, mask = {"gaps": int(missing.any())}, missing.astype(np.uint8).tobytes() if missing.any() else b""
    if digits is None:  # as they are in memory
        return {**words, "planes": 8, "digits": None}, mask + _bytes_by_place(values.astype("<f8"), 8)
    steps = np.diff(_without_gaps(_whole(values, digits), missing), prepend=0)
    numbers = ((steps << 1) ^ (steps >> 63)).astype("<u8")  # small numbers of either sign stay small
    planes = (int(numbers.max(initial=0)).bit_length() + 7) // 8
    return {**words, "planes": planes, "digits": digits}, mask + _bytes_by_place(numbers, planes)


def _digits_of(values: np.ndarray) -> int | None:
    """Return the decimals that numbers have; None if they are not decimal, or too large."""
    for digits in range(_MOST_DIGITS + 1):
        whole = np.rint(values * 10.0**digits)
        if np.abs(whole).max(initial=0) > _LARGEST:
            return None
        if (whole / 10.0**digits == values).all() and not np.signbit(values[values == 0]).any():
            return digits
    return None


def _whole(values: np.ndarray, digits: int) -> np.ndarray:
    return np.rint(values * 10.0**digits if digits >= 0 else values / 10.0**-digits)


def _without_gaps(whole: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return whole numbers with the one before in each gap, 0 where there is none."""
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(whole))))
    return np.where(last < 0, 0, np.nan_to_num(whole)[np.maximum(last, 0)]).astype(np.int64)


def _bytes_by_place(numbers: np.ndarray, planes: int) -> bytes:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8)[:, :planes].T.tobytes()
