"""Fees that regulators charge by date."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple


class Dated(NamedTuple):
    """A rate that changes: its value from each date on; before the first date, the first value."""

    dates: tuple[int, ...]
    rates: tuple[Any, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Any]]) -> Dated:
        """Create one from rows such as ("2024-05-22", 27.8), in order of time."""
        dates, rates = zip(*rows, strict=True)
        return cls(tuple(date.fromisoformat(text).toordinal() for text in dates), rates)

    def on(self, day: int) -> Any:
        """Return the rate of a day, counted as `date.toordinal` does."""
        return self.rates[max(bisect_right(self.dates, day) - 1, 0)]


# Both tables end in 2026, as `Costs.dated` says; later days take the last row, and days before a table its first. The
# last row of each is from a secondary source: of the SEC's order of 2026-02-27 (Release 34-104909) and of FINRA's
# schedule of 2026 the pages with the numbers could not be read.
# USD per million of sales, from the SEC's Fee Rate Advisories under Section 31 of the Exchange Act, by effective date.
SEC_FEE = Dated.of([
    ("2000-01-01", 33.3), ("2001-12-28", 15.0), ("2002-04-01", 30.1), ("2003-03-22", 25.2), ("2003-04-01", 46.8),
    ("2004-02-22", 39.0), ("2004-04-01", 23.4), ("2005-01-07", 32.9), ("2005-04-01", 41.8), ("2005-12-22", 30.7),
    ("2007-03-17", 15.3), ("2008-01-25", 11.0), ("2008-04-01", 5.6), ("2009-04-10", 25.7), ("2010-01-15", 12.7),
    ("2010-04-01", 16.9), ("2011-01-21", 19.2), ("2012-02-21", 18.0), ("2012-04-01", 22.4), ("2013-05-25", 17.4),
    ("2014-03-18", 22.1), ("2015-02-14", 18.4), ("2016-02-16", 21.8), ("2017-07-04", 23.1), ("2018-05-22", 13.0),
    ("2019-04-16", 20.7), ("2020-02-18", 22.1), ("2021-02-25", 5.1), ("2022-05-14", 22.9), ("2023-02-27", 8.0),
    ("2024-05-22", 27.8), ("2025-05-14", 0.0), ("2026-04-04", 20.6),
])  # fmt: skip

# USD per share sold and the maximum per trade, from FINRA's By-Laws, Schedule A, Section 1 (Trading Activity Fee); from
# 2012-03-01 by its Regulatory Notice 12-06.
TRADING_ACTIVITY_FEE = Dated.of([
    ("2004-01-01", (0.000075, 3.75)), ("2011-07-01", (0.00009, 4.50)), ("2012-03-01", (0.000095, 4.75)),
    ("2012-07-01", (0.000119, 5.95)), ("2022-01-01", (0.00013, 6.49)), ("2023-01-01", (0.000145, 7.27)),
    ("2024-01-01", (0.000166, 8.30)), ("2026-01-01", (0.000195, 9.79)),
])  # fmt: skip


def regulatory_fees(size: float, price: float, day: int) -> float:
    """Return the fees of the SEC and FINRA for a sale on a day; 0 for a purchase."""
    if size >= 0:
        return 0.0
    a_share, most = TRADING_ACTIVITY_FEE.on(day)
    fees: float = -size * price * SEC_FEE.on(day) / 1_000_000 + min(-size * a_share, most)
    return fees
