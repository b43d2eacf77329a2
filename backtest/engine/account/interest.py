"""
Interest on cash, short proceeds and loans, as IB calculates it: pure functions.

Simplifications: fills settle at once, and the tiers of 2024 apply on all dates.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from backtest import _arguments
from backtest.engine.account.fees import Dated
from backtest.errors import UsageError, quoted, reason
from backtest.market.series import Series

IB = "ib"  # the word for the table below
DAYS_A_YEAR = 360  # of US dollars

# The benchmark in percent per year: the effective federal funds rate, the mean of each month from January on. Board of
# Governors of the Federal Reserve System, series FEDFUNDS of FRED.
_FEDERAL_FUNDS = """
    2000 5.45 5.73 5.85 6.02 6.27 6.53 6.54 6.50 6.52 6.51 6.51 6.40
    2001 5.98 5.49 5.31 4.80 4.21 3.97 3.77 3.65 3.07 2.49 2.09 1.82
    2002 1.73 1.74 1.73 1.75 1.75 1.75 1.73 1.74 1.75 1.75 1.34 1.24
    2003 1.24 1.26 1.25 1.26 1.26 1.22 1.01 1.03 1.01 1.01 1.00 0.98
    2004 1.00 1.01 1.00 1.00 1.00 1.03 1.26 1.43 1.61 1.76 1.93 2.16
    2005 2.28 2.50 2.63 2.79 3.00 3.04 3.26 3.50 3.62 3.78 4.00 4.16
    2006 4.29 4.49 4.59 4.79 4.94 4.99 5.24 5.25 5.25 5.25 5.25 5.24
    2007 5.25 5.26 5.26 5.25 5.25 5.25 5.26 5.02 4.94 4.76 4.49 4.24
    2008 3.94 2.98 2.61 2.28 1.98 2.00 2.01 2.00 1.81 0.97 0.39 0.16
    2009 0.15 0.22 0.18 0.15 0.18 0.21 0.16 0.16 0.15 0.12 0.12 0.12
    2010 0.11 0.13 0.16 0.20 0.20 0.18 0.18 0.19 0.19 0.19 0.19 0.18
    2011 0.17 0.16 0.14 0.10 0.09 0.09 0.07 0.10 0.08 0.07 0.08 0.07
    2012 0.08 0.10 0.13 0.14 0.16 0.16 0.16 0.13 0.14 0.16 0.16 0.16
    2013 0.14 0.15 0.14 0.15 0.11 0.09 0.09 0.08 0.08 0.09 0.08 0.09
    2014 0.07 0.07 0.08 0.09 0.09 0.10 0.09 0.09 0.09 0.09 0.09 0.12
    2015 0.11 0.11 0.11 0.12 0.12 0.13 0.13 0.14 0.14 0.12 0.12 0.24
    2016 0.34 0.38 0.36 0.37 0.37 0.38 0.39 0.40 0.40 0.40 0.41 0.54
    2017 0.65 0.66 0.79 0.90 0.91 1.04 1.15 1.16 1.15 1.15 1.16 1.30
    2018 1.41 1.42 1.51 1.69 1.70 1.82 1.91 1.91 1.95 2.19 2.20 2.27
    2019 2.40 2.40 2.41 2.42 2.39 2.38 2.40 2.13 2.04 1.83 1.55 1.55
    2020 1.55 1.58 0.65 0.05 0.05 0.08 0.09 0.10 0.09 0.09 0.09 0.09
    2021 0.09 0.08 0.07 0.07 0.06 0.08 0.10 0.09 0.08 0.08 0.08 0.08
    2022 0.08 0.08 0.20 0.33 0.77 1.21 1.68 2.33 2.56 3.08 3.78 4.10
    2023 4.33 4.57 4.65 4.83 5.06 5.08 5.12 5.33 5.33 5.33 5.33 5.33
    2024 5.33 5.33 5.33 5.33 5.33 5.33 5.33 5.33 5.13 4.83 4.64 4.48
    2025 4.33 4.33 4.33 4.33 4.33 4.33 4.33 4.33 4.22 4.09 3.88 3.72
    2026 3.64 3.64
