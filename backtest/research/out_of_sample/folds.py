"""Folds: which sessions to choose on and which to test on, so that no test session influences the choice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError

_PARTS = {"y": 1, "m": 12, "w": 52}  # of a year
_MOST = 20_000  # ways to choose test groups


def session_count(given: Any, name: str, periods: float = 252.0) -> int:
    """
    Return a number of sessions, given as such or as "3y", "6m" or "2w": 252, 21 and 5 sessions each.

    Args:
        periods: sessions per year; a month is a twelfth of them and a week a 52nd, rounded.

    Raises:
        UsageError: it is neither, or is shorter than a bar.
    """
    example = "write a number of sessions such as 504, or 2y, 6m, 3w"
    found = re.fullmatch(r"(\d{1,9})([ymw])", given) if isinstance(given, str) else None
    if found:
        each = round(periods / _PARTS[found[2]])
        if not each:
            raise UsageError(f"{name} is {given!r}, and a year has {periods:g} bars; write a number of bars, or years")
        return int(found[1]) * each
    return _arguments.whole(given, name, 0, example)


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows to choose on, and rows to test on; both ascend."""

    train: np.ndarray
    test: np.ndarray
    groups: tuple[int, ...] = ()  # that the test rows are made of


def walk_forward_folds(count: int, train: int, test: int, *, anchored: bool = False, purge: int = 0) -> list[Fold]:
    """
    Return folds whose test rows follow one another, each right after its training rows; the last may be shorter.

    Args:
        count: the number of rows.
        train: the number of training rows: those before the test or, if anchored, at least this many from the first row
            on.
        test: the number of test rows.
        purge: the number of rows dropped between the two.

    Raises:
        UsageError: a number is invalid, or there are too few rows for one test.
    """
    if train < 2 or test < 1 or purge < 0:
        raise UsageError(
            f"{train} sessions in sample and {test} out of sample are not enough for a walk-forward; use more"
        )
    starts = range(train + purge, count, test)
    if not starts:
        raise UsageError(
            f"{count:,} sessions are too few to train on {train:,} and test on the next; use a shorter TRAIN"
        )
    return [
        Fold(
            np.arange(0 if anchored else start - purge - train, start - purge),
            np.arange(start, min(start + test, count)),
        )
        for start in starts
    ]


def group_sizes(count: int, groups: int) -> list[int]:
    """Return the number of rows in each of these groups; they differ by at most one."""
    if not 2 <= groups <= count:
        raise UsageError(
            f"{count:,} sessions cannot be put into {groups} groups; name 2 or more, and fewer than the sessions"
        )
    return [count // groups + (n < count % groups) for n in range(groups)]


def purged_folds(sizes: Sequence[int], tested: int = 1, purge: int = 0, embargo: int = 0) -> list[Fold]:
    """
    Return a fold for each way to choose `tested` of the groups for the test; the others are for training.

    Training rows near a test row are dropped: `purge` rows before and after it, whose outcomes may overlap with those
    of the test, and `embargo` further rows after it, which events of the test may still affect.

    Args:
        sizes: the number of rows of each group, in order of time.

    Raises:
        UsageError: a number is invalid, or no training rows are left.

    Source: López de Prado (2018), "Advances in Financial Machine Learning", chapters 7 and 12.
    """
    groups = len(sizes)
    if not 1 <= tested < groups or purge < 0 or embargo < 0 or comb(groups, tested) > _MOST:
        raise UsageError(
            f"cannot test {tested} of {groups} groups with a purge of {purge} and an embargo of {embargo} sessions; "
            "write N,K such "
            "as 6,2, and 0 sessions or more"
        )
    ends = np.cumsum([0, *sizes])
    chosen = combinations(range(groups), tested)
    folds = [_purged(ends, test, purge, embargo) for test in chosen]
    if not all(len(fold.train) > 1 for fold in folds):
        raise UsageError(f"a purge of {purge} and an embargo of {embargo} sessions leave nothing to train on")
    return folds


def paths(groups: int, tested: int) -> list[list[int]]:
    """
    Return the ways from the first group to the last: for each group the number of the fold that tests it.

    Each fold's test of each group is on exactly one path; there are C(groups - 1, tested - 1) paths.
    """
    folds = list(combinations(range(groups), tested))
    testing = [[number for number, fold in enumerate(folds) if group in fold] for group in range(groups)]
    return [list(path) for path in zip(*testing, strict=True)]


def _purged(ends: np.ndarray, test: tuple[int, ...], purge: int, embargo: int) -> Fold:
    count = int(ends[-1])
    tested, near = np.zeros(count, bool), np.zeros(count, bool)
    for group in test:
        first, last = int(ends[group]), int(ends[group + 1])
        tested[first:last] = True
        near[max(first - purge, 0) : last + purge + embargo] = True
    return Fold(np.flatnonzero(~near), np.flatnonzero(tested), test)
