"""Every row of METRICS: a case worked by hand, the edges, and laws; a new metric fails here until it has them too."""

import math
from dataclasses import replace
from datetime import date
from statistics import NormalDist

import numpy as np
import pytest
from counts import COUNTED
from handmade import fill, result_of
from hypothesis import given
from hypothesis import strategies as st

from backtest.metrics.account import Account, Accounts
from backtest.metrics.benchmark import beta
from backtest.metrics.returns import REASONS, Undefined, equity_of, returns_of
from backtest.metrics.table import METRICS, measure_all
from backtest.metrics.trades import Trades

NORMAL = NormalDist()
Z, DENSITY = NORMAL.inv_cdf(0.05), NORMAL.pdf(NORMAL.inv_cdf(0.05))

# Four sessions, four of them a year: +10 %, -10 %, +20 %, 0 %; of the benchmark 0 %, -10 %, +10 %, +10 %. A long that
# gains 6 for costs of 2, a short that loses 2 for costs of 1, and three shares that are still open.
RUN = result_of(
    [110.0, 99.0, 118.8, 118.8],
    [fill(0, 2, 10.0, 1.0), fill(1, -2, 13.0, 1.0), fill(2, -1, 20.0, 0.5), fill(3, 1, 22.0, 0.5), fill(3, 3, 5.0)],
    days=[date(2023, 2, 28), date(2023, 6, 30), date(2023, 12, 29), date(2024, 2, 28)],
    closes=[10.0, 9.0, 9.9, 10.89],
    sessions_a_year=4.0,
    statuses=["Completed", "Margin", "Canceled", "Rejected", "Expired", "Margin"],
)
MEAN_EQUITY = (100 + 110 + 99 + 118.8 + 118.8) / 5
# Around the mean of 5 % the returns are 5, -15, 15 and -5 %: squares of 0.05 in all, cubes of 0, m4 / m2² = 1.64.
DEVIATION = math.sqrt(0.05 / 3)
RATIO, VARIANCE = math.sqrt(0.15), 1 + 0.64 / 4 * 0.15  # of one session, and of its error times three
ERROR = math.sqrt(VARIANCE / 3)
# Around it each session moves the ratio by z and by -S·(z² - 1) / 2, each an autoregression of one lag φ. With 4 - 2
# freedoms its long-run variance is its square sum·(1 - φ²) / 2 / (1 - φ)²; what is left of both is correlated.
_SCORES = [one / DEVIATION for one in (0.05, -0.15, 0.15, -0.05)]
_PARTS = [_SCORES, [-RATIO / 2 * (z**2 - 1) for z in _SCORES]]
_AWAY = [[one - sum(part) / 4 for one in part] for part in _PARTS]
_SQUARES = [sum(one**2 for one in away) for away in _AWAY]
_LAGS = [
    sum(one * before for one, before in zip(away[1:], away, strict=False)) / squares
    for away, squares in zip(_AWAY, _SQUARES, strict=True)
]
_LONG = [squares * (1 - lag**2) / 2 / (1 - lag) ** 2 for squares, lag in zip(_SQUARES, _LAGS, strict=True)]
_LEFT = [
    [one - lag * before for one, before in zip(away[1:], away, strict=False)]
    for away, lag in zip(_AWAY, _LAGS, strict=True)
]
_TOGETHER = sum(one * other for one, other in zip(*_LEFT, strict=True)) / math.sqrt(
    sum(one**2 for one in _LEFT[0]) * sum(one**2 for one in _LEFT[1])
)
HAC = math.sqrt((sum(_LONG) + 2 * _TOGETHER * math.sqrt(_LONG[0] * _LONG[1])) / 4)
CORRECTED = Z + (Z**3 - 3 * Z) * -1.36 / 24
BY_HAND = {
    "total_return": 0.188,
    "cagr": 0.188,
    "cagr_calendar": 1.188 ** (365.25 / 365) - 1,
    "best_session": 0.2,
    "worst_session": -0.1,
    "best_month": 0.2,
    "worst_month": -0.1,
    "best_year": 0.188,
    "worst_year": 0.0,
    "volatility": 2 * DEVIATION,
    "downside_deviation": 2 * math.sqrt(0.01 / 4),
    "sharpe": math.sqrt(0.6),
    "sharpe_low": 2 * (RATIO - 1.959963984540054 * HAC),
    "sharpe_high": 2 * (RATIO + 1.959963984540054 * HAC),
    # autocorrelations of -0.75, 0.3 and -0.05: 4 / √(4 + 2·(3·-0.75 + 2·0.3 - 0.05)) = 4 / √0.6
    "sharpe_autocorrelated": 4 / math.sqrt(0.6) * RATIO,
    "sharpe_geometric": 0.188 / (2 * DEVIATION),
    "probabilistic_sharpe": NORMAL.cdf(RATIO / ERROR),
    "minimum_track_record": 1 + VARIANCE * 1.6448536269514722**2 / 0.15,
    "sortino": 0.05 / 0.05 * 2,
    "omega": 0.3 / 0.1,
    "kappa3": 0.05 / (0.001 / 4) ** (1 / 3),
    "upside_potential": 0.15 / 0.1,
    "skew": 0.0,
    "kurtosis": 1.64 - 3,
    "tail_ratio": 0.185 / 0.085,
    "var": -0.085,
    "es": -0.1,
    "var_gaussian": 0.05 + Z * DEVIATION,
    "es_gaussian": 0.05 - DEVIATION * DENSITY / 0.05,
    "var_cornish_fisher": 0.05 + DEVIATION * CORRECTED,
    "es_cornish_fisher": 0.05 - DEVIATION * NORMAL.pdf(CORRECTED)
    * (1 - 1.36 / 24 * (CORRECTED**4 - 2 * CORRECTED**2 - 1)) / 0.05,
    "max_drawdown": -0.1,
    "max_drawdown_sessions": 2,
    "max_drawdown_days": 304,  # 2023-02-28 to 2023-12-29
    "longest_drawdown_sessions": 2,
    "longest_drawdown_days": 304,
    "average_drawdown": -0.1,
    "ulcer": math.sqrt(0.01 / 4),
    "pain": 0.1 / 4,
    "martin": 0.188 / 0.05,
    "pain_ratio": 0.188 / 0.025,
    "burke": 0.188 / 0.1,
    "burke_modified": 0.188 / 0.1 * 2,
    "calmar": 0.188 / 0.1,
    # Around its mean of 2.5 % the benchmark is at -2.5, -12.5, 7.5 and 7.5 %: squares of 0.0275, with ours of 0.025.
    "alpha": 4 * (0.05 - 0.025 / 0.0275 * 0.025),
    "beta": 0.025 / 0.0275,
    "correlation": 0.025 / math.sqrt(0.05 * 0.0275),
    "tracking_error": 2 * math.sqrt(0.0275 / 3),  # of 10, 0, 10 and -10 %
    "information_ratio": 2 * 0.025 / math.sqrt(0.0275 / 3),
    "active_premium": 0.188 - 0.089,
    "up_capture": (math.sqrt(1.2) - 1) / 0.1,
    "down_capture": 1.0,
    "active_drawdown": 1 / 1.1 - 1,
    "treynor": 0.188 / (0.025 / 0.0275),
    "m2": 0.188 * math.sqrt(0.0275 / 0.05),
    "exposure": 0.75,
    # 2 at 10 of 110, none, 1 short at 9.9 of 118.8, 3 at 10.89 of 118.8
    "gross_leverage": (2 * 10 / 110 + 9.9 / 118.8 + 3 * 10.89 / 118.8) / 4,
    "net_leverage": (2 * 10 / 110 - 9.9 / 118.8 + 3 * 10.89 / 118.8) / 4,
    "max_gross_leverage": 3 * 10.89 / 118.8,
    "max_net_leverage": 3 * 10.89 / 118.8,
    "margin_used": math.nan,  # no margin account
    "margin_calls": math.nan,
    "turnover": (20 + 26 + 20 + 22 + 15) / 2 / MEAN_EQUITY,
    "rejected_orders": 3,
    "trades": 2,
    "open_trades": 1,
    "win_rate": 0.5,
    "payoff": 4 / 3,
    "profit_factor": 4 / 3,
    "expectancy": 0.5,
    "expectancy_return": (4 / 20 - 3 / 20) / 2,
    "sqn": math.sqrt(2) * 0.5 / (7 / math.sqrt(2)),
    "average_win": 4.0,
    "average_loss": -3.0,
    "best_trade": 4.0,
    "worst_trade": -3.0,
    "winning_streak": 1,
    "losing_streak": 1,
    "bars_held": 1.0,
    "adverse_excursion": (0 - 2 / 20) / 2,
    "favourable_excursion": (3 / 10 + 10.1 / 20) / 2,
    "cost_drag": 3 / MEAN_EQUITY,
    "dividends": math.nan,  # it was paid none
    "costs": 3.0,
}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_what_was_worked_out_by_hand(name):
    assert RUN.stats[name] == pytest.approx(BY_HAND[name], rel=1e-12, abs=1e-15, nan_ok=True)


