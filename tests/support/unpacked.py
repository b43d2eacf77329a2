"""The columns of a chart, unpacked as its page's script does, from `packing.pack` or from a page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def unpacked(about: Sequence[Mapping[str, Any]], text: str) -> dict[str, np.ndarray]:
    """Return each column by its name."""
    content, at, columns = gzip.decompress(base64.b64decode(text)), 0, {}
    for column in about:
        rows = column["rows"]
        missing = np.zeros(rows, bool)
        if column["gaps"]:
            missing, at = np.frombuffer(content, np.uint8, rows, at) != 0, at + rows
        planes = np.frombuffer(content, np.uint8, rows * column["planes"], at).reshape(column["planes"], rows)
        at += planes.size
        columns[column["name"]] = np.where(missing, np.nan, _values(planes, column["digits"]))
    assert at == len(content)
    return columns


def _values(planes: np.ndarray, digits: int | None) -> np.ndarray:
    if digits is None:
        return np.ascontiguousarray(planes.T).view("<f8").ravel()
    steps = sum((plane.astype(float) * 256.0**place for place, plane in enumerate(planes)), np.zeros(planes.shape[1]))
    whole = np.cumsum(np.where(steps % 2, -(steps + 1) / 2, steps / 2))
    return whole / 10.0**digits if digits >= 0 else whole * 10.0**-digits


def chart_in(page: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a page says of its chart, and the columns."""
    about = json.loads(re.search(r'class="about">(.*?)</script>', page, re.DOTALL)[1])
    return about, unpacked(about["columns"], re.search(r'class="columns">(.*?)</script>', page, re.DOTALL)[1])
