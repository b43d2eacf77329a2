"""A made-up market whose names join, leave and end; and what an equal-weight strategy makes of it, by pandas alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

import backtest
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.universe import Universe, universe_of
from backtest.store.reader import HeldReader

CASH, SHARE, FEE = 10_000_000.0, 0.8, 0.001  # of the account that is invested, and of a fill that is charged


class EqualWeights(bt.Strategy):
    """Holds every member in equal parts, set anew every few bars; what is no member any more is sold."""

    params = (("every", 21),)

    def prenext(self):
        self.next()  # some feeds begin years later

    def next(self):
        if len(self) % self.p.every:
            return
        found = backtest.members(self)
        each = SHARE * self.broker.getvalue() / max(len(found), 1)
        wanted = {id(feed): int(each / feed.close[0]) for feed in found}
        trading = [feed for feed in self.datas if len(feed) and feed.datetime[0] == self.datetime[0]]
        steps = [(feed, wanted.get(id(feed), 0) - self.getposition(feed).size) for feed in trading]
        for feed, step in sorted(steps, key=lambda one: one[1] > 0):  # sales first
            if step:
                self.buy(feed, size=step) if step > 0 else self.sell(feed, size=-step)


@dataclass(frozen=True)
class Market:
    """Opens and closes, dates by names, NaN where there is no bar; and who belongs when."""

    opens: pd.DataFrame
    closes: pd.DataFrame
    rows: list[tuple[str, str, str, float | None]]

    @property
    def universe(self) -> Universe:
        """Who belongs when."""
        found = universe_of(self.rows)
        assert isinstance(found, Universe)
        return found

    @property
    def series(self) -> list[str]:
        """The spellings of all names."""
        return [f"{name}/1day" for name in self.closes.columns]

    def frame(self, name: str) -> pd.DataFrame:
        """Return the bars of a name."""
        opened, closed = self.opens[name].dropna(), self.closes[name].dropna()
        both = pd.DataFrame({"open": opened, "close": closed})
        return both.assign(high=both.max(axis=1), low=both.min(axis=1), volume=1000.0)

    def store(self, names: Any = None) -> HeldReader:
        """Return a reader of the bars of some names, of all if none is given."""
        tables = {}
        for name in self.closes.columns if names is None else names:
            rows = self.frame(name)[["open", "high", "low", "close", "volume"]]
            times = rows.index.tz_localize("UTC").to_pydatetime()
            cells = zip(times, *(rows[column] for column in rows), strict=True)
            tables[Series.parse(f"{name}/1day")] = table_of([(*row, None, 1) for row in cells])
        return HeldReader("made up", tables)


def market(names: int, days: int, seed: int) -> Market:
    """Return a market: a third joins later, a third ends early (some for nothing), some leave the index and go on."""
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2005-01-03", periods=days)
    opens, closes, rows = {}, {}, []
    for n in range(names):
        name = f"N{n:03}"
        fails = random.random() < 0.35
        joins = 0 if random.random() < 0.6 else int(random.integers(1, days // 2))
        ends = int(random.integers(joins + days // 5, days - 1)) if fails else days
        drift = random.normal(-0.0006 if fails else 0.0004, 0.0002)
        close = 50 * np.exp(np.cumsum(random.normal(drift, 0.02, days)))
        opened = np.concatenate([[50.0], close[:-1]]) * np.exp(random.normal(0, 0.005, days))
        alive = (np.arange(days) >= joins) & (np.arange(days) < ends)
        opens[name], closes[name] = (np.where(alive, np.round(one, 2), np.nan) for one in (opened, close))
        rows += _stretches(name, dates, joins, ends, random)
    return Market(pd.DataFrame(opens, dates), pd.DataFrame(closes, dates), rows)


def _stretches(name: str, dates: Any, joins: int, ends: int, random: Any) -> list[tuple[str, str, str, float | None]]:
    lost = float(round(random.uniform(-1, 0), 2)) if ends < len(dates) and random.random() < 0.5 else None
    first, last = dates[joins].date().isoformat(), dates[ends - 1].date().isoformat() if ends < len(dates) else ""
    if random.random() < 0.3:  # leaves the index, and comes back
        out, back = sorted(random.choice(np.arange(joins + 5, ends - 5), 2, replace=False).tolist())
        left, again = (dates[place].date().isoformat() for place in (out, back + 1))
        return [(name, first, left, None), (name, again, last, lost)]
    return [(name, first, last, lost)]


def by_pandas(market: Market, every: int) -> pd.DataFrame:
    """Return equity, cash and shares after each day, as `EqualWeights` would have them."""
    closes, opens = market.closes, market.opens
    belongs = pd.DataFrame(False, index=closes.index, columns=closes.columns)
    for name, first, last, _ in market.rows:
        belongs.loc[first : last or None, name] = True
    lost = {name: given for name, _, _, given in market.rows if given is not None}
    last_day = {name: closes[name].last_valid_index() for name in closes}
    shares, cash, known = pd.Series(0.0, closes.columns), CASH, pd.Series(np.nan, closes.columns)
    orders, kept = pd.Series(0.0, closes.columns), []
    for number, day in enumerate(closes.index, 1):
        price = opens.loc[day]
        filled = orders[price.notna() & (orders != 0)]
        cash -= float((filled * price[filled.index]).sum() + FEE * (filled.abs() * price[filled.index]).sum())
        shares, orders = shares.add(filled, fill_value=0.0), pd.Series(0.0, closes.columns)
        known = closes.loc[day].fillna(known)
        if number % every == 0:
            here = closes.columns[belongs.loc[day] & closes.loc[day].notna()]
            each = SHARE * (cash + float((shares * known.fillna(0)).sum())) / max(len(here), 1)
            target = np.floor(each / closes.loc[day, here]).reindex(closes.columns, fill_value=0.0)
            orders = (target - shares).where(closes.loc[day].notna(), 0.0)
        for name in closes.columns:
            if last_day[name] == day and day != closes.index[-1]:
                proceeds = shares[name] * known[name] * (1 + lost.get(name, 0.0))
                cash += proceeds - FEE * abs(proceeds)
                shares[name], orders[name] = 0.0, 0.0
        equity = cash + float((shares * known.fillna(0)).sum())
        kept.append({"equity": equity, "cash": cash, **shares})
    return pd.DataFrame(kept, closes.index)