"""

Tiers = Sequence[tuple[float, float | None]]  # end of the tier, spread over the benchmark; None: no interest

# USD, IBKR Pro. Credit: credit rates as of 2024-04-24, of accounts worth 100,000 or more; smaller ones get their share.
# Short sale proceeds: "Short Sale Cost". Debit: "Interest Charged Examples".
CREDIT: Tiers = ((10_000, None), (math.inf, -0.005))
PROCEEDS: Tiers = ((100_000, None), (1_000_000, -0.0125), (3_000_000, -0.005), (math.inf, -0.0025))
DEBIT: Tiers = ((100_000, 0.015), (1_000_000, 0.01), (50_000_000, 0.0075), (200_000_000, 0.005), (math.inf, 0.015))
_WHOLE_RATE = 100_000  # net asset value from which on the full credit rate applies
_COLLATERAL = 1.02  # of the close of a share sold short, rounded up to whole dollars
_BOOKED_ON = 3  # business day of the month after


@dataclass(frozen=True, slots=True)
class BenchmarkRates:
    """The benchmark rates of interest, by date, as annual fractions."""

    name: str
    dates: tuple[str, ...] = field(repr=False)
    rates: tuple[float, ...] = field(repr=False)

    @property
    def digest(self) -> str:
        """The SHA-256 of dates and rates."""
        return hashlib.sha256(repr((self.dates, self.rates)).encode()).hexdigest()

    def on(self, days: Sequence[date]) -> np.ndarray:
        """Return the rate of each day; before the first date the first, after the last the last."""
        dated = _dated(self)
        return np.array([dated.on(day.toordinal()) for day in days])


@lru_cache(maxsize=4)  # each month of a run asks
def _dated(rates: BenchmarkRates) -> Dated:
    return Dated.of(zip(rates.dates, rates.rates, strict=True))


def benchmark_rates(given: Any) -> BenchmarkRates | None:
    """
    Return the benchmark rates for "ib" (the federal funds rate), or from a file of date,percent; None for "".

    Raises:
        UsageError: the file cannot be read.
    """
    if isinstance(given, BenchmarkRates) or not given:
        return given or None
    if given == IB:
        rows = [(int(year), n, float(rate)) for year, *months in map(str.split, _FEDERAL_FUNDS.strip().split("\n"))
                for n, rate in enumerate(months, 1)]  # fmt: skip
        return BenchmarkRates(IB, *zip(*((f"{year}-{n:02}-01", rate / 100) for year, n, rate in rows), strict=True))
    return _read(Path(given))


def check_interest(given: Any, cash_rate: float, series: Sequence[Series] = (), currency: str = "") -> None:
    """
    Refuse invalid settings of interest.

    Args:
        currency: the account's currency, "" for that of the first series.

    Raises:
        UsageError: there is no such word or file, interest is set in two ways, or IB's tiers for a currency are not
            known.
    """
    if not given:
        return
    if cash_rate:
        raise UsageError(f"interest {quoted(given)} and cash_rate {cash_rate} both pay interest on cash; leave out one")
    if not isinstance(given, BenchmarkRates | str):
        raise UsageError(
            f"interest is {given!r:.80}; write ib, or the path of a CSV file with the columns date,percent"
        )
    benchmark_rates(given)
    if currency not in ("", "USD"):
        raise UsageError(
            f"IB's interest rates are only known for accounts in USD, not in {currency}; set a rate: --cash-rate 0.02"
        )
    for one in series:
        if one.instrument.currency != "USD" or one.instrument.kind != "STK":
            raise UsageError(
                f"IB's interest rates are only known for stocks in USD, and {one.short} is "
                f"{one.instrument.kind} in {one.instrument.currency}; set a rate: --cash-rate 0.02"
            )


def rates_outside(rates: BenchmarkRates, first: date, last: date) -> dict[str, str]:
    """
    Return which days of a run use the first or last rate of IB's table, because they are outside it.

    A rate in a file is valid until the next one.

    Args:
        first, last: the first and the last session of the run.

    Raises:
        UsageError: a file has no rate for the first session.
    """
    begins, ends = rates.dates[0], rates.dates[-1]
    if rates.name != IB:
        if first.isoformat() < begins:
            raise UsageError(
                f"the rates of {rates.name} begin on {begins}, and the run on {first}; add the rate of that day, or "
                "begin the run later"
            )
        return {}
    before = {"before": begins} if first.isoformat() < begins else {}
    return before | ({"after": ends[:7]} if last.isoformat()[:7] > ends[:7] else {})


def of_a_day(cash: float, collateral: float, worth: float, benchmark: float) -> float:
    """
    Return the interest that an account earns in a day, negative if it pays.

    Args:
        cash: the cash, including the proceeds of short sales.
        collateral: the collateral of short shares: see `collateral_of`.
        worth: the net asset value.
        benchmark: the annual benchmark rate.
    """
    excess = cash - collateral
    share = min(max(worth / _WHOLE_RATE, 0.0), 1.0)
    earned = share * (by_tiers(max(excess, 0.0), CREDIT, benchmark) + by_tiers(collateral, PROCEEDS, benchmark))
    return earned - by_tiers(max(-excess, 0.0), DEBIT, max(benchmark, 0.0))


def by_tiers(balance: float, tiers: Tiers, benchmark: float) -> float:
    """Return a day's interest on a balance: each part at the rate of its tier, and never below 0."""
    total, below = 0.0, 0.0
    for limit, spread in tiers:
        part = min(balance, limit) - below
        if part <= 0:
            break
        total += 0.0 if spread is None else part * max(benchmark + spread, 0.0)
        below = limit
    return total / DAYS_A_YEAR


