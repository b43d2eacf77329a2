"""`align`: bring several series onto one clock by a named rule; and which indicators mix clocks."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from itertools import chain
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest._suggest import there_are
from backtest.errors import NoBars, UsageError
from backtest.market import arrays
from backtest.market.bars import extra_of
from backtest.market.series import Series

if TYPE_CHECKING:
    import pyarrow as pa

_Tables = dict[Series, "pa.Table"]
_Notes = dict[str, Any]
_NAMED = 10  # times listed in the error if series differ


def align(bars: _Tables, rule: str) -> tuple[_Tables, _Notes]:
    """
    Return the bars aligned by a rule of ALIGNMENTS, and what the rule changed, by the series' short names.

    Series with the same bar size are aligned with each other; with different sizes, the larger bar appears when it is
    complete.

    Raises:
        UsageError: there is no such rule.
        NoBars: the rule leaves no bars, or requires equal times and they differ.
    """
    if rule not in ALIGNMENTS:
        raise UsageError(f"unknown alignment {rule!r}; {there_are(rule, ALIGNMENTS)}")
    aligned, notes = dict(bars), _Notes()
    for size in dict.fromkeys(one.size for one in bars):
        alike = {one: table for one, table in bars.items() if one.size == size}
        if len(alike) > 1:
            found, said = ALIGNMENTS[rule](alike)
            aligned |= found
            notes |= said
    return aligned, notes


def _as_they_are(bars: _Tables) -> tuple[_Tables, _Notes]:
    return bars, {}


def _strict(bars: _Tables) -> tuple[_Tables, _Notes]:
    times = _times(bars)
    every = reduce(np.union1d, times.values())
    lacking = {one: np.setdiff1d(every, own) for one, own in times.items()}
    differ = reduce(np.union1d, lacking.values())
    if len(differ):
        named = "; ".join(_named(moment, lacking) for moment in differ[:_NAMED])
        raise NoBars(
            f"the series differ at {len(differ):,} times, the first: {named}. Download what is missing, or align by "
            "intersection or forward-fill"
        )
    return bars, {}


def _intersection(bars: _Tables) -> tuple[_Tables, _Notes]:
    import pyarrow as pa

    times = _times(bars)
    common = reduce(np.intersect1d, times.values())
    if not len(common):
        raise NoBars(f"{', '.join(one.short for one in bars)} have no time in common; name others, or a longer span")
    kept = {one: bars[one].filter(pa.array(np.isin(own, common))) for one, own in times.items()}
    dropped = {one.short: len(bars[one]) - len(kept[one]) for one in bars}
    return kept, {"dropped": {name: count for name, count in dropped.items() if count}}


def _forward_fill(bars: _Tables) -> tuple[_Tables, _Notes]:
    times = _times(bars)
    every = reduce(np.union1d, times.values())
    filled, notes = {}, {}
    for one, own in times.items():
        wanted = every[(every >= own[0]) & (every <= own[-1])]  # neither before its listing nor after its delisting
        filled[one] = _with_flat_bars(bars[one], own, wanted)
        if len(wanted) > len(own):
            lacking = np.setdiff1d(wanted, own)
            notes[one.short] = {"bars": len(lacking), "first": [_text(moment) for moment in lacking[:_NAMED]]}
    return filled, {"filled": notes}


ALIGNMENTS: dict[str, Callable[[_Tables], tuple[_Tables, _Notes]]] = {
    "as-is": _as_they_are,  # each series moves when it has a bar
    "strict": _strict,  # equal times, or an error that names the first that differ
    "intersection": _intersection,  # only times that all have
    "forward-fill": _forward_fill,  # a missing bar repeats the last close, with volume 0
}


def _with_flat_bars(table: pa.Table, own: np.ndarray, wanted: np.ndarray) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = np.searchsorted(own, wanted, side="right") - 1
    missing, taken = pa.array(own[rows] != wanted), table.take(pa.array(rows))
    values = {
        "time": pa.array(wanted).cast(pa.int64()).cast(table.schema.field("time").type),
        **{name: pc.if_else(missing, taken["close"], taken[name]) for name in ("open", "high", "low")},
        **{name: pc.if_else(missing, pa.scalar(0, taken[name].type), taken[name]) for name in ("volume", "trades")},
        **{
            name: pc.if_else(missing, pa.scalar(None, pa.float64()), taken[name])
            for name in ("average", *extra_of(table))  # no signal is meant at that time
        },
    }
    return pa.table({name: values.get(name, taken[name]) for name in table.column_names}, table.schema)


def _times(bars: _Tables) -> dict[Series, np.ndarray]:
    return {one: arrays.numbers(table["time"]) for one, table in bars.items()}


def _named(moment: int, lacking: dict[Series, np.ndarray]) -> str:
    names = [one.short for one, times in lacking.items() if moment in times]
    return f"{_text(moment)} (not in {', '.join(names)})"


def _text(moment: int) -> str:
    text = str(np.datetime64(int(moment), "us"))
    return text[:16].replace("T", " ").removesuffix(" 00:00")


# --- indicators over several clocks


def mixes_clocks(strategies: Sequence[Any], datas: list[Any]) -> bool:
    """
    Return whether an indicator reads feeds whose bars have different times.

    Backtrader's indicators over all bars at once pair the first bar of one feed with the first of the other, whatever
    their times: with such feeds they read the future, or raise an IndexError. Bar by bar they pair what is known.
    """
    if len(datas) < 2:
        return False
    clocks = {id(data): hashlib.blake2b(data.lines.datetime.array).digest() for data in datas}
    if len(set(clocks.values())) < 2:
        return False
    origins = {id(line): {clocks[id(data)]} for data in datas for line in (data, *data.lines.lines)}
    indicators = _indicators_of(strategies)
    # A strategy has lines too, and moves with each of its feeds.
    owners = {id(line): one for one in (*indicators, *strategies) for line in getattr(one.lines, "lines", ())}
    checked = set[int]()
    for one in indicators:  # the operands of an operation come after it
        if id(one) not in checked:
            seen = set[int]()
            if len(_clocks(one, origins, owners, seen)) > 1:
                return True
            checked |= seen  # whatever it reads has no more clocks than it has
    return False


def _indicators_of(strategies: Iterable[Any]) -> list[Any]:
    """Return all indicators, including those inside others."""
    return [one for strategy in strategies for one in _below(strategy)]


def hide_what_has_not_begun(strategies: Iterable[Any], datas: list[Any]) -> None:
    """
    Make feeds and indicators NaN before their first bar.

    The cursor of a line that has not begun is at -1, which in a preloaded line is the last value of all: the future. So
    NaN slots are appended, which Backtrader's cursor never reaches; as many as the longest look-back.
    """
    indicators = _indicators_of(strategies)
    longest = max(one._minperiod for one in [*indicators, *datas])
    for one in [*indicators, *datas]:
        one.extend(size=longest + 1)
    for line in chain.from_iterable(_own_lines(one) for one in indicators):
        line.array = _ExtendedArray("d", line.array)
        line.array.extension = longest + 1


class _ExtendedArray(array):  # type: ignore[type-arg]
    """
    The values of an extended line: writes go to the same place as in a line without the extra slots.

    An indicator that writes behind the current bar, such as Ichimoku's lagging span, first writes before its first bar,
    which is the end of the array; one that writes ahead gets an IndexError. If these writes went into an extra slot,
    the cursor would read them later.
    """

    extension = 0

    def __setitem__(self, at: Any, value: Any) -> None:
        if isinstance(at, int):
            if at >= len(self) - self.extension:
                raise IndexError("array assignment index out of range")
            at -= self.extension if at < 0 else 0
        super().__setitem__(at, value)


def _own_lines(thing: Any) -> list[Any]:
    lines: list[Any] = [thing] if isinstance(thing, bt.linebuffer.LineBuffer) else thing.lines.lines
    return lines


@contextmanager
def without_hidden_bars(broker: Any, datas: list[Any]) -> Iterator[None]:
    """
    Let a broker work with feeds that have not begun, whose hidden bars are NaN.

    Backtrader multiplies the size of each position that was ever read by the close; here a flat position is worth 0. An
    order for such a feed has neither a price nor a time, and is refused.
    """
    if not isinstance(broker, bt.brokers.BackBroker):
        yield
        return
    broker._get_value = partial(_value, broker._get_value, broker.positions, list(datas))
    broker.buy, broker.sell = (partial(_order, give) for give in (broker.buy, broker.sell))
    try:
        yield
    finally:
        del broker._get_value, broker.buy, broker.sell


def _order(give: Callable[..., Any], owner: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    if not len(data):
        raise ValueError(f"an order for {data._name}, which has no bar yet; check len(data) before")
    return give(owner, data, *args, **kwargs)


def _value(compute: Callable[..., Any], positions: Any, waiting: list[Any], *args: Any, **kwargs: Any) -> Any:
    waiting[:] = [data for data in waiting if not len(data)]
    hidden = [data.lines.close.array for data in waiting if data not in positions or not positions[data].size]
    for closes in hidden:
        closes[-1] = closes[0]  # any price suffices
    try:
        return compute(*args, **kwargs)
    finally:
        for closes in hidden:
            closes[-1] = math.nan


def _below(thing: Any) -> Iterator[Any]:
    for one in thing._lineiterators[bt.LineIterator.IndType]:
        yield one
        if hasattr(one, "_lineiterators"):
            yield from _below(one)


def _clocks(thing: Any, origins: dict[int, set[bytes]], owners: dict[int, Any], seen: set[int]) -> set[bytes]:
    if id(thing) in origins:
        return origins[id(thing)]
    if id(thing) in seen:
        return set()
    seen.add(id(thing))
    # No line is tested for truth: that would read its value.
    below = [*_inputs(thing), *([owners[id(thing)]] if id(thing) in owners else [])]
    return set().union(*(_clocks(one, origins, owners, seen) for one in below))


def _inputs(thing: Any) -> Iterator[Any]:
    # Operations keep what they read as a, b, args, cond and the like; indicators as datas; stubs as lines. Whatever is
    # a line is followed, but for the ways up, to owners and to what is bound to a line.
    for name, value in vars(thing).items():
        if name in ("_owner", "owner", "_parent", "bindings", "_lineiterators"):
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bt.lineroot.LineRoot):
                yield one
            elif isinstance(one, bt.lineseries.Lines):
                yield from one.lines