def account(returns, benchmark=None, net=(), **changes):
    """Return the account of returns on the weekdays from 2024 on, 252 of them a year, with these trades if any."""
    returns, net = np.asarray(returns, dtype=float), np.asarray(net, dtype=float)
    trades = Trades(net, net / 50, np.ones(len(net)), np.minimum(net, 0) / 50, np.maximum(net, 0) / 50)
    whole = {
        "days": np.busday_offset("2024-01-01", np.arange(len(returns))), "equity": equity_of(returns, 100.0),
        "returns": returns, "held": returns != 0, "trades": trades, "still_open": 0, "traded": 100.0 * len(net),
        "costs": 0.1 * len(net), "risk_free": 0.0, "periods": 252.0, "benchmark": benchmark,
    }  # fmt: skip
    return Account(**whole | changes)


def of_equity(equity):
    equity = np.array(equity, dtype=float)
    return account(returns_of(equity), equity=equity)


NOISE = np.random.default_rng(5).normal(0.0005, 0.01, (2, 252))
EDGES = {
    "empty": account([], np.array([])),
    "one session": account([0.01], np.array([0.02]), [3.0]),
    "one loss": account([-0.01], np.array([0.02]), [-3.0]),
    "constant": account([0.0] * 300, np.full(300, 0.01), [1.0, 1.0]),
    "constant growth": account([0.001] * 300, NOISE[1].repeat(2)[:300]),
    "all losses": account([-0.01, -0.02] * 150, NOISE[1].repeat(2)[:300], [-1.0, -2.0]),
    "all gains": account([0.01, 0.02] * 150, np.abs(NOISE[1]).repeat(2)[:300], [1.0, 2.0]),
    "ruin": of_equity([100.0, 50.0, *[0.0] * 300]),
    "ruin beside a benchmark": account([0.1, -1.0, *[0.0] * 298], NOISE[1].repeat(2)[:300]),
    "a ruined benchmark": account(NOISE[0], np.array([-1.0, *[0.0] * 251])),
    "a loss in the first session": account([-0.5, *NOISE[0]], np.array([0.0, *NOISE[1]])),
    "a rate above every return": account(NOISE[0], NOISE[1], risk_free=1e100),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.filterwarnings("error")
def test_at_the_edges_a_metric_is_a_number_or_says_why_it_is_none(edge):
    found = {name: metric.function(EDGES[edge]) for name, metric in METRICS.items()}

    assert [name for name, value in found.items() if math.isinf(value)] == []
    unsaid = [name for name, value in found.items() if value != value and not isinstance(value, Undefined)]
    assert unsaid == []
    assert {value.reason for value in found.values() if value != value} <= REASONS.keys() - {"undefined"}


NEED_A_FALL = {"sortino", "omega", "kappa3", "upside_potential", "martin", "pain_ratio", "burke", "burke_modified",
               "calmar"}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_of_nothing_only_counts_are_known(name):
    value = METRICS[name].function(EDGES["empty"])

    none = ("too few", "no trades", "no gain", "no loss", "left out", "no margin account")
    assert value == 0 if name in COUNTED else value.reason in none


def test_what_divides_by_falls_is_not_defined_where_there_are_none_and_is_where_there_are():
    for name in NEED_A_FALL:
        assert METRICS[name].function(EDGES["all gains"]).reason in ("no loss", "no drawdown")
        assert METRICS[name].function(EDGES["all losses"]) <= 0


def test_what_divides_by_a_deviation_is_not_defined_where_nothing_varies():
    ratios = [name for name in METRICS if name.startswith("sharpe")]
    ratios += ["skew", "kurtosis", "correlation", "m2"]

    for edge in ("constant", "constant growth"):
        assert {METRICS[name].function(EDGES[edge]).reason for name in ratios} == {"constant"}
        assert METRICS["volatility"].function(EDGES[edge]) == pytest.approx(0, abs=1e-12)


def test_ruin_is_the_loss_of_everything():
    for name in ("total_return", "cagr", "max_drawdown", "worst_session", "worst_month", "worst_year", "calmar"):
        assert METRICS[name].function(EDGES["ruin"]) == -1
    assert METRICS["max_drawdown_sessions"].function(EDGES["ruin"]) == 301


def test_a_loss_in_the_first_session_counts_from_the_initial_cash():
    first = EDGES["a loss in the first session"]

    assert METRICS["worst_session"].function(first) == -0.5
    assert METRICS["max_drawdown"].function(first) <= -0.5
    assert METRICS["total_return"].function(first) == pytest.approx(0.5 * np.prod(1 + NOISE[0]) - 1)


OF_RETURNS = [name for name, metric in METRICS.items() if metric.group in ("return", "risk", "drawdown", "benchmark")]


@pytest.mark.parametrize("name", OF_RETURNS)
def test_a_return_that_is_no_number_is_refused_by_every_metric(name):
    returns = NOISE[0].copy()
    returns[100] = math.nan

    with pytest.raises(ValueError, match=r"positions 10[01]"):
        METRICS[name].function(account(returns, NOISE[1]))


random_runs = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(0.0005, 0.01, (2, 260)))


