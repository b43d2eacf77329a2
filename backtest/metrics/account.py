"""The account of a run, session by session: the input of metrics and figures, beside buy and hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import StrategyError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.metrics.benchmark import Beside, compounded, periods_at
from backtest.metrics.drawdown import Drawdown, longest_drawdown_by_row, worst_drawdown_by_row
from backtest.metrics.returns import CALENDAR_YEAR, EquityRows, Rows, months_by_row, returns_of, years_by_row
from backtest.metrics.sharpe_tests import Moments, moments_by_row, sharpe_interval_autocorrelated_by_row
from backtest.metrics.trades import (
    Lists,
    Trades,
    entries_left,
    excursions_of,
    open_entries,
    rejected_orders,
    trades_of,
)
from backtest.runs.dividends import BESIDE, dividends_received, has_dividends
from backtest.runs.record import RunRecord, computed_once
from backtest.runs.round_trips import rows_by_place

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.runs.batch import RunBatch
    from backtest.runs.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Leverage:
    """
    The value of positions at the closes of all bars, over equity; a future counts with its notional value.

    Margin requirements are known for margin accounts only.
    """

    gross: float  # long and short, the mean
    net: float  # long minus short, the mean
    peak: float  # the largest gross
    net_peak: float  # the largest net, of either sign
    required: float | None = None  # the largest fraction of equity that they required; inf without equity
    calls: int | None = None  # sessions with a bar at whose close they required more than the equity


@dataclass(frozen=True)
class Account:
    """The inputs of a run's metrics; open positions count only in its equity."""

    days: np.ndarray  # the sessions, datetime64[D], shape (n,)
    equity: np.ndarray  # at the end of each session, preceded by the initial cash, shape (n + 1,)
    returns: np.ndarray  # of each session, simple, shape (n,)
    held: np.ndarray  # bars of each session with a position, over the mean number of bars per session, shape (n,)
    trades: Trades  # the closed round trips
    still_open: int  # entries that are still open, or the rest of one, at the end
    traded: float  # money of all fills, bought and sold
    costs: float  # commissions and fees of all fills, slippage, and what borrowed shares cost: see `costs_until`
    risk_free: float | np.ndarray  # annual return, or that of each session, shape (n,)
    periods: float  # sessions per year
    benchmark: np.ndarray | None = None  # its return of each session that it has, shape (m,)
    money: np.ndarray | None = None  # where the strategy added cash or took some out: equity with it, shape (n + 1,)
    added: float = 0.0  # cash that it added, less what it took out
    unit: str = "sessions"  # what the sessions are: weeks, or months, of bars as long
    whose: str = ""  # sessions they are, where series have several clocks
    lead: float = 0.0  # years from the first equity to the first session's end
    span: float | None = None  # years that the sessions are worth, where they do not follow one another
    rejected: int = 0  # orders that the broker refused
    leverage: Leverage | None = None
    dividends: float | None = None  # money that positions received, less what short ones paid; None if there were none
    common: np.ndarray | None = None  # places in equity between which the benchmark has returns, shape (m + 1,); or all

    @property
    def net(self) -> np.ndarray:
        """Money of each closed round trip after costs, shape (k,)."""
        return self.trades.net

    @property
    def worth(self) -> np.ndarray:
        """Money at the end of each session, preceded by the initial cash, including added cash; shape (n + 1,)."""
        return self.equity if self.money is None else self.money

    @cached_property
    def beside(self) -> Account:
        """This account at its benchmark's sessions, between which returns are compounded."""
        if self.common is None:
            return self
        rate = self.risk_free
        return replace(
            self,
            returns=compounded(self.returns, self.common),
            risk_free=compounded(rate, self.common) if isinstance(rate, np.ndarray) else rate,
            periods=periods_at(self.periods, self.common),
            common=None,
        )

    @property
    def held_since(self) -> date | None:
        """The session in which the benchmark begins, if it begins more than one of its own bars after the run."""
        if self.common is None or len(self.common) < 2 or self.common[0] <= np.median(np.diff(self.common)):
            return None
        begins: date = self.days[self.common[0] - 1].item()
        return begins

    @cached_property
    def _alone(self) -> Accounts:
        return Accounts.of([self])

    @property
    def worst(self) -> Drawdown | None:
        """The deepest drawdown."""
        return self._alone.worst[0]

    @property
    def longest(self) -> Drawdown | None:
        """The longest drawdown."""
        return self._alone.longest[0]

    @property
    def months(self) -> np.ndarray:
        """The return of each calendar month."""
        return np.asarray(self._alone.months.values[0])

    @property
    def years(self) -> np.ndarray:
        """The return of each calendar year."""
        return np.asarray(self._alone.years.values[0])

    @property
    def moments(self) -> Moments:
        """The moments from which the error of the Sharpe ratio is computed."""
        return self._alone.moments[0]

    @property
    def under_a_year(self) -> bool:
        """Whether the dates span less than a year, which may lack up to a week because of holidays."""
        return self._alone.under_a_year

    @property
    def length(self) -> float:
        """Calendar years from the first session to the last, both included."""
        return self._alone.length