def collateral_of(size: float, close: float) -> float:
    """Return the collateral per short share: 102 % of the close, rounded up to whole dollars."""
    return -size * math.ceil(round(close * _COLLATERAL, 9)) if size < 0 else 0.0


def booking_days(first: date, last: date) -> list[tuple[date, date]]:
    """Return the first day of each month between two dates, with the day on which its interest is booked."""
    found, month = [], first.replace(day=1)
    while month <= last:
        following = (month + timedelta(days=31)).replace(day=1)
        weekdays = [day for n in range(7) if (day := following + timedelta(days=n)).weekday() < 5]
        found.append((month, weekdays[_BOOKED_ON - 1]))
        month = following
    return found


def _read(path: Path) -> BenchmarkRates:
    try:
        lines = csv.DictReader(_arguments.text_of(path).splitlines())
        rows = sorted((date.fromisoformat(row["date"]).isoformat(), float(row["percent"]) / 100) for row in lines)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        why = f"it has no column {error.args[0]}" if isinstance(error, KeyError) else reason(error)
        why = why.replace("could not convert string to float: ", "not a number: ")
        raise UsageError(
            f"cannot read benchmark rates from {quoted(path)} ({why}); write ib, or name a CSV file with the "
            "columns date,percent and lines such as 2003-01-01,1.24"
        ) from error
    if twice := [day for (day, _), (following, _) in itertools.pairwise(rows) if day == following]:
        raise UsageError(f"{path} has two rates for {twice[0]}; write one per date")
    if not rows or not all(math.isfinite(rate) for _, rate in rows):
        raise UsageError(
            f"{path} has no rates, or one that is not a number; begin with the line date,percent, and write lines such "
            "as 2003-01-01,1.24"
        )
    return BenchmarkRates(path.name if path.is_absolute() else path.as_posix(), *zip(*rows, strict=True))