@pytest.mark.slow
@given(random_runs, st.integers(-8, 12).map(lambda power: 2.0**power))
def test_in_another_currency_money_is_scaled_and_nothing_else(returns, factor):
    net = 1e3 * returns[0][:20]
    one = account(*returns, net)
    other = replace(
        one, equity=factor * one.equity, traded=factor * one.traded, costs=factor * one.costs,
        trades=replace(one.trades, net=factor * net),
    )  # fmt: skip

    for name, metric in METRICS.items():
        expected = metric.function(one) * (factor if metric.unit == "money" else 1)
        assert metric.function(other) == pytest.approx(expected, rel=1e-9, nan_ok=True), name


# What hangs on the order of sessions, or of trades; all else must not.
ORDERED = {
    *(
        "best_month",
        "worst_month",
        "best_year",
        "worst_year",
        "sharpe_autocorrelated",
        "sharpe_low",
        "sharpe_high",
        "turnover",
        "cost_drag",
    ),
    *("longest_drawdown_sessions", "longest_drawdown_days"),
    *("max_drawdown", "max_drawdown_sessions", "max_drawdown_days", "average_drawdown", "ulcer", "pain", "martin"),
    *("pain_ratio", "burke", "burke_modified", "calmar", "active_drawdown", "winning_streak", "losing_streak"),
}


