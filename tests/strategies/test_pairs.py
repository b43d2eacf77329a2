"""The pair strategy, against statsmodels: hedge ratio, spread, z-score, cointegration, and the whole run."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from ledger import Ledger, bars_of
from statsmodels.regression.rolling import RollingOLS
from statsmodels.tsa.stattools import coint

from backtest._resources import bundled
from backtest.api import run
from backtest.cli.app import main
from backtest.engine.code.strategy import load_strategy
from backtest.market.bars import table_of
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

PAIRS = load_strategy(str(bundled("strategies") / "pairs.py")).cls
hedge, cointegration = (PAIRS.enter.__globals__[name] for name in ("hedge", "cointegration"))
AAPL_MSFT = ["AAPL/1day", "MSFT/1day"]


def gold(seed, count=250):
    """Return prices like those of gold and its miners: one wanders, the other follows with an error that goes back."""
    chance = np.random.default_rng(seed)
    miners = 45 + np.cumsum(chance.normal(0, 0.6, count))
    error = np.zeros(count)
    for n in range(1, count):
        error[n] = 0.85 * error[n - 1] + chance.normal(0, 0.8)
    return np.column_stack([60 + 1.4 * miners + error, miners])


@pytest.mark.parametrize("seed", range(5))
def test_hedge_and_cointegration_of_a_made_up_pair_are_those_of_statsmodels(seed):
    prices = gold(seed)

    fitted = sm.OLS(prices[:, 0], sm.add_constant(prices[:, 1])).fit()
    assert hedge(prices) == pytest.approx([*fitted.params, np.sqrt(fitted.mse_resid)], rel=1e-9)
    for lags in (0, 1, 4):
        assert cointegration(prices, lags) == pytest.approx(
            coint(prices[:, 0], prices[:, 1], maxlag=lags, autolag=None)[0], rel=1e-7
        )


@pytest.mark.parametrize("names", [AAPL_MSFT, ["IBM/1day", "AAPL/1day"], ["GOOG/1day", "MSFT/1day"]])
def test_hedge_and_cointegration_of_real_prices_are_those_of_statsmodels(sample, names):
    closes = pd.DataFrame({name: frame.close for name, frame in bars_of(sample, names).items()}).dropna().to_numpy()

    for start in range(0, len(closes) - 60, 97):
        prices = closes[start : start + 60]
        fitted = sm.OLS(prices[:, 0], sm.add_constant(prices[:, 1])).fit()
        assert hedge(prices) == pytest.approx([*fitted.params, np.sqrt(fitted.mse_resid)], rel=1e-8)
        assert cointegration(prices) == pytest.approx(
            coint(prices[:, 0], prices[:, 1], maxlag=1, autolag=None)[0], rel=1e-6
        )


def test_a_pair_that_comes_back_is_told_from_two_that_wander():
    chance = np.random.default_rng(1)
    strangers = [100 + np.cumsum(chance.normal(size=(250, 2)), axis=0) for _ in range(40)]

    assert sum(cointegration(gold(seed)) < -3.34 for seed in range(40)) >= 36
    assert sum(cointegration(prices) < -3.34 for prices in strangers) <= 6  # one in twenty is expected


def test_two_that_cannot_be_compared_have_no_statistic():
    still = np.column_stack([np.arange(10.0), np.full(10, 3.0)])
    multiple = np.column_stack([2 * np.arange(1.0, 11.0), np.arange(1.0, 11.0)])

    assert np.isnan(hedge(still)).all()
    assert np.isnan(cointegration(still))
    assert np.isnan(cointegration(multiple))


def rules(bars, names, window, critical):
    """Return what decides as the strategy does, by the regressions of statsmodels: one of the bars before each."""
    closes = pd.DataFrame({name: bars[name].close for name in names}).dropna()
    first, second = (closes[name] for name in names)
    fitted = RollingOLS(first, sm.add_constant(second), window=window).fit()
    past = fitted.params.shift(1)
    deviation = np.sqrt(fitted.mse_resid).shift(1)
    score = (first - past["const"] - past[names[1]] * second) / deviation
    state = {"given_up": False}

    def decide(ledger, number, day):
        z = score.get(day, np.nan)
        if np.isnan(z):
            return
        held = ledger.held[names[0]]
        state["given_up"] = state["given_up"] and abs(z) > 0.5
        if held:
            state["given_up"] |= abs(z) >= 4
            if (z >= -0.5 if held > 0 else z <= 0.5) or state["given_up"]:
                yield from sorted(((name, -ledger.held[name]) for name in names), key=lambda order: order[1])
            return
        ratio = past.at[day, names[1]]
        if state["given_up"] or ratio <= 0 or not 2 <= abs(z) < 4:
            return
        if critical:
            at = closes.index.get_loc(day)
            seen = closes.iloc[at - window : at].to_numpy()
            if coint(seen[:, 0], seen[:, 1], maxlag=1, autolag=None)[0] >= critical:
                return
        shares = int(ledger.equity[-1] * 0.95 / (first.at[day] + ratio * second.at[day]))
        side = -1 if z > 0 else 1
        yield from sorted([(names[0], side * shares), (names[1], -side * round(ratio * shares))], key=lambda o: o[1])

    return decide


@pytest.mark.slow
@pytest.mark.parametrize(("critical", "window"), [(0.0, 60), (-3.04, 90)])
def test_the_run_is_the_one_that_statsmodels_leads_to(sample, critical, window):
    bars = bars_of(sample, AAPL_MSFT)

    result = run("pairs", AAPL_MSFT, store=sample, params={"critical": critical, "window": window})

    ledger = Ledger(bars).run(rules(bars, AAPL_MSFT, window, critical))
    assert [(row.time, row.series, row.size, row.price) for row in result.fills.itertuples()] == ledger.fills
    assert len(ledger.fills) >= 20
    assert result.equity.to_numpy() == pytest.approx(np.array(ledger.equity), rel=1e-11)


def prices_store(folder, first, second, days):
    """Return a store with bars of two series that open and close at the prices given, but for overriding opens."""
    store = Store(folder)
    for name, rows in (("GLD/1day", first), ("GDX/1day", second)):
        table = table_of([(day, p, p, p, p, 1000.0, None, None) for day, p in zip(days, rows, strict=True) if p])
        store.write(Series.parse(name), Span(days[0], days[-1] + timedelta(days=1)), table)
    return store


def days_from_2024(count):
    return [day.to_pydatetime() for day in pd.bdate_range("2024-01-02", periods=count, tz="UTC")]


def test_a_pair_makes_money_when_it_comes_together_again(tmp_path):
    prices = gold(3, 120)
    prices[100:103, 0] += 12  # for three days they part

    store = prices_store(tmp_path, *np.round(prices, 4).T, days_from_2024(120))
    result = run("pairs", ["GLD/1day", "GDX/1day"], store=store, params={"stop": 99.0}, costs="none")

    entry = result.trades[result.trades["entry"] >= pd.Timestamp(days_from_2024(120)[101])].iloc[:2]
    assert set(np.sign(entry["size"])) == {-1, 1}
    assert entry["net"].sum() > 0


def test_when_a_leg_is_refused_the_other_is_given_up(tmp_path):
    prices = gold(3, 70)
    prices[65, 0] += 15  # sell the first, buy the second ...
    prices[66:, 1] *= 9  # ... which nobody can pay at the next open

    store = prices_store(tmp_path, *np.round(prices, 4).T, days_from_2024(70))
    result = run("pairs", ["GLD/1day", "GDX/1day"], store=store, params={"entry": 6.0, "stop": 99.0})

    late = result.orders[result.orders["created"] >= pd.Timestamp(days_from_2024(70)[65])]
    assert late["status"].tolist()[:2] == ["Completed", "Margin"]
    assert result.positions.iloc[66].tolist()[0] < 0
    assert result.positions.iloc[67].tolist() == [0, 0]


def test_a_bar_that_only_one_of_them_has_is_no_bar_of_the_pair(tmp_path):
    prices, days = np.round(gold(3, 90), 4), days_from_2024(90)
    lacking = [None if n in (70, 75) else price for n, price in enumerate(prices[:, 1])]
    both = [n for n in range(90) if n not in (70, 75)]

    gaps = run("pairs", ["GLD/1day", "GDX/1day"], store=prices_store(tmp_path / "a", prices[:, 0], lacking, days))
    kept = [days[n] for n in both]
    none = run("pairs", ["GLD/1day", "GDX/1day"], store=prices_store(tmp_path / "b", *prices[both].T, kept))

    assert gaps.orders["created"].tolist() == none.orders["created"].tolist() != []


@pytest.mark.slow
def test_a_pair_of_csv_files_is_imported_and_run_from_the_command_line(tmp_path, capsys):
    held = sessions(hours_of(Series.parse("GLD/1day").instrument), date(2024, 1, 2), date(2024, 12, 24))
    days, prices = [session.day for session in held], np.round(gold(7, len(held)), 4)
    for name, column in (("GLD", prices[:, 0]), ("GDX", prices[:, 1])):
        lines = [f"{day:%Y-%m-%d},{p},{p},{p},{p},1000" for day, p in zip(days, column, strict=True)]
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(["date,open,high,low,close,volume", *lines]))
        main_ok(["import", str(path), f"{name}/1day", "--store", str(tmp_path / "bars")])

    words = ["run", "pairs", "GLD/1day", "GDX/1day", "--store", str(tmp_path / "bars"), "--set", "critical=-3.04"]
    main_ok([*words, "--out", str(tmp_path / "run")])

    assert "Pairs on GLD/1day, GDX/1day" in capsys.readouterr().out


def main_ok(words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
