"""What the words of a command line mean: series, dates, parameters; each refused in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import UsageError

if TYPE_CHECKING:
    from backtest.market.series import Series


def parse_series(words: list[str]) -> list[Series]:
    """Return the series that words name; @FILE stands for those in a file, one a line."""
    return [one_series_of(word) for word in _listed(words)]


def one_series_of(word: str) -> Series:
    """Return the series that a word names; one that this version cannot make is refused."""
    from backtest.market.series import Series, refuse_made

    series = Series.parse(word)
    refuse_made(series.instrument)
    return series


def date_of(text: str, option: str) -> date | None:
    """Return the date that an option names; None for no text."""
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no date ({error}); write YYYY-MM-DD, such as 2024-03-28") from error


def factors_of(text: str) -> list[float]:
    """Return the multiples of costs."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--costs {text!r} are no numbers ({error}); write multiples such as 0,1,2") from error


def lengths_of(text: str) -> list[int]:
    """Return the sessions of TRAIN and TEST; none for no text."""
    if not text:
        return []
    found = re.fullmatch(r"(\d+[ymw]?)/(\d+[ymw]?)", text)
    if not found:
        raise UsageError(f"--walk-forward {text!r} is not TRAIN/TEST; write sessions such as 504/126, or 2y/6m")
    from backtest.research.out_of_sample.folds import session_count

    return [session_count(one, "--walk-forward") for one in found.groups()]


def group_counts_of(text: str) -> list[int]:
    """Return N and K; none for no text."""
    if not text:
        return []
    found = re.fullmatch(r"(\d+),(\d+)", text)
    if not found:
        raise UsageError(f"--cpcv {text!r} is not N,K; write groups and how many of them are tested, such as 6,2")
    return [int(found[1]), int(found[2])]


def settings_of(words: list[str]) -> dict[str, str]:
    """Return parameters by name, their values as they were written."""
    pairs = [word.partition("=") for word in words]
    for word, (name, mark, _) in zip(words, pairs, strict=True):
        if not (name and mark):
            raise UsageError(f"--set {word!r} is no setting; write NAME=VALUE, such as --set fast=10")
    return {name: value for name, _, value in pairs}


def _listed(words: list[str]) -> Iterator[str]:
    for word in words:
        if not word.startswith("@"):
            yield word
            continue
        path = Path(word[1:])
        if not path.is_file():
            raise UsageError(f"no file {str(path)!r} of series; write @FILE, with one series a line")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{str(path)!r} is no text ({error.reason}); write a series a line, in UTF-8") from error
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        yield from (line for line in lines if line)