@dataclass(frozen=True, eq=False)
class Accounts:
    """
    The accounts of several runs over the same sessions, beside the same benchmark, a row each: see `Account`.

    Values per run are a sequence, shape (runs,), or an array whose first axis is the run. The runs share the rest.
    """

    days: np.ndarray  # shape (n,)
    equity: np.ndarray  # shape (runs, n + 1)
    returns: np.ndarray  # shape (runs, n)
    held: np.ndarray  # shape (runs, n)
    trades: Sequence[Trades]
    still_open: Sequence[int]
    traded: Sequence[float]
    costs: Sequence[float]
    worth: np.ndarray  # equity with what cash was added, shape (runs, n + 1)
    rejected: Sequence[int]
    leverage: Sequence[Leverage | None]
    dividends: Sequence[float | None]
    risk_free: float | np.ndarray
    periods: float
    benchmark: np.ndarray | None = None
    common: np.ndarray | None = None
    lead: float = 0.0
    span: float | None = None

    @classmethod
    def of(cls, every: Sequence[Account]) -> Accounts:
        """Return accounts that share the required values as the rows of one."""
        first = every[0]
        equity, returns, held, worth = (
            np.stack([getattr(one, name) for one in every]) for name in ("equity", "returns", "held", "worth")
        )
        return cls(
            first.days, equity, returns, held, [one.trades for one in every], [one.still_open for one in every],
            [one.traded for one in every], [one.costs for one in every], worth, [one.rejected for one in every],
            [one.leverage for one in every], [one.dividends for one in every], first.risk_free, first.periods,
            first.benchmark, first.common, first.lead, first.span,
        )  # fmt: skip

    def part(self, start: int, stop: int) -> Accounts:
        """Return the accounts of some runs that follow each other."""
        by_run = ("equity", "returns", "held", "trades", "still_open", "traded", "costs", "worth", "rejected",
                  "leverage", "dividends")  # fmt: skip
        return replace(self, **{name: getattr(self, name)[start:stop] for name in by_run})

    @cached_property
    def raw(self) -> Rows:
        """The returns, checked."""
        return Rows.of(self.returns)

    @cached_property
    def excess(self) -> Rows:
        """The returns above the risk-free rate."""
        return self.raw.above(self.risk_free, self.periods)

    @cached_property
    def curves(self) -> EquityRows:
        """The equity, checked."""
        return EquityRows.of(self.equity)

    @cached_property
    def nets(self) -> Lists:
        """Money of each closed round trip after costs."""
        return Lists([one.net for one in self.trades])

    @cached_property
    def mean_worth(self) -> np.ndarray:
        """The mean equity of each at the start and at the session ends."""
        return np.asarray(EquityRows.of(self.worth).values.mean(axis=1))

    @cached_property
    def intervals(self) -> list[tuple[float, float]]:
        """The 95 % confidence interval of each annual Sharpe ratio."""
        return sharpe_interval_autocorrelated_by_row(self.excess, self.periods)

    @cached_property
    def beside(self) -> Beside | None:
        """The returns beside the benchmark's, at the sessions that it has too; None where it has no returns."""
        if self.benchmark is None:
            return None
        other = Rows.of(self.benchmark)
        if self.common is None:
            return Beside(self.raw, other, self.risk_free, self.periods)
        rate = compounded(self.risk_free, self.common) if isinstance(self.risk_free, np.ndarray) else self.risk_free
        sampled = Rows.of(compounded(self.returns, self.common))
        return Beside(sampled, other, rate, periods_at(self.periods, self.common))

    @cached_property
    def worst(self) -> list[Drawdown | None]:
        """The deepest drawdown of each."""
        return worst_drawdown_by_row(self.days, self.curves)

    @cached_property
    def longest(self) -> list[Drawdown | None]:
        """The drawdown of each that took longest."""
        return longest_drawdown_by_row(self.days, self.curves)

    @cached_property
    def months(self) -> Rows:
        """The return of each calendar month."""
        return Rows.of(months_by_row(self.days, self.curves)[1])

    @cached_property
    def years(self) -> Rows:
        """The return of each calendar year."""
        return Rows.of(years_by_row(self.days, self.curves)[1])

    @cached_property
    def moments(self) -> list[Moments]:
        """What the error of each one's Sharpe ratio is computed from."""
        return moments_by_row(self.excess)

    @property
    def under_a_year(self) -> bool:
        """Whether the dates span less than a year, which may lack up to a week because of holidays."""
        return self.length < 0.98

    @property
    def length(self) -> float:
        """Calendar years from the first session to the last, both included."""
        if self.span is not None or not len(self.days):
            return self.span or 0.0
        return float((self.days[-1] - self.days[0]).astype(int)) / CALENDAR_YEAR + 1 / self.periods


