"""Which files a user means, and the series of each: from its name, its column of symbols, or its times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time
from itertools import pairwise
from pathlib import Path

from backtest.errors import UsageError
from backtest.market.series import BAR_SIZES, BarSize, Instrument, Series
from backtest.sources.files.columns import roles_of
from backtest.sources.files.reading import FileOptions, only_symbol, symbols_in
from backtest.sources.files.table import Table
from backtest.sources.files.times import moments_of

EVERY = "*"  # in place of a symbol
_ENDINGS = (".csv", ".tsv", ".txt", ".dat", ".parquet", ".feather", ".arrow", ".xlsx", ".json", ".jsonl")
_PACKED = (".gz", ".bz2", ".xz", ".zip")
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9]{0,5}")
_MARKETS = ("us", "uk", "de", "fr", "pl", "jp", "hk", "v", "f")  # of Stooq's names: aapl.us.txt
_DAY = 86_400


def files_meant(words: Sequence[str]) -> list[Path]:
    """
    Return the files that the arguments name: single files, all in a folder, or those that match 'csv/*.csv'.

    Raises:
        UsageError: a folder has no files, or no file matches a pattern.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if _is_table(one))
            if not inside:
                raise UsageError(
                    f"the folder {word!r} has no files of bars, such as .csv, .parquet or .xlsx; name another"
                )
            found += inside
        elif not path.exists() and _is_pattern(word):
            fitting = sorted(_fitting(word))
            if not fitting:
                raise UsageError(f"no file matches {word!r}; name files, or a folder")
            found += fitting
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def names_series(word: str) -> bool:
    """Return whether a word names a series, not files."""
    return not Path(word).exists() and not (_is_pattern(word) and _fitting(word))


def series_in(table: Table, path: Path, given: str, options: FileOptions) -> list[tuple[Series, FileOptions]]:
    """
    Return each series to read from a file, and how to read it.

    Args:
        given: a series; with * as its symbol, one for each symbol of the file; "" to derive it from the names of file
            and symbols.

    Raises:
        UsageError: the file does not determine its series.
    """
    every = given.startswith((f"{EVERY}/", f"{EVERY}-"))
    if given and not every and options.symbol.lower() != "all":
        return [(Series.parse(given), options)]
    symbols = symbols_in(table, options) if not options.symbol or options.symbol.lower() == "all" else [options.symbol]
    if given:
        spelled = given if every else f"{EVERY}{given[len(re.split(r'[-/+]', given)[0]) :]}"
        names = symbols or [_symbol_named(path)]
        chosen = [Series.parse(spelled.replace(EVERY, _spelled(name), 1)) for name in names]
    elif len(symbols) > 1:
        size = bar_size_of(
            table, Series(Instrument(_spelled(symbols[0])), BAR_SIZES["1day"]), replace(options, symbol=symbols[0])
        )
        chosen = [Series(Instrument(_spelled(name)), size) for name in symbols]
    else:
        return [(_series_named(path, table, options, symbols), options)]
    if not symbols:
        return [(one, replace(options, symbol="")) for one in chosen]
    return [(one, replace(options, symbol=name)) for one, name in zip(chosen, symbols, strict=True)]


def bar_size_of(table: Table, series: Series, options: FileOptions) -> BarSize:
    """
    Return the bar size of a table, from the most frequent interval between its times.

    Raises:
        UsageError: there are too few times, or IB has no such bar size.
    """
    table = only_symbol(table, series, options)
    roles = roles_of(table, series, options.columns, (), options.adjusted)
    columns = [table.columns[place] for place in roles.places["time"]]
    if roles.symbol is not None and options.symbol:
        import numpy as np

        kept = np.array([str(one).strip() == options.symbol for one in table.columns[roles.symbol].to_pylist()])
        columns = [table.taken(kept).columns[place] for place in roles.places["time"]]
    moments = moments_of(columns, table.what, table.where, options.day_first).moments
    stamps = [one if isinstance(one, datetime) else datetime.combine(one, time()) for one in moments]
    steps = sorted(abs((other - one).total_seconds()) for one, other in pairwise(sorted(stamps)) if other != one)
    usual = steps[len(steps) // 2] if steps else 0
    if usual >= 20 * _DAY:
        return BAR_SIZES["1month"]
    if usual >= 0.8 * _DAY:
        return BAR_SIZES["1week" if usual >= 5 * _DAY else "1day"]
    if not steps and all(not isinstance(one, datetime) for one in moments) and moments:
        return BAR_SIZES["1day"]
    fitting = [size for size in BAR_SIZES.values() if size.seconds == usual]
    if not fitting:
        raise UsageError(
            f"the bars of {table.what} are {usual:g} seconds apart, which is not an IB bar size; name the series, "
            f"such as {series.instrument}/1min"
        )
    return fitting[0]


def _series_named(path: Path, table: Table, options: FileOptions, symbols: list[str]) -> Series:
    stem = _stem(path)
    if "_" in stem:
        try:
            return Series.parse(stem.replace("_", "/"))
        except UsageError:
            pass  # named in another way
    symbol = _spelled(symbols[0]) if symbols else _symbol_named(path)
    instrument = Instrument(symbol)
    return Series(instrument, bar_size_of(table, Series(instrument, BAR_SIZES["1day"]), options))


def _symbol_named(path: Path) -> str:
    stem = _stem(path)
    words = re.split(r"[._\s]", stem)
    fits = _SYMBOL.fullmatch(words[0]) is not None
    if not fits or (len(words) > 1 and words[1].lower() not in _MARKETS):
        raise UsageError(
            f"the name of {path} does not give a series, as AAPL.csv or AAPL_1day.csv do; name the series after the "
            "file: "
            f"backtest import {path} AAPL/1day"
        )
    return words[0].upper()


def _spelled(symbol: str) -> str:
    """Return a vendor's symbol without the name of its market: AAPL.US is AAPL."""
    word = symbol.strip().rpartition(":")[2]
    stem, _, market = word.rpartition(".")
    return (stem if stem and market.lower() in _MARKETS else word).upper()


def _stem(path: Path) -> str:
    name = path.name
    for ending in (*_PACKED, *_ENDINGS):
        name = name[: -len(ending)] if name.lower().endswith(ending) and len(name) > len(ending) else name
    return name


def _is_pattern(word: str) -> bool:
    return any(mark in word for mark in "*?[")


def _fitting(pattern: str) -> list[Path]:
    """Return the files that fit a pattern, which may begin at the root."""
    parts = Path(pattern).parts
    fixed = next(n for n, part in enumerate(parts) if _is_pattern(part))
    return [path for path in Path(*parts[:fixed]).glob("/".join(parts[fixed:])) if path.is_file()]


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name[:1] != "." and path.suffix.lower() in (*_ENDINGS, *_PACKED)
