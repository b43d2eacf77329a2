"""Each strategy that comes along: recomputed without Backtrader, blind to the future, and steady at the edges."""

import random
from datetime import date, timedelta
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from ledger import Ledger, bars_of

from backtest import replay
from backtest._resources import bundled
from backtest.api import run
from backtest.cli.app import main
from backtest.engine.code.strategy import load_strategy
from backtest.errors import StrategyError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.lookahead import look_ahead
from backtest.store.store import Store

ONE, TWO = ["AAPL/1day"], ["AAPL/1day", "IBM/1day"]
FOUR = ["AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day"]
NEEDS_TWO = ("cross_sectional_momentum", "pairs")
WAITS = {"bollinger": 20, "rsi2": 200, "sma_cross": 30}  # bars that Backtrader's own indicators ask for
EVERY = sorted(path.stem for path in bundled("strategies").glob("*.py"))


def series_for(name):
    return TWO if name in NEEDS_TWO else ONE


def assert_same(result, ledger, checked=40):
    ours = [(row.time, row.series, row.size, row.price) for row in result.fills.itertuples()]
    assert ours[:checked] == ledger.fills[:checked]
    assert len(ours) == len(ledger.fills) > 2
    assert result.equity.to_numpy() == pytest.approx(np.array(ledger.equity), rel=1e-11)


def in_or_out(bars, enters, leaves):
    """Return what decides to hold an equal part of each series from its `enters` to its `leaves`, frames of truths."""

    def decide(ledger, number, day):
        free = ledger.cash
        for name in bars:
            if not ledger.held[name] and enters[name].at[day]:
                money = 0.95 * min(ledger.equity[-1] / len(bars), free)
                free -= money
                yield name, int(money / bars[name].at[day, "close"])
            elif ledger.held[name] and leaves[name].at[day]:
                yield name, -ledger.held[name]

    return decide


# --- recomputed


@pytest.mark.slow
def test_bollinger_by_rolling_windows(sample):
    bars = bars_of(sample, TWO)
    mean = {name: frame.close.rolling(20).mean() for name, frame in bars.items()}
    low = {name: mean[name] - 2 * frame.close.rolling(20).std(ddof=0) for name, frame in bars.items()}
    enters = {name: frame.close < low[name] for name, frame in bars.items()}
    leaves = {name: frame.close >= mean[name] for name, frame in bars.items()}

    result = run("bollinger", TWO, store=sample)

    assert_same(result, Ledger(bars).run(in_or_out(bars, enters, leaves)))


def wilder(values, period):
    """Return Wilder's average: the plain one of the first values, then each new one weighs 1 / period."""
    out = np.full(len(values), np.nan)
    out[period] = values[1 : period + 1].mean()  # the first has no change
    for n in range(period + 1, len(values)):
        out[n] = out[n - 1] + (values[n] - out[n - 1]) / period
    return out


def test_rsi2_by_wilders_recursion(sample):
    bars = bars_of(sample, ONE)
    close = bars["AAPL/1day"].close
    change = close.diff().to_numpy()
    up, down = wilder(np.maximum(change, 0), 2), wilder(np.maximum(-change, 0), 2)
    rsi = pd.Series(100 * up / (up + down), close.index)
    trend = close.rolling(200).mean()

    result = run("rsi2", ONE, store=sample)

    rules = in_or_out(bars, {"AAPL/1day": (rsi < 10) & (close > trend)}, {"AAPL/1day": (rsi > 70) & trend.notna()})
    assert_same(result, Ledger(bars).run(rules))


def risen(frame, lookback=252, skip=21):
    return frame.close.shift(skip) / frame.close.shift(lookback)


@pytest.mark.slow
@pytest.mark.parametrize("short", [False, True])
def test_time_series_momentum_by_shifts(sample, short):
    bars = bars_of(sample, FOUR)
    ratio = {name: risen(frame) for name, frame in bars.items()}

    def decide(ledger, number, day):
        if (number + 1) % 21:
            return
        change = {}
        for name, frame in bars.items():
            known = np.nan_to_num(np.sign(ratio[name].get(day, np.nan) - 1))
            side = max(known, -1 if short else 0)
            wanted = int(side * ledger.equity[-1] * 0.95 / 4 / frame.at[day, "close"]) if side else 0
            change[name] = wanted - ledger.held[name]
        yield from sorted(change.items(), key=lambda order: order[1])

    result = run("time_series_momentum", FOUR, store=sample, params={"short": short})

    assert_same(result, Ledger(bars).run(decide))
    assert (result.positions.min() < 0).any() == short


