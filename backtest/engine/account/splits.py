"""Shares as traded: how many of today's shares one share of a date became, from a file or the store's record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from backtest.engine.account.fees import Dated
from backtest.errors import NoBars, UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.spec import split_rules
from backtest.store.manifest import RESCALED
from backtest.store.reader import Reader, manifest_or_empty

_SPLIT = ("STK", "FUND", "CFD")  # kinds whose past is rescaled by a split
_ADJUSTED = ("TRADES", "ADJUSTED_LAST", "MIDPOINT", "BID", "ASK", "BID_ASK")  # prices that IB rescales
_ALWAYS = "0001-01-01"


class Splits(NamedTuple):
    """The splits of a series: dates, ratios, and their origin, "--splits" or "the store"."""

    rows: tuple[tuple[str, float], ...]
    whence: str

    @property
    def factors(self) -> Dated:
        """How many of today's shares one share of a day has become; the date of a split counts as after it."""
        ordered = sorted(self.rows)
        factors = np.cumprod([1.0, *(ratio for _, ratio in reversed(ordered))])[::-1].tolist()
        return Dated.of(zip([_ALWAYS, *(day for day, _ in ordered)], factors, strict=True))


def counts_adjusted_shares(series: Series) -> bool:
    """Return whether the prices of a series are rescaled at splits, so that its shares are those of today."""
    return series.instrument.kind in _SPLIT and series.prices in _ADJUSTED


def splits_of(series: Sequence[Series], asked: str, store: Reader) -> dict[Series, Splits]:
    """
    Return the splits of each series that has any: those the user gave, otherwise those that the store recorded.

    Raises:
        UsageError: splits are given for a series that is not in the run, or that has no shares.
    """
    rules = split_rules(asked)
    known = {one.short: one for one in series}
    if "" in rules and len(series) > 1:
        raise UsageError(
            f"splits are given without a series, but the run has {len(series)}; name it in a third column of the file, "
            f"such as 2000-06-21,2,{series[0].short}"
        )
    if unknown := sorted({*rules} - {*known} - {""}):
        raise UsageError(f"splits are given for {unknown[0]}, which is not in the run; it has {', '.join(known)}")
    found = {}
    for one in series:
        own = rules.get(one.short, rules.get("", ()))
        if own and not counts_adjusted_shares(one):
            raise UsageError(
                f"splits are given for {one.short}, whose prices are not adjusted for splits; leave them out"
            )
        rows, whence = (own, "--splits") if own else (recorded_splits(store, one), "the store")
        if rows:
            found[one] = Splits(tuple(rows), whence)
    return found


def recorded_splits(store: Reader, series: Series) -> list[tuple[str, float]]:
    """
    Return the splits by which the store rescaled a series: the first session of the new scale, and the ratio.

    A download that finds another scale reads the series again, as a revision, and archives the old bars. The split lies
    between the last of these and the revision; it is dated to the session after the last.
    """
    revisions = manifest_or_empty(store, series).revisions
    if not any(one.why.startswith(RESCALED) for one in revisions) or not counts_adjusted_shares(series):
        return []
    found = []
    for place, one in enumerate(revisions):
        if not one.why.startswith(RESCALED):
            continue
        later = revisions[place + 1].number if place + 1 < len(revisions) else None
        try:
            old, new = (store.read(series, revision=number) for number in (one.number, later))
        except NoBars:
            continue  # it was pruned meanwhile
        times, closes = (arrays.numbers(old[name]) for name in ("time", "close"))
        _, before, after = np.intersect1d(times, arrays.numbers(new["time"]), return_indices=True)
        ratios = closes[before] / arrays.numbers(new["close"])[after]
        ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
        if len(ratios):
            last = date(1970, 1, 1) + timedelta(days=int(times[-1] // 86_400_000_000))
            found.append(((last + timedelta(days=1)).isoformat(), _plain(float(np.median(ratios)))))
    return found


def _plain(ratio: float) -> float:
    """Return a ratio as that of a split: a whole number or its reciprocal, if rounded prices come that close."""
    for near in (float(round(ratio)), 1 / round(1 / ratio) if ratio < 1 else 0.0, round(ratio * 2) / 2):
        if near and abs(ratio / near - 1) < 0.005:
            return near
    return ratio
