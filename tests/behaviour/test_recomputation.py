"""
The equity of two strategies on real daily prices, reckoned a second time in plain pandas and numpy.

What reckons here, all above `pair`, uses neither `backtest` nor Backtrader: whoever changes it keeps it so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from places import ROOT

from backtest import run
from backtest.metrics.account import sample
from backtest.metrics.drawdown import deepest, drawdowns

CENT = 0.005  # money that differs by less is the same to the cent
SESSIONS = 252  # a year

Decide = Callable[[int, float, int], int]  # bar, cash, shares held -> shares to order at the bar's close


@dataclass(frozen=True)
class Case:
    """One run: what the product is asked for, and the same for the recomputation."""

    symbol: str
    strategy: str
    params: dict[str, float]
    costs: str = "ib-fixed"
    cash: float = 100_000.0

    def __str__(self) -> str:
        chosen = [f"{name}={value}" for name, value in self.params.items()]
        return "-".join([self.symbol, self.strategy, *chosen, self.costs, f"{self.cash:.0f}"])


@dataclass(frozen=True)
class Account:
    """What one replay left behind."""

    cash: float  # at the start
    equity: pd.Series  # cash + shares x close, after each bar
    shares: pd.Series  # held at each close
    fills: pd.DataFrame  # time, size (signed), price, costs
    refused: list[pd.Timestamp]  # the orders, by the bar that gave them, for which the cash did not suffice


AAPL_CROSS = Case("AAPL", "sma_cross", {})
CASES = [
    *(Case(symbol, name, {}) for symbol in ("AAPL", "GOOG", "IBM", "MSFT") for name in ("buy_and_hold", "sma_cross")),
    Case("AAPL", "sma_cross", {"fast": 5, "slow": 100, "invest": 0.5}),
    Case("AAPL", "sma_cross", {"fast": 5, "slow": 100, "invest": 0.5}, costs="none"),
    Case("AAPL", "sma_cross", {}, cash=200.0),  # pays the minimum for 78 of 108 fills, 1 % for the other 30
]


def read_bars(symbol: str) -> pd.DataFrame:
    bars = pd.read_parquet(ROOT / f"data/sample/{symbol}-STK-SMART-USD/1day/TRADES/rth/bars")
    return bars.sort_values("time", ignore_index=True)


def buy_and_hold(closes: Sequence[float], invest: float = 0.95) -> Decide:
    return lambda bar, cash, shares: int(cash * invest / closes[bar]) if bar == 0 else 0


def sma_cross(closes: Sequence[float], fast: int = 10, slow: int = 30, invest: float = 0.95) -> Decide:
    def mean(bar: int, length: int) -> float:
        return math.fsum(closes[bar + 1 - length : bar + 1]) / length

    def decide(bar: int, cash: float, shares: int) -> int:
        if bar < slow - 1:
            return 0
        if mean(bar, fast) > mean(bar, slow):
            return 0 if shares else int(cash * invest / closes[bar])
        return -shares

    return decide


def ib_fixed(size: int, price: float) -> float:
    """Return half a cent a share, at least a dollar an order, yet never above 1 % of the order's value."""
    return min(max(0.005 * abs(size), 1.0), 0.01 * abs(size) * price)


def replay(bars: pd.DataFrame, decide: Decide, costs: Callable[[int, float], float], start: float) -> Account:
    """Fill at each open what was ordered at the close before it, unless the cash does not suffice."""
    cash, shares, order = start, 0, 0
    equity, held, fills, refused = [], [], [], []
    for bar, (time, opening, close) in enumerate(zip(bars["time"], bars["open"], bars["close"], strict=True)):
        charge = costs(order, opening)
        if order * opening + charge > cash:
            refused.append(bars["time"][bar - 1])
        elif order:
            fills.append((time, order, opening, charge))
            cash -= order * opening + charge
            shares += order
        equity.append(cash + shares * close)
        held.append(shares)
        order = decide(bar, cash, shares)
    index = pd.DatetimeIndex(bars["time"])
    table = pd.DataFrame(fills, columns=["time", "size", "price", "costs"])
    return Account(start, pd.Series(equity, index), pd.Series(held, index), table, refused)


def recompute(case: Case, bars: pd.DataFrame) -> Account:
    strategy = {"buy_and_hold": buy_and_hold, "sma_cross": sma_cross}[case.strategy]
    costs = {"ib-fixed": ib_fixed, "none": lambda size, price: 0.0}[case.costs]
    return replay(bars, strategy(bars["close"].tolist(), **case.params), costs, case.cash)


def round_trips(fills: pd.DataFrame) -> pd.DataFrame:
    """Pair each purchase with the sale of all of it; one still held at the end is none."""
    sales = fills.iloc[1::2].reset_index(drop=True)
    purchases = fills.iloc[: 2 * len(sales) : 2].reset_index(drop=True)
    trips = pd.DataFrame({"entry": purchases["time"], "exit": sales["time"], "size": purchases["size"]})
    trips["gross"] = (sales["price"] - purchases["price"]) * trips["size"]
    trips["costs"] = purchases["costs"] + sales["costs"]
    trips["net"] = trips["gross"] - trips["costs"]
    return trips