@pytest.mark.slow
def test_cross_sectional_momentum_by_ranks(sample):
    bars = bars_of(sample, FOUR)
    ratio = pd.DataFrame({name: risen(frame) for name, frame in bars.items()})

    def decide(ledger, number, day):
        if (number + 1) % 21 or ratio.loc[day].count() < 2:
            return
        best = ratio.loc[day].nlargest(2).index
        wanted = {name: ledger.shares(name, day, parts=2) if name in best else 0 for name in bars}
        yield from sorted(((name, wanted[name] - ledger.held[name]) for name in bars), key=lambda order: order[1])

    result = run("cross_sectional_momentum", FOUR, store=sample)

    assert_same(result, Ledger(bars).run(decide))
    assert (result.positions.iloc[600:] > 0).sum(axis=1).between(1, 3).all()


@pytest.mark.slow
def test_volatility_target_by_a_rolling_deviation(sample):
    bars = bars_of(sample, TWO)
    spread = {name: frame.close.pct_change().rolling(20).std() * np.sqrt(252) for name, frame in bars.items()}

    def decide(ledger, number, day):
        for name, frame in bars.items():
            share = min(0.95, 0.10 / spread[name].at[day])
            if np.isnan(spread[name].at[day]):
                continue
            wanted = int(ledger.equity[-1] / 2 * share / frame.at[day, "close"])
            if abs(wanted - ledger.held[name]) > 0.1 * max(wanted, ledger.held[name]):
                yield name, wanted - ledger.held[name]

    result = run("volatility_target", TWO, store=sample)

    assert_same(result, Ledger(bars).run(decide))
    assert 0.07 < result.stats["volatility"] < 0.11  # two halves at 10 % each, not quite one with the other


@pytest.mark.slow
def test_random_baseline_by_the_same_coin(sample):
    bars, coin = bars_of(sample, TWO), random.Random(5)
    days = bars["AAPL/1day"].index
    tosses = pd.DataFrame([{name: coin.random() < 0.05 for name in TWO} for _ in days], days)

    result = run("random_baseline", TWO, store=sample, params={"seed": 5})

    assert_same(result, Ledger(bars).run(in_or_out(bars, tosses, tosses)))


# --- what holds of each


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("cuts", [2, pytest.param(3, marks=pytest.mark.soak)])
def test_no_strategy_knows_the_future(sample, name, cuts):
    params = {"least": 150, "window": 200, "model": "descent"} if name == "machine_learning" else {}
    span = (date(2008, 1, 2), date(2010, 6, 30))

    leaks = look_ahead(load_strategy(name).cls, series_for(name), store=sample, span=span, params=params, cuts=cuts)

    assert leaks == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_runs_in_bare_backtrader_as_in_ours(sample, name):
    cerebro = bt.Cerebro()
    for text in series_for(name):
        series = Series.parse(text)
        cerebro.adddata(replay(sample.read(series).slice(0, 1000), series))
    cerebro.broker.setcash(100_000.0)
    cerebro.broker.setcommission(0.0)
    cerebro.addstrategy(load_strategy(name).cls)

    cerebro.run()

    end = sample.read(Series.parse("AAPL/1day"))["time"][999].as_py().date()
    ours = run(name, series_for(name), store=sample, costs="none", span=(None, end))
    assert cerebro.broker.getvalue() == ours.equity.iloc[-1] != 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_runs_from_the_command_line(sample, tmp_path, capsys, name):
    dates = ["--since", "2005-01-03", "--until", "2007-06-29"]

    with pytest.raises(SystemExit) as ended:
        main(
            [
                "run",
                f"strategies/{name}.py",
                *series_for(name),
                *dates,
                "--store",
                str(sample.root),
                "--out",
                str(tmp_path),
            ]
        )

    assert ended.value.code == 0
    assert "Sharpe ratio" in capsys.readouterr().out


