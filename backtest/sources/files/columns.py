"""The meaning of each column of a table: by its name, its content, or the user's setting."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backtest._suggest import there_are
from backtest.errors import UsageError
from backtest.market.bars import COLUMNS, PRICES
from backtest.market.series import Series
from backtest.sources.files.headings import Meaning, meanings_of, names_end
from backtest.sources.files.numbers import decimal_mark, floats_of, is_nothing, looks_like_number
from backtest.sources.files.table import Table
from backtest.sources.files.times import is_text, kind_of

_PANDAS_INDEX = "__index_level_0__"  # what pandas calls an index without a name in Parquet
_SKIPPED = ("", "-", "_", "skip", "none", "x")  # in --columns: a column that is unknown
_SIDES = {"BID": "bid", "ASK": "ask", "MIDPOINT": "mid"}
_MOST = 0.95  # of the rows that keep to an order of open, high, low and close, if it is the right one
_TIME_KINDS = ("zoned", "epoch", "moment", "date", "serial")  # surest first


@dataclass(frozen=True, slots=True)
class Roles:
    """
    The positions of the columns for each of ours: two for separate date and time columns, none for a missing one.

    `factor`: the positions of an adjusted and a raw close, whose ratio adjusts raw prices; `symbol`: the column with
    the symbols of rows; `how`: the notes to show.
    """

    places: dict[str, list[int]]
    extra: dict[str, int] = field(default_factory=dict)
    factor: tuple[int, int] | None = None
    symbol: int | None = None
    how: tuple[str, ...] = ()


def roles_of(table: Table, series: Series, given: Sequence[str], extra: Iterable[str], adjusted: bool = False) -> Roles:
    """
    Return the role of each column.

    Args:
        given: our names (or others, or - to skip a column), in the order of the columns; empty to detect them.
        extra: names of columns to keep beside those of every bar.
        adjusted: whether to use columns that the vendor adjusted for splits and dividends.

    Raises:
        UsageError: a column is missing or ambiguous; the text says how to name it.
    """
    names = _given_names(table, given) if given else table.names
    extras = _extra_places(names, extra, table.what)
    if given or not table.headed or not _is_known(names, series):
        guessed = _by_names(table, names, series, adjusted) if given else _by_content(table)
        return Roles(guessed.places, extras, guessed.factor, guessed.symbol, guessed.how)
    found = _by_names(table, names, series, adjusted)
    return Roles(found.places, extras, found.factor, found.symbol, found.how)


def with_dates(table: Table) -> Table:
    """Return a table with one column of dates instead of separate years, months, days, hours and minutes."""
    import pyarrow as pa

    names = [name.lower() for name in table.names]
    dated = [names.index(name) for name in ("year", "month", "day") if name in names]
    if len(dated) < 3 or not all(_is_numeric(table.columns[place]) for place in dated):
        return table
    clock = [names.index(name) for name in ("hour", "minute", "second") if name in names]
    parts = [
        [str(value).strip().removesuffix(".0") for value in table.columns[n].to_pylist()] for n in (*dated, *clock)
    ]
    dates = ["-".join((row[0], *(f"{one:0>2}" for one in row[1:3]))) for row in zip(*parts, strict=True)]
    if len(clock) > 1:
        times = [":".join(f"{one:0>2}" for one in row[3:]) for row in zip(*parts, strict=True)]
        dates = [f"{day} {time}" for day, time in zip(dates, times, strict=True)]
    kept = [n for n in range(len(names)) if n not in (*dated, *clock)]
    return replace(
        table,
        names=["date", *(table.names[n] for n in kept)],
        columns=[pa.chunked_array([pa.array(dates, pa.string())]), *(table.columns[n] for n in kept)],
        symbols=["", *(table.symbols[n] for n in kept)] if table.symbols else [],
    )


def symbol_column(table: Table, given: Sequence[str] = ()) -> int | None:
    """Return the column with the symbol of each row; None if there is none."""
    names = _given_names(table, given) if given else table.names
    found: list[tuple[int, int]] = []
    for place, name in enumerate(names):
        for meaning in meanings_of(name):
            if meaning.ours == "symbol" and place < len(table.columns) and _is_words(table.columns[place]):
                found.append((meaning.rank, place))
    return min(found)[1] if found else None


def numeric_extras(table: Table, series: Series, given: Sequence[str] = (), adjusted: bool = False) -> list[str]:
    """Return the names of the numeric columns that are not part of a bar, in order."""
    roles = roles_of(table, series, given, (), adjusted)
    used = {place for places in roles.places.values() for place in places} | {roles.symbol}
    return [
        name
        for place, name in enumerate(given or table.names)
        if place not in used and name.lower() not in _SKIPPED and _is_numeric(table.columns[place])
    ]


def mapping_of(table: Table, roles: Roles) -> dict[str, str | None]:
    """Return the role of every column of the table, None if it is not used."""
    ours: dict[int, list[str]] = {}
    places = {**roles.places, **{name: [place] for name, place in roles.extra.items()}}
    if roles.symbol is not None:
        places["symbol"] = [roles.symbol]
    for name, found in places.items():
        for place in found:
            ours.setdefault(place, []).append(name)
    if roles.factor:
        ours.setdefault(roles.factor[0], []).append("the factor of all prices")
    named = [name if table.headed else f"column {place + 1}" for place, name in enumerate(table.names)]
    return {name: ", ".join(ours[place]) if place in ours else None for place, name in enumerate(named)}


# --- by names


def _given_names(table: Table, given: Sequence[str]) -> list[str]:
    timed = any(meaning.ours == "time" for word in given for meaning in meanings_of(word))
    if len(given) + 1 == len(table.columns) and not timed and kind_of(table.columns[0]) in _TIME_KINDS:
        given = ["time", *given]  # an index of times
    if len(given) != len(table.columns):
        raise UsageError(
            f"--columns names {len(given)} columns and {table.what} has {len(table.columns)}; name each, "
            "such as time,open,high,low,close,volume, or write - in place of one to skip it"
        )
    words = [word.strip() for word in given]
    if wrong := [word for word in words if word.lower() not in _SKIPPED and not meanings_of(word) and not word]:
        raise UsageError(f"--columns {wrong[0]!r} is unknown; {there_are(wrong[0], COLUMNS)}")
    return ["" if word.lower() in _SKIPPED else word for word in words]


def _is_known(names: Sequence[str], series: Series) -> bool:
    """Return whether at least two names are those of prices; otherwise the header uses unknown terms."""
    known = {meaning.ours for name in names for meaning in meanings_of(name, series) if meaning.ours in PRICES}
    return len(known) > 1 or len(names) <= len(PRICES)


def _by_names(table: Table, names: Sequence[str], series: Series, adjusted: bool) -> Roles:
    candidates: dict[str, list[tuple[int, Meaning]]] = {ours: [] for ours in (*COLUMNS, "symbol")}
    for place, name in enumerate(names):
        for meaning in meanings_of(name, series):
            candidates[meaning.ours].append((place, meaning))
        if name == _PANDAS_INDEX and kind_of(table.columns[place]):
            candidates["time"].append((place, Meaning("time")))
    problems: list[str] = []
    places: dict[str, list[int]] = {}
    factor: tuple[int, int] | None = None
    how: list[str] = []
    for ours in COLUMNS[1:]:
        some = candidates[ours]
        own = [pair for pair in some if pair[1].adjusted == (adjusted and ours in (*PRICES, "volume"))]
        if adjusted and not own and ours != "close":
            own = [pair for pair in some if not pair[1].adjusted]
        try:
            places[ours] = _best(ours, own, table, names, series)
        except UsageError as error:
            problems.append(str(error))
            places[ours] = [own[0][0]]
    missing = [ours for ours in PRICES if not places[ours]]
    theirs = [names[place] for ours in missing for place, meaning in candidates[ours] if meaning.adjusted]
    if adjusted and not missing:
        raw = [ours for ours in PRICES[:3] if not any(one[1].adjusted for one in candidates[ours])]
        closes = [place for place, meaning in candidates["close"] if not meaning.adjusted]
        if raw and not closes:
            problems.append(f"{', '.join(raw)} are not adjusted, and there is no raw close to adjust them by")
        elif raw:
            factor = (places["close"][0], closes[0])
            how.append(f"open, high and low adjusted by {names[places['close'][0]]!r} over {names[closes[0]]!r}")
    if adjusted and "close" in missing and not theirs:
        shown = ", ".join(map(repr, names))
        raise UsageError(
            f"{table.what} has no adjusted close among its columns {shown}; leave out --adjusted, or use a file with "
            "one, such as 'Adj Close'"
        )
    places["time"] = _time_places(candidates["time"], table, names, series, problems)
    if not places["time"]:
        missing.insert(0, "time")
    if missing or problems:
        raise _unclear(table, names, missing, problems, theirs)
    places = {ours: places[ours] for ours in COLUMNS}
    symbol = symbol_column(table)
    return Roles(places, factor=factor, symbol=symbol, how=tuple(how))


def _unclear(
    table: Table, names: Sequence[str], missing: list[str], problems: list[str], adjusted: list[str]
) -> UsageError:
    shown = ", ".join(repr(name) for name in names) or "none"
    what = [*([f"no column for {', '.join(missing)}"] if missing else []), *problems]
    cure = "rename its columns, or name them with --columns time,open,high,low,close,volume (- skips one)"
    if adjusted:
        cure = f"to take {', '.join(map(repr, adjusted))}, which the vendor has adjusted: --adjusted"
    elif missing == ["open", "high", "low"]:
        cure = "bars need open, high, low and close; use a file that has them, or copy the close into them"
    return UsageError(f"{table.what} has the columns {shown}: {'; '.join(what)}; {cure}")


def _best(
    ours: str, candidates: list[tuple[int, Meaning]], table: Table, names: Sequence[str], series: Series
) -> list[int]:
    """Return the column with the most certain name; of two equally certain ones that differ, the one with numbers."""
    if not candidates:
        return []
    if sides := {meaning.side for _, meaning in candidates} - {""}:
        plain = [pair for pair in candidates if not pair[1].side]
        wanted = _SIDES.get(series.prices, "")
        if not plain and wanted not in sides:
            raise UsageError(
                f"{ours} is given for {' and '.join(sorted(sides))}; say which in the series, such as "
                f"{series.instrument}/{series.size}/{sorted(sides)[0].upper()}"
            )
        candidates = plain or [pair for pair in candidates if pair[1].side == wanted]
    surest = min(meaning.rank for _, meaning in candidates)
    ranked = [place for place, meaning in candidates if meaning.rank == surest]
    if ours == "volume":
        filled = [place for place in ranked if _has_numbers(table.columns[place])]
        others = [place for place, meaning in candidates if place not in ranked]
        if not filled and (instead := [place for place in others if _has_numbers(table.columns[place])]):
            return instead[:1]
        ranked = filled if len(filled) == 1 else ranked
    different = [place for n, place in enumerate(ranked) if not _same(table, place, ranked[:n])]
    if len(different) > 1:
        raise UsageError(f"{ours} may be {' or '.join(repr(names[place]) for place in different)}")
    return ranked[:1]


def _same(table: Table, place: int, others: Iterable[int]) -> bool:
    return any(table.columns[place].equals(table.columns[other]) for other in others)


def _has_numbers(column: Any) -> bool:
    """Return whether a column has a number other than 0 among its first."""
    values = column.slice(0, 1000).to_pylist()
    return any(
        value is not None and str(value).strip(" 0.") not in ("",) and not is_nothing(str(value)) for value in values
    )


def _time_places(
    candidates: list[tuple[int, Meaning]], table: Table, names: Sequence[str], series: Series, problems: list[str]
) -> list[int]:
    """Return the column of times, or the two columns of dates and times of day."""
    kinds = {place: kind_of(column) for place, column in enumerate(table.columns)}
    for place, _ in candidates:
        if _is_clock(table.columns[place], names[place]):
            kinds[place] = "clock"
    found = [(place, meaning) for place, meaning in candidates if kinds[place] or len(table.columns[place]) == 0]
    if not found:  # by content: the one column of times
        loose = [place for place, kind in kinds.items() if kind in _TIME_KINDS[:4]] if not candidates else []
        named = [place for place, _ in candidates]
        return loose[:1] if len(loose) == 1 and not names[loose[0]] else named[:1] if len(named) == 1 else []
    if not len(table.columns[found[0][0]]):
        return [found[0][0]]
    clocks = [place for place, _ in found if kinds[place] == "clock"]
    rest = [pair for pair in found if pair[0] not in clocks]
    dates = [pair for pair in rest if kinds[pair[0]] == "date"]
    if clocks and dates:
        return [dates[0][0], clocks[0]]
    rest = rest or found
    surest = min(meaning.rank for _, meaning in rest)
    ranked = [place for place, meaning in rest if meaning.rank == surest]
    if len(ranked) > 1:
        order = ("date", "zoned", "epoch", "moment", "serial") if series.size.daily else _TIME_KINDS
        near = [place for place in ranked if _same_days(table, ranked[0], place)]
        if len(near) == len(ranked):
            chosen = min(ranked, key=lambda place: order.index(kinds[place]) if kinds[place] in order else len(order))
            twins = [place for place in ranked if kinds[place] == kinds[chosen]]
            if all(_same(table, place, [chosen]) for place in twins) or kinds[chosen] in ("epoch", "zoned", "date"):
                return [chosen]
        problems.append(f"time may be {' or '.join(repr(names[place]) for place in ranked)}")
    return ranked[:1]


def _is_clock(column: Any, name: str) -> bool:
    """Return whether a column named as a time of day has times without separators: 930, 093000."""
    if not re.search(r"time|zeit|hora|heure|ora|czas|tijd|hour", name, re.IGNORECASE) or not len(column):
        return False
    values = [str(value).strip().removesuffix(".0") for value in column.slice(0, 100).to_pylist() if value is not None]
    return all(re.fullmatch(r"\d{1,6}", text) and int(f"{text:0>4}"[:2] if len(text) < 5 else f"{text:0>6}"[:2]) < 25
               for text in values)  # fmt: skip


def _same_days(table: Table, one: int, other: int) -> bool:
    """Return whether two columns of times agree in the first rows, up to a difference of time zones."""
    from datetime import UTC, datetime, time

    from backtest.errors import BacktestError
    from backtest.sources.files.times import moments_of

    days = []
    for place in (one, other):
        try:
            moments = moments_of([table.columns[place].slice(0, 20)], table.what, table.where).moments
        except BacktestError:
            return False
        as_times = [moment if isinstance(moment, datetime) else datetime.combine(moment, time()) for moment in moments]
        days.append([moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in as_times])
    kinds = {kind_of(table.columns[place]) for place in (one, other)}
    pairs = list(zip(*days, strict=True))
    if kinds & {"zoned", "epoch"} and len(kinds) > 1:  # the same moment has another date in another zone
        return all(abs((first - second).total_seconds()) <= 86_400 for first, second in pairs)
    if len(kinds) > 1:
        return all(first.date() == second.date() for first, second in pairs)
    return all(first == second for first, second in pairs)


def is_own_symbol(symbol: str, series: Series) -> bool:
    """Return whether a vendor's symbol is the series' own: AAPL, AAPL.US, NASDAQ:AAPL, BTC/USD, EURUSD."""
    ours = re.sub(r"[^A-Z0-9]", "", series.instrument.symbol.upper())
    words = [word for word in re.split(r"[^A-Z0-9]+", symbol.upper()) if word]
    joined = "".join(words)
    pair = (ours, f"{ours}{series.instrument.currency}")
    return joined in pair or (bool(words) and (words[0] in pair or (len(words) > 1 and words[-1] in pair)))


def nearly_fits(symbol: str, series: Series) -> bool:
    """Return whether a vendor's symbol begins with the series' own and its currency, as BTCUSDT does."""
    ours = re.sub(r"[^A-Z0-9]", "", series.instrument.symbol.upper())
    return re.sub(r"[^A-Z0-9]", "", symbol.upper()).startswith(f"{ours}{series.instrument.currency}")


# --- by content


def _by_content(table: Table) -> Roles:
    """Return the columns by their content: a time, then four prices that obey the rules of a bar."""
    kinds = [kind_of(column) for column in table.columns]
    timed = [place for place, kind in enumerate(kinds) if kind in _TIME_KINDS]
    if not timed or not len(table.columns[0]):
        raise _nothing_named(table, "no column of times")
    first = timed[0]
    places: dict[str, list[int]] = {ours: [] for ours in COLUMNS}
    places["time"] = [first]
    after = first + 1
    if kinds[first] == "date" and after < len(kinds):
        named = table.names[after] if table.headed else "time"
        if kinds[after] == "clock" or (_is_clock(table.columns[after], named) and _is_not_price(table, after)):
            places["time"], after = [first, after], after + 1
    numbers = [
        place for place in range(len(kinds)) if place not in places["time"] and _is_numeric(table.columns[place])
    ]
    following = [place for place in numbers if place >= after]
    if len(following) < 4:
        raise _nothing_named(table, "no four columns of prices")
    values = {place: _first_values(table, place) for place in following[:8]}
    four = following[:4]
    if not _are_bars([values[place] for place in four]):
        shown = ", ".join(str(place + 1) for place in four)
        raise _nothing_named(table, f"columns {shown} are not open, high, low and close in this order")
    places.update({ours: [place] for ours, place in zip(PRICES, four, strict=True)})
    close, rest = values[four[3]], following[4:]
    prices = [place for place in rest[:2] if place in values and _is_price(values[place], close)]
    if len(rest) > 1 and prices == rest[:1]:
        rest = rest[1:]  # an adjusted close
    if rest and kinds[rest[0]] not in ("epoch", "zoned"):
        places["volume"] = rest[:1]
    texts = [place for place in range(first) if _is_words(table.columns[place])]
    how = "no header" if not table.headed else "a header with unknown column names"
    return Roles(places, symbol=texts[0] if texts else None, how=(f"{how}: columns by their content",))


def _nothing_named(table: Table, why: str) -> UsageError:
    shown = ", ".join(repr(name) for name in table.names) if table.headed else "no names"
    return UsageError(
        f"{table.what} has the columns {shown}: none has a known name, and {why}; name the "
        f"{len(table.columns)} columns with --columns, such as time,open,high,low,close,volume (- skips one)"
    )


def _first_values(table: Table, place: int) -> np.ndarray:
    """Return the numbers of the first rows of a column, NaN for none."""
    column = table.columns[place].slice(0, 2000)
    if not is_text(column):
        return np.asarray([np.nan if one is None else float(one) for one in column.to_pylist()])
    texts = column.to_pylist()
    mark = decimal_mark(enumerate(texts), "," if table.delimiter == ";" else ".", table.where, table.what)
    try:
        return np.asarray([np.nan if one is None else one for one in floats_of(texts, mark)], float)
    except ValueError:
        return np.asarray([], float)


def _are_bars(values: list[np.ndarray]) -> bool:
    """Return whether four columns satisfy the rules for open, high, low and close in nearly all rows."""
    if len({len(one) for one in values}) != 1 or not len(values[0]):
        return False
    opened, high, low, close = values
    known = ~np.isnan(np.stack(values)).any(axis=0)
    kept = (high >= np.maximum(opened, close)) & (low <= np.minimum(opened, close))
    return bool(known.any()) and bool(kept[known].mean() >= _MOST)


def _is_price(values: np.ndarray, close: np.ndarray) -> bool:
    """
    Return whether numbers are an adjusted close, not a volume: a fraction of the close that moves with it.

    The volume of a coin is fractional, too, and may be as large as its price; but its ratio to the price changes daily.
    """
    if len(values) != len(close) or not len(values):
        return False
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = values / close
        ratio = ratio[np.isfinite(ratio)]
        steps = np.abs(np.diff(ratio) / ratio[1:])
    like_prices = len(ratio) > 0 and bool(0.05 < np.median(ratio) < 1.5) and bool((values % 1 != 0).any())
    return like_prices and bool((steps < 0.01).mean() >= 0.8 if len(steps) else ratio[0] <= 1)


def _is_not_price(table: Table, place: int) -> bool:
    """Return whether the four columns after this one are prices, so that it is not one."""
    four = [_first_values(table, n) for n in range(place + 1, min(place + 5, len(table.columns)))]
    return len(four) == 4 and _are_bars(four)


def _is_numeric(column: Any) -> bool:
    import pyarrow as pa

    if not is_text(column):
        return bool(
            pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
        )
    texts = [text for text in column.slice(0, 200).to_pylist() if text and not is_nothing(text)]
    return bool(texts) and all(looks_like_number(text) and "%" not in text for text in texts)


def _is_words(column: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return True
    if not is_text(column):
        return False
    texts = [text.strip() for text in column.slice(0, 200).to_pylist() if text and text.strip()]
    return bool(texts) and all(re.search(r"[^\W\d_]", text) and not is_nothing(text) for text in texts)


# --- extra columns


def _extra_places(names: Sequence[str], extra: Iterable[str], what: str) -> dict[str, int]:
    """Return the place of the column of each extra name."""
    found: dict[str, int] = {}
    for name in extra:
        alike = _alike(name, names)
        if not alike:
            raise UsageError(f"{what} has no column {name!r} to keep; {there_are(name, map(_name_or_none, names))}")
        if len(alike) > 1:
            meant = " or ".join(repr(names[place]) for place in alike)
            raise UsageError(f"the extra column {name!r} may be {meant} in {what}; rename its columns")
        if twin := next((other for other, place in found.items() if place == alike[0]), ""):
            raise UsageError(f"{twin!r} and {name!r} are the same column of {what}, {names[alike[0]]!r}; name it once")
        found[name] = alike[0]
    return found


def _alike(name: str, names: Sequence[str]) -> list[int]:
    """Return the positions of the columns with a name; if none has exactly this name, of those with a similar one."""
    for same in (_as_read, lambda one: _as_read(one).casefold(), _plain):
        alike = [place for place, other in enumerate(names) if same(name) and same(other) == same(name)]
        if alike:
            return alike
    return []


def _as_read(name: str) -> str:
    return unicodedata.normalize("NFKC", name.strip())


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\d+\.\s*", "", name.lower()))


def _name_or_none(name: str) -> str:
    return name or "(no name)"


def ends_of_bars(table: Table, roles: Roles) -> bool:
    """Return whether the times are the ends of bars, by the name of their column."""
    names = [table.names[place] for place in roles.places["time"]]
    return all(name and names_end(name) and meanings_of(name)[0].ends for name in names)