def excursions(account: Account, bars: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Return the worst and the best of each round trip, by lows and highs from its entry to the bar before its exit."""
    fills = account.fills.to_dict("records")
    by_time, worst, best = bars.set_index("time"), [], []
    for bought, sold in zip(fills[::2], fills[1::2], strict=False):
        held = by_time.loc[bought["time"] : sold["time"]].iloc[:-1]
        worst.append(min(0.0, min(held["low"].min(), sold["price"]) / bought["price"] - 1))
        best.append(max(0.0, max(held["high"].max(), sold["price"]) / bought["price"] - 1))
    return worst, best


def figures(account: Account) -> dict[str, float]:
    returns = account.equity / account.equity.shift(fill_value=account.cash) - 1
    growth = account.equity.iloc[-1] / account.cash
    cagr = growth ** (SESSIONS / len(returns)) - 1
    downside = math.sqrt((returns.clip(upper=0) ** 2).mean())
    drawdown = depths_of(account).min()
    net = round_trips(account.fills)["net"]
    return {
        "total_return": growth - 1,
        "cagr": cagr,
        "volatility": returns.std(ddof=1) * math.sqrt(SESSIONS),
        "sharpe": returns.mean() / returns.std(ddof=1) * math.sqrt(SESSIONS),
        "sortino": returns.mean() / downside * math.sqrt(SESSIONS),
        "max_drawdown": drawdown,
        "calmar": cagr / -drawdown,
        "trades": len(net),
        "win_rate": (net > 0).sum() / len(net) if len(net) else math.nan,
        "profit_factor": net[net > 0].sum() / -net[net < 0].sum() if len(net) else math.nan,
        "exposure": (account.shares != 0).mean(),
    }


def depths_of(account: Account) -> pd.Series:
    return account.equity / account.equity.cummax().clip(lower=account.cash) - 1


def first_difference(expected: pd.Series, actual: pd.Series) -> pd.Timestamp | None:
    """Return the first bar after which the two are not the same money to the cent, None if there is none."""
    assert list(expected.index) == list(actual.index)
    same = np.abs(expected.to_numpy() - actual.to_numpy()) < CENT  # false for a NaN
    return None if same.all() else expected.index[np.argmin(same)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(request):
    """Return what the product makes of a case, and the recomputed account."""
    case = request.param
    strategy, store = str(ROOT / f"strategies/{case.strategy}.py"), str(ROOT / "data/sample")
    chosen = {"params": case.params, "costs": case.costs, "cash": case.cash}
    return run(strategy, f"{case.symbol}/1day", store=store, **chosen), recompute(case, read_bars(case.symbol))


@pytest.mark.slow
def test_equity_after_every_bar_is_the_recomputed_one_to_the_cent(pair):
    result, account = pair

    assert first_difference(account.equity, result.equity) is None


def test_every_fill_has_the_recomputed_date_size_price_and_costs(pair):
    result, account = pair

    assert_frame_equal(result.fills[list(account.fills)], account.fills, check_dtype=False, rtol=1e-12, atol=0)


def test_an_order_is_refused_only_where_the_recomputed_cash_does_not_suffice(pair):
    result, account = pair  # some for AAPL only, which closed at 11.395 on 2001-04-18 and opened at 12.775

    assert list(result.orders.query("status == 'Margin'")["created"]) == account.refused


def test_every_round_trip_has_the_recomputed_dates_and_money(pair):
    result, account = pair
    trips = round_trips(account.fills)

    assert_frame_equal(result.trades[list(trips)], trips, check_dtype=False, rtol=0, atol=CENT)


def test_the_excursions_are_those_of_the_recomputed_round_trips(pair):
    result, account = pair
    worst, best = excursions(account, read_bars(result.series[0].partition("/")[0]))

    if worst:
        assert result.stats["adverse_excursion"] == pytest.approx(np.mean(worst), rel=1e-12)
        assert result.stats["favourable_excursion"] == pytest.approx(np.mean(best), rel=1e-12)
    else:
        assert math.isnan(result.stats["adverse_excursion"])


def test_every_figure_follows_from_the_recomputed_equity(pair):
    result, account = pair
    expected = figures(account)

    stated = {name: result.stats[name] for name in expected}

    assert stated == pytest.approx(expected, rel=1e-9, abs=0, nan_ok=True)


def test_the_deepest_drawdown_runs_from_the_last_day_at_the_recomputed_peak_to_its_trough(pair):
    result, account = pair
    depths = depths_of(account)
    trough = depths.idxmin()
    peak = depths[:trough].loc[lambda depth: depth == 0].index[-1]

    own = sample(result)
    worst = deepest(drawdowns(own.days, own.equity), 1)[0]

    assert (worst.peak, worst.trough) == (peak.date(), trough.date())


@pytest.mark.parametrize("pair", [AAPL_CROSS], indirect=True, ids=str)
def test_a_cent_more_for_one_fill_is_reported_at_the_day_of_that_fill(pair):
    result, account = pair
    fill = account.fills.iloc[4]
    bars = read_bars(AAPL_CROSS.symbol)
    bars.loc[bars["time"] == fill["time"], "open"] += 0.01

    dearer = recompute(AAPL_CROSS, bars)

    assert first_difference(dearer.equity, result.equity) == fill["time"] == pd.Timestamp("2000-08-28", tz="UTC")