@pytest.mark.parametrize("bars", [1, 2, 5])
@pytest.mark.parametrize("name", EVERY)
def test_a_handful_of_bars_is_no_reason_to_crash(sample, name, bars):
    end = sample.read(Series.parse("AAPL/1day"))["time"][bars - 1].as_py().date()

    if bars < WAITS.get(name, 0):
        with pytest.raises(
            StrategyError, match=f"further back than the {bars} {'bar' if bars == 1 else 'bars'} of the run"
        ):
            run(name, series_for(name), store=sample, span=(None, end))
    else:
        assert len(run(name, series_for(name), store=sample, span=(None, end)).equity) == bars


@pytest.mark.parametrize(
    ("name", "params", "hint"),
    [
        ("time_series_momentum", {"skip": 300}, "skip=300"),
        ("cross_sectional_momentum", {"hold": 3}, "hold=3 of 2 series"),
        ("pairs", {"entry": 5.0}, "entry=5.0 < stop=4.0"),
        ("machine_learning", {"model": "oracle"}, "logistic, trees, descent"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(sample, name, params, hint):
    with pytest.raises(StrategyError, match=hint):
        run(name, TWO, store=sample, params=params)


def test_the_costs_are_paid_out_of_what_is_left(sample):
    for name in ("bollinger", "time_series_momentum", "random_baseline"):
        result = run(name, FOUR, store=sample)

        assert set(result.orders["status"]) <= {"Completed", "Submitted"}  # none was refused; the last may wait
        assert result.record["cash"].to_numpy().min() > 0


def test_every_strategy_has_a_module_of_its_own_and_says_what_it_does():
    for name in EVERY:
        lines = (Path(bundled("strategies")) / f"{name}.py").read_text().splitlines()
        assert lines[0].startswith('"""')
        assert lines[0].endswith('."""')


# --- products


QUOTED = ("BP", "VOD")
UNITS = {  # the same path of prices: as it is, in pence, and as a contract of 50
    "dollars": (1.0, "{}-STK-LSE-USD/1day", "USD"),
    "pence": (100.0, "{}-STK-LSE-GBP/1day", "GBP"),
    "contracts": (1 / 50, "{}-FUT-CME-USD-202612+multiplier=50/1day", "USD"),
}


@pytest.fixture(scope="module")
def quoted(sample, tmp_path_factory) -> dict[str, Store]:
    """Return a store in each unit of six years of two series."""
    stores = {unit: Store(tmp_path_factory.mktemp(unit)) for unit in UNITS}
    for name, like in zip(QUOTED, TWO, strict=True):
        bars = sample.read(like, Span.of_dates("2000-03-01", "2005-12-30")).to_pandas().set_index("time")
        rounded = (bars[["open", "high", "low", "close"]] * 4).round() / 4  # exact in each unit
        for unit, (factor, spelling, _) in UNITS.items():
            prices = (rounded * factor).itertuples()
            rows = [(day.to_pydatetime(), *four, 1e6, None, None) for day, *four in prices]
            span = Span(rows[0][0], rows[-1][0] + timedelta(1))
            stores[unit].write(Series.parse(spelling.format(name)), span, table_of(rows))
    return stores


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_buys_as_much_whatever_its_prices_are_quoted_in(name, quoted):
    sizes, ends = {}, {}
    for unit, (_, spelling, currency) in UNITS.items():
        used = [spelling.format(one) for one in (QUOTED if name in NEEDS_TWO else QUOTED[:1])]
        params = {"refit": 250} if name == "machine_learning" else {}  # a fit takes longer than 63 bars
        result = run(name, used, store=quoted[unit], params=params, costs="none", currency=currency, cash=1e6)
        sizes[unit], ends[unit] = result.fills["size"].tolist(), result.equity.iloc[-1]

    assert len(sizes["dollars"]) > 0
    assert sizes["pence"] == sizes["contracts"] == sizes["dollars"]
    assert ends["pence"] == pytest.approx(ends["dollars"], rel=1e-9)
    assert ends["contracts"] == pytest.approx(ends["dollars"], rel=1e-9)