def alone(run: Account) -> Accounts:
    """Return an account as the only row of `Accounts`, from which its metrics are computed; cached with it."""
    return run._alone


def check_measurable(run: Account) -> None:
    """
    Check what all metrics of an account are computed from.

    Raises:
        ValueError: a return or an equity is not a number, or cannot be.
    """
    runs = alone(run)
    for checked in ("raw", "curves", "mean_worth", "beside"):
        getattr(runs, checked)


def in_common(run: Account) -> tuple[Any, ...]:
    """Return the values that runs must share to be rows of one `Accounts`."""
    own = (run.days, run.risk_free, run.benchmark, run.common, run.periods, run.lead, run.span)
    return tuple(one.tobytes() if isinstance(one, np.ndarray) else one for one in own)


def sample(result: RunRecord) -> Account:
    """
    Return the account of a run at the last bar of each session, beside buy and hold.

    Raises:
        StrategyError: equity is not a number, or fell below zero: negative equity has no return.
    """
    fills, spec, ends = result.fills_table, result.spec, session_ends(result.record)
    days, equity = _session_equity(result, ends)
    flows, rates = flows_of(result.record), rates_of(result.record)
    benchmark, common = _benchmark_returns(result, ends)
    return Account(
        days=days,
        equity=equity,
        returns=returns_of(equity),
        held=_held(result, ends),
        trades=trades_of(result.trades_table, result.record, spec.series, result.extremes_table),
        still_open=open_entries(fills, spec.series),
        traded=_traded(fills, spec),
        costs=_costs(result),
        risk_free=spec.risk_free if rates is None else rates[ends],
        periods=spec.yearly.count,
        benchmark=benchmark,
        common=common,
        money=None if flows is None else np.concatenate([[spec.cash], column(result.record, "equity")[ends]]),
        added=0.0 if flows is None else float(flows.sum()),
        unit=spec.yearly.unit,
        whose=spec.yearly.whose,
        rejected=rejected_orders(result.orders_table),
        leverage=_leverage(result),
        dividends=float(dividends_received(result.record, spec).sum()) if has_dividends(result.record) else None,
    )


