"""Conversion of command-line words to series, dates and parameters; an invalid one is refused in a sentence."""

from __future__ import annotations

import codecs
import math
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from backtest._arguments import is_url
from backtest.errors import DamagedStore, UsageError, quoted

if TYPE_CHECKING:
    from backtest.market.series import Series

_LARGEST = 1 << 26  # bytes of a list of series
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def parse_series(words: list[str]) -> list[Series]:
    """
    Return the series that words name; @FILE stands for those in a file, one per line, or in a universe.

    Raises:
        UsageError: one cannot be read; the text names its file and line, if it is in a file.
    """
    found = []
    for n, word in enumerate(words):
        try:
            found += _of_file(word[1:]) if word[:1] == "@" else [one_series_of(word)]
        except UsageError as error:
            if together := _in_quotes(words[n : n + 2]):
                raise UsageError(
                    f"{word!r} has no bar size; did you mean {together}, in quotes because of the space?"
                ) from error
            raise
    return found


def _in_quotes(words: list[str]) -> str:
    """Return the series that two words spell together, quoted for a shell, such as 'BRK B/1day'; "" if none."""
    if len(words) < 2 or "/" in words[0] or "/" not in words[1]:
        return ""
    try:
        return one_series_of(" ".join(words)).quoted
    except UsageError:
        return ""


def one_series_of(word: str) -> Series:
    """Return the series that a word names; refuse one that this version cannot build."""
    from backtest.market.series import Series, refuse_made

    series = Series.parse(word)
    refuse_made(series.instrument)
    return series


def refuse_url(text: object, option: str) -> None:
    """
    Refuse a URL as the place of an output on this machine.

    Raises:
        UsageError: it is a URL.
    """
    if is_url(text):
        raise UsageError(f"{option} {text} is a URL, but the command writes to local disk; name a folder or a file")


def date_of(text: str, option: str) -> date | None:
    """Return the date in an option; None for an empty text."""
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        why = "" if "isoformat" in str(error) else f" ({error})"
        raise UsageError(f"{option} {text!r} is not a valid date{why}; write YYYY-MM-DD, such as 2024-03-28") from error


def factors_of(text: str) -> list[float]:
    """Return the multiples of costs."""
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--cost-cases {text!r} is not a list of numbers; write multiples such as 0,1,2") from error
    if not all(0 <= factor < math.inf for factor in found):
        raise UsageError(
            f"--cost-cases {text!r} has an invalid multiple; write finite numbers, 0 or more, such as 0,1,2"
        )
    return found


def lengths_of(text: str) -> list[str]:
    """Return TRAIN and TEST, each a number of sessions or a text such as 2y; none for an empty text."""
    if not text:
        return []
    found = re.fullmatch(r"(\d+[ymw]?)/(\d+[ymw]?)", text)
    if not found:
        raise UsageError(f"--walk-forward {text!r} is not TRAIN/TEST; write sessions such as 504/126, or 2y/6m")
    return list(found.groups())


def group_counts_of(text: str) -> list[int]:
    """Return N and K; none for an empty text."""
    if not text:
        return []
    found = re.fullmatch(r"(\d+),(\d+)", text)
    if not found:
        raise UsageError(
            f"--cpcv {text!r} is not N,K; write the number of groups and how many of them to test, such as 6,2"
        )
    return [int(found[1]), int(found[2])]


def settings_of(words: list[str]) -> dict[str, str]:
    """Return parameters by name, with their values as text."""
    pairs = [word.partition("=") for word in words]
    for word, (name, mark, _) in zip(words, pairs, strict=True):
        if not (name and mark):
            raise UsageError(f"--set {word!r} is not a valid setting; write NAME=VALUE, such as --set fast=10")
    return {name: value for name, _, value in pairs}


def _of_file(name: str) -> list[Series]:
    """Return the series of a list or of a universe; one error names all lines that cannot be read."""
    from backtest.market.universe import is_table, read_universe

    if Path(name).suffix.lower() == ".parquet":
        return list(read_universe(name))
    lines = re.split(r"\r\n|\r|\n", _text_of(name).replace("\ufeff", ""))
    if is_table(next((line for line in lines if line.strip() and not line.startswith("#")), "")):
        return list(read_universe(name))
    found, wrong = [], []
    for number, line in enumerate(lines, 1):
        if word := line.partition("#")[0].strip():
            try:
                found.append(one_series_of(word))
            except UsageError as error:
                wrong.append((number, error))
    if wrong:
        number, first = wrong[0]
        others = ", ".join(str(other) for other, _ in wrong[1:])
        more = f"; also invalid: line{'s' * (len(wrong) > 2)} {others}" if others else ""
        raise UsageError(f"{name}, line {number}: {first}{more}") from first
    if not found:
        raise UsageError(f"no series in the file {quoted(name)}; write one per line, such as AAPL/1day")
    return found


def _text_of(name: str) -> str:
    """Return the text of a file in UTF-8, or in the encoding of its byte order mark, as editors on Windows write it."""
    from backtest.store.documents import bytes_of

    path = Path(name)
    if not path.exists() or path.is_dir():
        raise UsageError(f"no file {quoted(path)}; @FILE names a text file with one series per line")
    try:
        content = bytes_of(path, _LARGEST, links=True)
        encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8")
        text = content.decode(encoding)
    except OSError as error:
        raise UsageError(f"{quoted(path)} cannot be read ({error.strerror}); name a readable file: @FILE") from error
    except DamagedStore as error:
        raise UsageError(f"{error}; write @FILE, with one series per line") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{quoted(path)} is not a text file ({error.reason}); write one series per line, in UTF-8"
        ) from error
    if "\0" in text:
        raise UsageError(f"{quoted(path)} is not a text file (it has zero bytes); write one series per line, in UTF-8")
    return text
