"""Set up the rules of an account at a broker before a run, and report afterwards what it required."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.engine.account.contracts import Terms
from backtest.engine.account.converted import Converted, PresentRow
from backtest.engine.account.margin.enforcement import CashAccount, MarginAccount, Ruled
from backtest.engine.account.margin.quotes import Quotes
from backtest.engine.account.margin.requirements import Rates
from backtest.engine.account.margin.settlement import settlement_days
from backtest.engine.account.margin.tables import MarginTable
from backtest.engine.feed import close_stamps
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.hours import Hours
from backtest.market.series import FUTURE_KINDS, Series
from backtest.market.session_days import session_days

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.engine.account.currencies import Exchange

_EPOCH = date(1970, 1, 1).toordinal()


def open_account(
    table: MarginTable, broker: Any, feeds: Sequence[Any], series: Sequence[Series], terms: Sequence[Terms],
    hours: Sequence[Hours], steps: Sequence[float], exchange: Exchange | None = None, currency: str = "",
) -> None:  # fmt: skip
    """
    Set the rules of an account for a broker, before its feeds are loaded.

    Args:
        steps: the smallest tradable size of each series.
        exchange: the exchange rates of a run with several currencies.
        currency: the account's currency.

    Raises:
        UsageError: a commission model has its own rules of leverage.
    """
    ruled, sessions = {}, list[np.ndarray]()
    quotes = _quotes(exchange, broker, feeds)
    for feed, one, its, own, step in zip(feeds, series, terms, hours, steps, strict=True):
        model = broker.getcommissioninfo(feed)
        rates, converted = _rates(table, one, its, model), model if type(model) is Converted else None
        point = _multiplier(its, model) * (1.0 if converted is None else converted.unit)
        if not table.is_cash:
            ruled[feed] = Ruled(rates, point, step, converted=converted)
            continue
        times = arrays.numbers(feed.p.dataname["time"]).astype("datetime64[us]")
        sessions.append(session_days(times, one, own).astype("datetime64[D]").astype(np.int64) + _EPOCH)
        stamps = close_stamps(feed.p.dataname, one.size)
        ruled[feed] = Ruled(rates, point, step, stamps.tolist(), sessions[-1].tolist(), converted)
    if table.is_cash:
        first, last = (date.fromordinal(int(choose(np.concatenate(sessions)))) for choose in (np.min, np.max))
        broker.rules = CashAccount(ruled, settlement_days(hours[0], first, last), quotes)
    else:
        broker.rules = MarginAccount(ruled, table.least_equity, currency, quotes)


def _quotes(exchange: Exchange | None, broker: Any, feeds: Sequence[Any]) -> Quotes | None:
    if exchange is None or exchange.moments is None:
        return None
    models = {feed: broker.getcommissioninfo(feed) for feed in feeds}
    return Quotes(exchange.moments, models, PresentRow(exchange.stamps, feeds))


def with_margin(record: pa.Table, rules: CashAccount | MarginAccount) -> pa.Table:
    """Return a record with the requirements of the positions at each close, if the account lends at all."""
    if isinstance(rules, CashAccount):
        return record
    required = np.zeros(len(record))
    for n, feed in enumerate(rules.feeds.values()):
        sizes, closes = (arrays.numbers(record[f"{name}.{n}"]) for name in ("position", "close"))
        own = feed.rates.maintenance_by_bar(sizes, closes * feed.multiplier)
        if feed.converted is not None:
            own = np.where(sizes != 0, own * arrays.numbers(record[f"rate.{n}"]) / feed.converted.unit, 0.0)
        required += own
    return record.append_column("margin", arrays.floats(required))


def _rates(table: MarginTable, series: Series, terms: Terms, model: Any) -> Rates:
    if series.instrument.kind in FUTURE_KINDS:
        if model.stocklike:
            raise UsageError(f"the margin of one {series.short} contract is unknown; write --margin 15000")
        money = float(model.margin if terms.margin is None else terms.margin)
        return table.of(series) or Rates(money, money, money, money, by_contract=True)
    if not model.stocklike or model.get_leverage() != 1:
        raise UsageError(
            f"the commission of {series.short} has a margin or a leverage of its own, and so has an account "
            f"{table.name}; leave out one of them"
        )
    rates = table.of(series)
    assert rates is not None  # as `check_account` has seen
    return rates


def _multiplier(terms: Terms, model: Any) -> float:
    return float(model.p.mult) if terms.model else terms.multiplier