def sample_batch(batch: RunBatch) -> tuple[Accounts, list[int], dict[int, str]]:
    """
    Return the accounts of runs, equal to those of `sample` to the last bit, and the errors of the other runs.

    The errors are those that `sample` would raise.
    """
    spec, record = batch.spec, batch.record
    ends, none = session_ends(record), record.slice(0, 0)
    bars = RunRecord(spec, record, none, none, none, {})
    days, failed = _sessions(record, ends), dict[int, str]()
    at_ends = batch.equity if len(ends) == len(record) else batch.equity[:, ends]
    for run in np.flatnonzero(~(np.isfinite(at_ends) & (at_ends >= 0)).all(axis=1)).tolist():
        try:
            _check_equity(bars, days, at_ends[run])
        except StrategyError as error:
            failed[run] = str(error)
    places = [run for run in range(len(at_ends)) if run not in failed]
    equity = np.empty((len(places), len(ends) + 1))
    equity[:, 0], equity[:, 1:] = spec.cash, at_ends[places] if failed else at_ends
    rates, (benchmark, common) = rates_of(record), _benchmark_returns(bars, ends)
    fills = [slice(*batch.fills_from[run : run + 2]) for run in places]
    money, costs = np.abs(batch.fills.size * batch.fills.price), batch.fills.costs
    names, slipped = [Series.parse(key).short for key in spec.series], np.zeros(len(money))
    if spec.multipliers:
        money *= np.array([spec.points_by_name[name] for name in names])[batch.fills.series]
    if batch.fills.unslipped is not None:
        points = np.array([spec.points_by_name.get(name, 1.0) for name in names])
        slipped = batch.fills.size * (batch.fills.price - batch.fills.unslipped) * points[batch.fills.series]
    times = 1.0 if spec.multipliers else spec.multiplier
    found = Accounts(
        days, equity, returns_of(equity), _held_by_row(batch, ends)[places], _trades_by_row(batch, places),
        [_open_of(batch, own) for own in fills], [float(money[own].sum()) * times for own in fills],
        [float(costs[own].sum()) + float(slipped[own].sum()) for own in fills], equity, batch.rejected[places].tolist(),
        _leverage_by_row(batch, places), [None] * len(places), spec.risk_free if rates is None else rates[ends],
        spec.yearly.count, benchmark, common,
    )  # fmt: skip
    return found, places, failed


def sample_hold(result: RunRecord, own: Account) -> Account:
    """
    Return the account of `hold` at the last bar of each session, without trades.

    Args:
        own: the run's account, which has the same sessions.
    """
    equity = np.concatenate([[result.spec.cash], hold(result)[session_ends(result.record)]])
    held = replace(own, equity=equity, returns=returns_of(equity), dividends=None)
    return replace(held, trades=Trades.none(), still_open=0, traded=0.0, costs=0.0, money=None, added=0.0, rejected=0)


def session_ends(record: pa.Table) -> np.ndarray:
    """Return the row of the last bar of each session, in order of sessions."""
    sessions = arrays.numbers(record["session"])
    if len(sessions) and (sessions[1:] >= sessions[:-1]).all():
        return np.append(np.flatnonzero(sessions[1:] != sessions[:-1]), len(sessions) - 1)
    _, from_the_end = np.unique(sessions[::-1], return_index=True)
    return np.asarray(len(sessions) - 1 - from_the_end)


def flows_of(record: pa.Table) -> np.ndarray | None:
    """Return the cash that the strategy added with each bar, negative for withdrawals; None if there is none."""
    return column(record, "flow") if "flow" in record.column_names else None


def rates_of(record: pa.Table) -> np.ndarray | None:
    """Return the risk-free return of each bar's session, if the run has one for each; otherwise None."""
    return column(record, "risk_free") if "risk_free" in record.column_names else None


def growth_of_cash(result: RunRecord) -> np.ndarray:
    """
    Return the value of the initial cash after each bar: equity without cash added later and its growth.

    Cash that the strategy adds or withdraws is not a return: each flow is invested like the account from the end of its
    bar on, as in a fund whose shares are bought and redeemed (time-weighted returns). NaN if all money had left the
    account and it still gained or lost something.
    """
    equity, flows = column(result.record, "equity"), flows_of(result.record)
    return equity if flows is None else without_flows(equity, flows, result.spec.cash)