@pytest.mark.slow
@given(random_runs, st.randoms(use_true_random=False))
def test_the_order_of_sessions_and_trades_matters_to_no_other_metric(returns, random):
    rows, net = random.sample(range(260), 260), 1e3 * returns[0][:20]
    one = account(*returns, net)
    other = account(*returns[:, rows], random.sample(list(net), 20))

    for name in METRICS.keys() - ORDERED:
        found, expected = METRICS[name].function(other), METRICS[name].function(one)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), name


def test_the_order_does_matter_to_those_that_hang_on_it():
    one, other = account(*NOISE, 1e3 * NOISE[0][:20]), account(*np.sort(NOISE), np.sort(1e3 * NOISE[0][:20]))

    for name in ORDERED:
        assert METRICS[name].function(one) != METRICS[name].function(other), name


def test_no_metric_is_left_out_here():
    assert BY_HAND.keys() == METRICS.keys()
    assert METRICS.keys() >= ORDERED | NEED_A_FALL | COUNTED


# --- many runs at once

MANY = np.random.default_rng(7).normal(0.0004, 0.012, (5, 300))
MANY[1] = 0.001  # which does not vary
MANY[2] = abs(MANY[2])  # which loses nothing
MANY[3, 200] = -1.0  # after which it is ruined, and stays so
MANY[3, 201:] = 0.0
BESIDE = np.random.default_rng(8).normal(0.0004, 0.01, 300)