def nets_of_cash(result: RunRecord, own: Account) -> np.ndarray:
    """
    Return the money of each closed round trip as if the account had only its initial cash, shape (k,).

    That is its net result. If the strategy added or withdrew cash, it is scaled by the account's value without these
    flows over its equity.
    """
    flows = flows_of(result.record)
    if flows is None:
        return own.net
    exits, times = (arrays.numbers(one) for one in (result.trades_table["exit"], result.record["time"]))
    bars = np.searchsorted(times, exits)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (growth_of_cash(result) / (column(result.record, "equity") - flows))[bars]
    return np.asarray(own.net * np.where(np.isfinite(shares), shares, 1.0))


def without_flows(equity: np.ndarray, flows: np.ndarray, cash: float) -> np.ndarray:
    """
    Return the value of the initial cash after each bar: see `growth_of_cash`.

    Args:
        equity: the equity after each bar, including the bar's flow, shape (n,).
        flows: the flow of each bar, shape (n,).
        cash: the cash before the first bar.
    """
    grown, since, unit, money = np.empty(len(equity)), 0, cash, cash
    for bar in np.flatnonzero(flows):
        grown[since : bar + 1] = unit * _relative(np.append(equity[since:bar], equity[bar] - flows[bar]), money)
        since, unit, money = int(bar) + 1, grown[bar], equity[bar]
    grown[since:] = unit * _relative(equity[since:], money)
    return grown


def _relative(equity: np.ndarray, money: float) -> np.ndarray:
    if money > 0:
        return equity / money
    return np.where((equity == 0) & (money == 0), 1.0, np.nan)


def hold(result: RunRecord) -> np.ndarray:
    """
    Return the money after each bar if the cash had bought the benchmark at its first close, without costs.

    Without a benchmark it is spread evenly over the run's series. A missing price repeats the previous one; until the
    first price of a series its share stays in cash. If the run receives dividends, so does this, and keeps them in
    cash.
    """
    return computed_once(result, "hold", lambda: _hold(result))


def _hold(result: RunRecord) -> np.ndarray:
    record = result.record
    series = [(f"close.{n}", f"rate.{n}") for n in range(len(result.spec.series))]
    names = [("benchmark", "")] if "benchmark" in record.column_names else series
    growth = [_growth(_money(record, name, rate), _paid_with(result, name)) for name, rate in names]
    mean = growth[0] if len(growth) == 1 else np.mean(growth, axis=0)
    mean *= result.spec.cash
    return np.asarray(mean)


def hold_name(result: RunRecord) -> str:
    """Return the name of what `hold` holds."""
    if result.spec.benchmark:
        return Series.parse(result.spec.benchmark).short
    return result.series[0] if len(result.series) == 1 else f"{len(result.series)} series evenly"


def worth_over_equity(result: RunRecord, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the values of long and of short (negative) positions over equity, at the closes of some bars.

    The value of a contract is its price times its multiplier. Both are 0 if there was no equity.
    """
    record, points = result.record, result.spec.points
    if isinstance(rows, slice):
        start, stop, _ = rows.indices(len(record))
        record, rows = record.slice(start, stop - start), slice(None)
    equity = column(record, "equity")[rows]
    long, short = np.zeros(len(equity)), np.zeros(len(equity))
    for n in range(len(result.spec.series)):
        held, close = column(record, f"position.{n}")[rows], _money(record, f"close.{n}", f"rate.{n}", rows)
        worth = np.nan_to_num(held * close) * points[n]
        long += np.maximum(worth, 0)
        short += np.minimum(worth, 0)
    shares = (np.divide(one, equity, out=np.zeros(len(equity)), where=equity > 0) for one in (long, short))
    return next(shares), next(shares)


def _money(table: pa.Table, price: str, rate: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return prices in the account's currency: multiplied by their rates, if the run saved any."""
    prices = column(table, price)[rows]
    return prices * column(table, rate)[rows] if arrays.has_column(table, rate) else prices


def _traded(fills: pa.Table, spec: RunSpec) -> float:
    """Return the money of all fills, bought and sold."""
    money = np.abs(column(fills, "size") * _money(fills, "price", "rate"))
    if not spec.multipliers:
        return float(money.sum()) * spec.multiplier
    points = spec.points_by_name
    return float((money * [points.get(name, 1.0) for name in fills["series"].to_pylist()]).sum())


def slippage_by_fill(fills: pa.Table, spec: RunSpec) -> np.ndarray:
    """Return the cost of slippage of each fill, in money; 0 for runs without that record."""
    if "unslipped" not in fills.column_names:
        return np.zeros(len(fills))
    points = spec.points_by_name
    worth = np.array([points.get(name, 1.0) for name in fills["series"].to_pylist()])
    slipped = _money(fills, "price", "rate") - _money(fills, "unslipped", "rate")
    return np.asarray(column(fills, "size") * slipped * worth)


def costs_until(result: RunRecord, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """
    Return all costs up to the end of some bars: commissions, fees, slippage of fills, daily borrow fees.

    For old saved runs, whose borrow fees are not known by bar, they count with the fills that closed the positions.
    """
    record, fills = result.record, result.fills_table
    filled = np.searchsorted(arrays.numbers(fills["time"]), arrays.numbers(record["time"])[rows], side="right")
    of_fills = column(fills, "costs") + slippage_by_fill(fills, result.spec)
    if "borrow" not in record.column_names:
        return np.concatenate([[0.0], np.cumsum(of_fills)])[filled]
    of_fills -= column(fills, "borrow")
    return np.asarray(np.concatenate([[0.0], np.cumsum(of_fills)])[filled] + np.cumsum(column(record, "borrow"))[rows])


def _costs(result: RunRecord) -> float:
    """Return all costs; the borrow fee of an open position is not in any fill yet."""
    record, fills = result.record, result.fills_table
    paid = float(column(fills, "costs").sum()) + float(slippage_by_fill(fills, result.spec).sum())
    if "borrow" not in record.column_names:
        return paid
    return paid + float(column(record, "borrow").sum() - column(fills, "borrow").sum())


def column(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64; NaN where it is null."""
    return np.asarray(arrays.numbers(table[name]), dtype=float)


def _session_equity(result: RunRecord, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    days, equity = _sessions(result.record, ends), growth_of_cash(result)[ends]
    _check_equity(result, days, equity)
    return days, np.concatenate([[result.spec.cash], equity])


def _check_equity(result: RunRecord, days: np.ndarray, equity: np.ndarray) -> None:
    cure = "trade smaller, or start with more cash"
    if flows_of(result.record) is not None:
        cure = "the strategy adds or withdraws cash: keep equity above zero, or trade smaller"
    for problem, wrong in (("not a number", ~np.isfinite(equity)), ("below zero", equity < 0)):
        if wrong.any():
            shown = ", ".join(str(day) for day in days[wrong][:3])
            raise StrategyError(
                f"the equity of {result.spec.name} is {problem} in {wrong.sum():,} sessions ({shown}, ...), "
                f"so that returns are not defined; {cure}"
            )


def _benchmark_returns(result: RunRecord, ends: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """
    Return the returns of the benchmark, and the positions in equity between which they lie; None for every session.

    For a named series only sessions with a price count, and it is bought at the first. The returns are None if a price
    was not above zero, such as oil's in April 2020.
    """
    if "benchmark" not in result.record.column_names:
        return _returns_of_money(np.concatenate([[result.spec.cash], hold(result)[ends]])), None
    prices = column(result.record, "benchmark")
    priced = np.flatnonzero(np.isfinite(prices))
    if not len(priced):
        return np.array([]), np.array([0])
    rows = priced[np.searchsorted(priced, ends, side="right") - 1]  # of the last price up to the end of each session
    own = np.flatnonzero((rows <= ends) & (rows > np.append(-1, ends[:-1])))
    paid = _paid_with(result, "benchmark")
    worth = prices if paid is None else prices + _since(paid, priced[0])
    money = result.spec.cash * np.mean([worth[rows[own]] / prices[priced[0]]], axis=0)
    places = own + 1
    if not own[0]:  # it is there from the start, as the cash is
        money, places = np.append(result.spec.cash, money), np.append(0, places)
    every = len(places) == len(ends) + 1
    return _returns_of_money(money), None if every else places


def _returns_of_money(money: np.ndarray) -> np.ndarray | None:
    return returns_of(money) if (money > 0).all() else None


def _paid_with(result: RunRecord, name: str) -> np.ndarray | None:
    """Return the dividend per share of a column of prices with each row; None if there are none."""
    paid = BESIDE if name == "benchmark" else name.replace("close", "dividend")
    if not arrays.has_column(result.record, paid):
        return None
    return column(result.record, paid) * (1 - result.spec.brokerage.withholding)


def _since(paid: np.ndarray, first: int) -> np.ndarray:
    """Return the sum paid after a row, up to each later row."""
    return np.cumsum(np.where(np.arange(len(paid)) > first, paid, 0.0))


def _growth(prices: np.ndarray, paid: np.ndarray | None = None) -> np.ndarray:
    known = np.isfinite(prices)
    if not known.any():
        return np.ones(len(prices))
    first, worth = int(known.argmax()), prices
    if not known.all():
        worth = prices[np.maximum.accumulate(np.where(known, np.arange(len(prices)), first))]
    if paid is not None:
        worth = worth + _since(paid, first)
    return np.asarray(worth / prices[first])


def _held(result: RunRecord, ends: np.ndarray) -> np.ndarray:
    """Return the bars with a position in each session over the mean bars per session; the mean is the exposure."""
    if not len(ends):
        return np.array([])
    starts = np.append(0, ends[:-1] + 1)
    counts = np.add.reduceat(_in_market(result), starts, dtype=float)
    return np.asarray(counts * (len(ends) / len(result.record)))


def _in_market(result: RunRecord) -> np.ndarray:
    """Return for each bar whether a position was open at its close, or opened and closed within it."""
    record, fills = result.record, result.fills_table
    found = np.zeros(len(record), bool)
    rows = np.searchsorted(arrays.numbers(record["time"]), arrays.numbers(fills["time"]))
    of_series = rows_by_place(fills, result.spec.series)
    for n in range(len(result.spec.series)):
        position = column(record, f"position.{n}")
        held = (position != 0) & ~np.isnan(position)
        found |= held
        if n in of_series:
            traded = rows[of_series[n]]
            traded = traded[traded < len(record)]
            found[traded] |= ~held[traded] & ~np.append(False, held)[traded]
    return found


def _leverage(result: RunRecord) -> Leverage | None:
    if not len(result.record):
        return None
    highest, lowest = list[np.ndarray](), list[np.ndarray]()

    def of_block(rows: slice) -> np.ndarray:
        long, short = worth_over_equity(result, rows)
        gross_and_net = np.stack([long - short, long + short])
        highest.append(gross_and_net.max(axis=1))
        lowest.append(gross_and_net.min(axis=1))
        return gross_and_net

    gross, net = (arrays.sum_in_blocks(0, len(result.record), of_block) / len(result.record)).tolist()
    required, calls = _required(result)
    peak, net_peak = np.max(highest, axis=0).tolist()
    return Leverage(gross, net, peak, float(max(net_peak, -np.min(lowest, axis=0)[1])), required, calls)


def _required(result: RunRecord) -> tuple[float | None, int | None]:
    """Return the largest required fraction of equity, and the number of sessions in margin call; None if unknown."""
    margin, equity = required_margin(result.record), column(result.record, "equity")
    if margin is None:
        return None, None
    shares = np.divide(margin, equity, out=np.where(margin > 0, np.inf, 0.0), where=equity > 0)
    return float(shares.max()), len(np.unique(_sessions(result.record, np.flatnonzero(margin > equity))))


def required_margin(record: pa.Table) -> np.ndarray | None:
    """Return the margin requirement after each bar; None for an account without known rules."""
    return column(record, "margin") if "margin" in record.column_names else None


def _sessions(record: pa.Table, rows: np.ndarray) -> np.ndarray:
    return np.asarray(arrays.numbers(record["session"])[rows], "datetime64[D]")


# --- the same of several runs at once

_AT_ONCE = 2**18  # bars of runs at once, of which a processor's cache holds most, and memory all


def _held_by_row(batch: RunBatch, ends: np.ndarray) -> np.ndarray:
    """Return `_held` of each run."""
    record, fills = batch.record, batch.fills
    runs = np.repeat(np.arange(len(batch.fills_from) - 1), np.diff(batch.fills_from))
    rows = np.searchsorted(arrays.numbers(record["time"]), fills.time)
    held = np.zeros(batch.equity.shape, bool)
    for number, positions in enumerate(batch.positions):
        own = (fills.series == number) & (rows < len(record))
        run, row = runs[own], rows[own]
        there = np.nan_to_num(positions) != 0 if np.isnan(positions).any() else positions != 0
        before = there[run, np.maximum(row - 1, 0)] & (row > 0)
        within = ~there[run, row] & ~before
        held |= there
        held[run[within], row[within]] = True
    if not len(ends):
        return np.zeros((len(held), 0))
    starts = np.append(0, ends[:-1] + 1)
    whole = len(ends) == len(record)
    counts = held.astype(float) if whole else np.add.reduceat(held, starts, axis=1, dtype=float)
    return np.asarray(counts * (len(ends) / len(record)))


def _trades_by_row(batch: RunBatch, places: Sequence[int]) -> list[Trades]:
    trips, fills, record = batch.trips, batch.fills, batch.record
    bars = np.searchsorted(arrays.numbers(record["time"]), fills.time, side="right")
    held = (bars[trips.exits] - bars[trips.entries]).astype(float)
    moved = excursions_of(batch.lowest, batch.highest, fills.price[trips.entries], trips.size)
    every = Trades(trips.net, trips.growth, held, *moved)
    return [every.take(slice(*batch.trips_from[run : run + 2])) for run in places]


def _open_of(batch: RunBatch, own: slice) -> int:
    """Return `open_entries` of a run."""
    size, series = batch.fills.size[own], batch.fills.series[own]
    if len(batch.positions) == 1:
        return entries_left(size)
    return sum(entries_left(size[series == number]) for number in range(len(batch.positions)))


def _leverage_by_row(batch: RunBatch, places: Sequence[int]) -> list[Leverage | None]:
    """Return `_leverage` of each run."""
    record, spec, found = batch.record, batch.spec, list[Leverage | None]()
    if not len(record):
        return [None for _ in places]
    closes = [_money(record, f"close.{n}", f"rate.{n}") for n in range(len(batch.positions))]
    width = max(1, _AT_ONCE // len(record))
    for start in range(0, len(places), width):
        chosen: Any = list(places[start : start + width])
        chosen = slice(chosen[0], chosen[-1] + 1) if chosen[-1] - chosen[0] + 1 == len(chosen) else chosen
        equity = np.ascontiguousarray(batch.equity[chosen])  # numpy adds up a row as an array only where it lies as one
        long, short = np.zeros(equity.shape), np.zeros(equity.shape)
        for positions, close, points in zip(batch.positions, closes, spec.points, strict=True):
            worth = np.nan_to_num(np.ascontiguousarray(positions[chosen]) * close) * points
            long += np.maximum(worth, 0)
            short += np.minimum(worth, 0)
        long, short = (np.divide(one, equity, out=np.zeros(one.shape), where=equity > 0) for one in (long, short))
        gross, net = long - short, long + short
        highs, lows = net.max(axis=1), -net.min(axis=1)
        peaks = gross.max(axis=1), np.where(lows > highs, lows, highs)  # of zeros the first, as `max` has it
        of_runs = zip(*(one.tolist() for one in (gross.mean(axis=1), net.mean(axis=1), *peaks)), strict=True)
        found += [Leverage(*own) for own in of_runs]
    return found