def several():
    nets = [[3.0, -1.0, 2.5], [], [1.0], [-4.0, -2.0], [0.5, 0.5, -0.25, 9.0]]
    return [account(returns, BESIDE, net, risk_free=0.02) for returns, net in zip(MANY, nets, strict=True)]


@pytest.mark.parametrize("name", METRICS)
def test_a_number_of_many_runs_at_once_is_that_of_each_alone(name):
    every = several()

    found = measure_all(Accounts.of(every))[name]

    assert found.tobytes() == np.array([METRICS[name].function(one) for one in every], dtype=float).tobytes()


def test_many_runs_at_once_have_the_numbers_that_numpy_has_of_each_array():
    every, rate = several(), math.expm1(math.log1p(0.02) / 252)

    found = measure_all(Accounts.of(every))

    for n in (0, 2, 4):
        own = MANY[n]
        excess = own - rate
        away = own - own.mean()
        assert found["volatility"][n] == own.std(ddof=1) * math.sqrt(252)
        assert found["sharpe"][n] == excess.mean() / excess.std(ddof=1) * math.sqrt(252)
        assert found["skew"][n] == (away * away) @ away / 300 / float(np.mean(away * away)) ** 1.5
        assert found["var"][n] == np.quantile(own, 0.05)
        assert found["es"][n] == own[own <= np.quantile(own, 0.05)].mean()
        assert found["max_drawdown"][n] == (every[n].equity / np.maximum.accumulate(every[n].equity) - 1).min()
        assert found["beta"][n] == beta(own, BESIDE, 0.02)


def test_runs_of_several_blocks_have_the_numbers_of_one():
    every, times = several(), 30

    found, once = measure_all(Accounts.of(every * times)), measure_all(Accounts.of(every))

    assert all(found[name].tobytes() == np.tile(once[name], times).tobytes() for name in METRICS)


def test_the_trades_of_runs_with_as_many_have_the_numbers_that_numpy_has_of_each_list():
    nets = np.random.default_rng(9).normal(1, 40, (4, 45))
    runs = Accounts.of([account(MANY[0], BESIDE, own) for own in (*nets[:3], nets[3, :44])])

    found = measure_all(runs)

    for n, own in enumerate((*nets[:3], nets[3, :44])):
        gain, loss = own[own > 0], own[own < 0]
        assert found["expectancy"][n] == own.mean()
        assert found["win_rate"][n] == len(gain) / len(own)
        assert (found["average_win"][n], found["average_loss"][n]) == (gain.mean(), loss.mean())
        assert found["payoff"][n] == gain.mean() / -loss.mean()
        assert found["profit_factor"][n] == gain.sum() / -loss.sum()
        assert found["sqn"][n] == math.sqrt(len(own)) * own.mean() / own.std(ddof=1)
        assert (found["best_trade"][n], found["worst_trade"][n]) == (own.max(), own.min())
        streaks = "".join("+" if one else " " for one in own > 0).split()
        assert found["winning_streak"][n] == max(map(len, streaks))


def test_an_impossible_return_of_one_of_many_is_refused():
    every = several()
    wrong = replace(every[0], returns=np.where(np.arange(300) == 7, math.inf, every[0].returns))

    with pytest.raises(ValueError, match="not below -1"):
        measure_all(Accounts.of([*every, wrong]))
