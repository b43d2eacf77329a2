"""Members of a universe by date, and what becomes of names whose bars end."""

from __future__ import annotations

import cProfile
from datetime import date

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from market import minute_bars, span_of_sessions, store_with
from universes import CASH, FEE, EqualWeights, by_pandas, market

import backtest
from backtest import Brokerage, Store, next_orders, replay, run, run_each, sweep, walk_forward
from backtest.baselines.baseline import Baseline
from backtest.baselines.causes import repeat
from backtest.baselines.changes import Scene
from backtest.baselines.drift import judge
from backtest.errors import NoBars, UsageError
from backtest.market.series import ContractDetails, Series
from backtest.metrics.measurement import notes_of
from backtest.research.out_of_sample.walk_forward import request_of
from backtest.research.search.job import job_of
from backtest.runs.spec import with_kept_universe
from backtest.store.reader import HeldReader


@pytest.fixture(scope="module")
def small():
    return market(names=12, days=400, seed=3)


@pytest.fixture(scope="module")
def result(small):
    asked = {"universe": small.universe, "costs": FEE, "cash": CASH}
    return run(EqualWeights, small.universe, store=small.store(), **asked)


@pytest.fixture(scope="module")
def expected(small):
    return by_pandas(small, every=21)


def gap(found, expected):
    """Return by how much two columns differ at most, in parts of the larger one."""
    found, expected = (np.asarray(one, float) for one in (found, expected))
    return float(np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)))


@pytest.mark.slow
def test_a_universe_comes_to_what_pandas_makes_of_it(small, result, expected):
    assert set(result.orders_table["status"].to_pylist()) <= {"Completed", "Canceled"}
    assert len(result.manifest["universe"]["sold"]) >= 3
    assert gap(result.record["equity"], expected["equity"]) < 1e-9
    assert gap(result.record["cash"], expected["cash"]) < 1e-9
    for n, key in enumerate(result.spec.series):
        assert gap(result.record[f"position.{n}"], expected[Series.parse(key).instrument.symbol]) == 0


@pytest.mark.slow
def test_a_run_with_a_universe_stays_in_the_lean_loop(small, caplog):
    with caplog.at_level("INFO", logger="backtest.engine.lean.cerebro"):
        run(EqualWeights, small.universe, store=small.store(), universe=small.universe, start="2006-01-03")

    assert "Backtrader's own loop" not in caplog.text


@pytest.mark.slow
def test_backtraders_own_loop_comes_to_the_same(small, result, caplog):
    # slippage of none is asked for as money, which takes Backtrader's loop
    with caplog.at_level("INFO", logger="backtest.engine.lean.cerebro"):
        other = run(EqualWeights, small.universe, store=small.store(), universe=small.universe, costs=FEE, cash=CASH,
                    slippage="money:0")  # fmt: skip

    assert "Backtrader's own loop" in caplog.text

    assert gap(other.record["equity"], result.record["equity"]) < 1e-12
    assert other.manifest["universe"]["sold"] == result.manifest["universe"]["sold"]


def test_a_sale_is_at_the_last_close_and_what_was_lost_by_it(small, result):
    fills = result.fills_table.to_pandas()
    orders = result.orders_table.to_pandas().set_index("ref")
    lost = {name: given for name, _, _, given in small.rows if given is not None}
    assert any(f"{name}/1day" in result.manifest["universe"]["sold"] for name in lost)
    for name, day in result.manifest["universe"]["sold"].items():
        sale = fills[fills["series"] == name].iloc[-1]
        symbol = name.removesuffix("/1day")
        assert str(sale["time"].date()) == day == str(small.closes[symbol].last_valid_index().date())
        assert sale["price"] == pytest.approx(small.closes[symbol].dropna().iloc[-1] * (1 + lost.get(symbol, 0.0)))
        assert orders.loc[sale["ref"], "kind"] == "Close"


def test_without_a_universe_nothing_is_sold_and_all_that_trade_belong(small):
    plain = run(EqualWeights, small.series, store=small.store(), costs=FEE, cash=CASH)

    assert "universe" not in plain.manifest
    assert "Close" not in plain.orders_table["kind"].to_pylist()


class Notes(bt.Strategy):
    def __init__(self):
        self.seen = []

    def prenext(self):
        self.next()

    def next(self):
        found = backtest.members(self)
        assert [feed in found for feed in self.datas] == [any(one is feed for one in found) for feed in self.datas]
        self.seen.append([feed._name for feed in found])


def test_under_a_bare_cerebro_all_feeds_that_trade_belong(small):
    cerebro, names = bt.Cerebro(stdstats=False), [f"{name}/1day" for name in small.closes.columns]
    store = small.store()
    for name in names:
        cerebro.adddata(replay(store.read(name), name))
    cerebro.addstrategy(Notes)

    (ran,) = cerebro.run()

    rows = small.closes.notna().to_numpy()
    assert ran.seen == [[name for name, trades in zip(names, row, strict=True) if trades] for row in rows]


class WhenItBelongs(bt.Strategy):
    """Notes when its bars that belong are over, UTC."""

    def __init__(self):
        self.notes = {"times": []}

    def next(self):
        if backtest.members(self):
            self.notes["times"].append(str(self.data.datetime.datetime(0)))


def test_bars_within_a_day_belong_by_the_session_of_their_exchange():
    sydney = Series.parse("BHP-STK-ASX-AUD/1hour")  # where the session of the 12th begins at 23:00 UTC on the 11th
    bars = HeldReader("made up", {sydney: minute_bars(sydney, date(2021, 1, 11), date(2021, 1, 13))})

    found = run(WhenItBelongs, sydney, store=bars, universe=[("BHP-STK-ASX-AUD", "2021-01-12", "2021-01-12")])

    assert found.manifest["notes"]["times"] == [f"2021-01-12 {hour:02}:00:00" for hour in range(6)]


def test_members_is_asked_by_a_strategy():
    with pytest.raises(UsageError, match=r"write backtest\.members"):
        backtest.members(7)


# --- names without bars


def test_a_name_without_bars_is_refused_with_its_member_days(small):
    stored = [name for name in small.closes.columns if name != "N004"]
    days = sum(len(small.closes.loc[first : last or None]) for name, first, last, _ in small.rows if name == "N004")

    with pytest.raises(NoBars, match=rf"1 of the 12 members .* on {days} of [\d,]+ member-days: N004/1day \({days}\)"):
        run(EqualWeights, small.universe, store=small.store(stored), universe=small.universe)


@pytest.mark.slow
def test_a_name_without_bars_that_is_allowed_is_told(small):
    stored = [name for name in small.closes.columns if name != "N004"]

    found = run(EqualWeights, small.universe, store=small.store(stored), universe=small.universe,
                missing_members="allow")  # fmt: skip

    assert found.manifest["universe"]["absent"] == ["N004/1day"]
    assert "N004-STK-SMART-USD/1day/TRADES/rth" not in found.spec.series
    assert any("12 members of the universe, 1 have no bars (N004/1day)" in note for note in notes_of(found))
    assert "member-days are missing" in str(found.validity.verdict)


def test_a_name_that_ended_before_the_run_is_left_out_of_it(small):
    gone = [name for name in small.closes if small.closes[name].last_valid_index() < small.closes.index[300]]
    assert gone

    found = run(EqualWeights, small.universe, store=small.store(), universe=small.universe,
                start=small.closes.index[320].date())  # fmt: skip

    assert len(found.spec.series) == 12 - len(gone)
    assert found.manifest["universe"]["absent"] == []


# --- orders at the end


class Orders(bt.Strategy):
    """Buys one share of the feed that ends, and orders more at its last bar."""

    params = (("how", "market"),)

    def next(self):
        ending = self.datas[1]
        if len(self) == 2:
            self.buy(ending, size=5)
        if len(ending) == 5 and len(self) == 5:
            if self.p.how == "limit":
                self.sell(ending, size=5, exectype=bt.Order.Limit, price=1e6)
            else:
                self.sell(ending, size=5)


def ending(days=9, last=5):
    frame = pd.DataFrame({"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 1.0},
                         pd.bdate_range("2020-01-06", periods=days))  # fmt: skip
    return {"ON/1day": frame, "END/1day": frame.iloc[:last]}


@pytest.mark.parametrize("how", ["market", "limit"])
@pytest.mark.parametrize("fills", ["next-bar", "this-close"])
def test_what_was_ordered_at_the_last_bar_is_not_done_twice(how, fills):
    found = run(Orders, ending(), universe=[("ON", "", ""), ("END", "", "2020-01-10")], params={"how": how},
                costs="none", fills=fills)  # fmt: skip

    assert found.record["position.1"].to_pylist()[-5:] == [0.0] * 5
    assert found.record["equity"][-1].as_py() == 100_000 + (5.0 if fills == "next-bar" else 0.0)
    assert not set(found.orders_table["status"].to_pylist()) - {"Completed", "Canceled"}


def test_a_short_position_is_bought_back():
    class Shorts(bt.Strategy):
        def next(self):
            if len(self) == 2:
                self.sell(self.datas[1], size=5)

    found = run(Shorts, ending(), universe=[("ON", "", ""), ("END", "", "", -0.5)], costs="none", slippage="0.25",
                volume_cap=1.0)  # fmt: skip

    # Sold at 10 less slippage, one share of the volume of each of three bars, and bought at half of the last close.
    assert found.record["position.1"].to_pylist() == [0, 0, -1, -2, 0, 0, 0, 0, 0]
    assert found.record["equity"][-1].as_py() == 100_000 + 3 * 9.75 - 3 * 5.5


def test_a_strategy_hears_of_the_sale():
    class Hears(Orders):
        def __init__(self):
            self.notes = {"heard": []}

        def notify_order(self, order):
            self.notes["heard"].append([len(self), order.getstatusname(), order.isbuy()])

    found = run(Hears, ending(), universe=[("ON", "", ""), ("END", "", "")], costs="none", params={"how": "none"})

    assert [6, "Completed", False] in found.manifest["notes"]["heard"]


# --- sweeps, baselines and the like


@pytest.mark.slow
def test_sweeps_and_walk_forwards_have_the_universe_in_their_trials(small, result, tmp_path):
    asked = {"store": small.store(), "universe": small.universe, "costs": FEE, "cash": CASH, "jobs": 1}

    found = sweep(EqualWeights, small.universe, {"every": [21, 30]}, folder=tmp_path / "sweep", **asked)
    forward = walk_forward(EqualWeights, small.universe, {"every": [21]}, train=150, test=100,
                           folder=tmp_path / "forward", **asked)  # fmt: skip

    first = next(trial for trial in found.trials if trial.params["every"] == 21)
    assert first.metrics["total_return"] == result.stats["total_return"]
    assert found.asked["asked"]["universe"] == small.universe.text
    assert request_of(found, {}, None)["universe"].rows == small.universe.rows
    assert len(forward.steps) == 3  # 250 sessions after the first 150, by 100


@pytest.mark.slow
def test_a_trial_has_the_universe_in_its_key_whichever_way_it_was_asked_for(small):
    frame = pd.DataFrame(small.rows, columns=["symbol", "from", "to", "delisting_return"])
    cases = [
        job_of(EqualWeights, small.series, store=small.store(), **asked).case
        for asked in ({"universe": small.universe}, {"brokerage": Brokerage(universe=frame)}, {})
    ]

    assert cases[0] == cases[1] != cases[2]
    with pytest.raises(UsageError, match="universe of the broker is given twice"):
        run(EqualWeights, small.series, store=small.store(), universe=frame, brokerage=Brokerage(universe=frame))


@pytest.mark.slow
def test_the_compiled_engine_leaves_a_universe_to_the_event_engine(small):
    rows = [row for row in small.rows if row[0] in ("N000", "N001")]
    asked = {"store": small.store(), "universe": rows, "engine": "compiled"}

    with pytest.raises(UsageError, match="the compiled engine does not support universe"):
        sweep("sma_cross", small.series[:2], {"fast": [5, 6]}, **asked)


def test_a_universe_is_of_many_series_in_one_run(small):
    with pytest.raises(UsageError, match="a universe needs one run on many series"):
        run_each(EqualWeights, small.series, store=small.store(), universe=small.universe)


@pytest.mark.slow
def test_next_orders_names_the_series_that_have_bars(small):
    found = next_orders(EqualWeights, small.universe, store=small.store(), universe=small.universe,
                        start=small.closes.index[320].date(), cash=CASH)  # fmt: skip

    living = [name for name in small.closes if small.closes[name].last_valid_index() >= small.closes.index[320]]
    assert [one.series for one in found.positions] == [f"{name}/1day" for name in living]
    assert not any("update it first" in note for note in found.notes)  # of those that ended nothing is missing


@pytest.mark.slow
def test_another_universe_is_another_run_and_the_cause(small, result):
    rows = [row for row in small.rows if row[0] != "N002"]
    other = run(EqualWeights, small.universe, store=small.store(), universe=rows, costs=FEE, cash=CASH)

    judgement = judge(Baseline.of(result), "equal", Scene(other.spec, small.store(), EqualWeights), other)

    assert other.spec.key != result.spec.key
    assert {cause.what: cause.verdict for cause in judgement.causes}["universe"] == "cause"


@pytest.mark.slow
def test_a_kept_universe_is_that_of_runs_made_again(small, result, tmp_path):
    result.save(tmp_path / "run")
    loaded = backtest.api.RunResult.load(tmp_path / "run")

    assert with_kept_universe(loaded.spec.brokerage, loaded.manifest).universe.rows == small.universe.rows
    again = repeat(Scene(loaded.spec, small.store(), EqualWeights, universe=small.universe))
    assert again.record["equity"].equals(result.record["equity"])
    with pytest.raises(UsageError, match="is in a file, which is not given"):
        run(EqualWeights, small.series, store=small.store(), brokerage=loaded.spec.brokerage)


@pytest.mark.soak
def test_three_hundred_names_over_fifteen_years_come_to_what_pandas_makes_of_them():
    large = market(names=300, days=15 * 252 + 10, seed=26)
    expected = by_pandas(large, every=21)

    found = run(EqualWeights, large.universe, store=large.store(), universe=large.universe, costs=FEE, cash=CASH)
    survivors = [name for name in large.closes if large.closes[name].last_valid_index() == large.closes.index[-1]]
    biased = run(EqualWeights, [f"{name}/1day" for name in survivors], store=large.store(), costs=FEE, cash=CASH)

    assert set(found.orders_table["status"].to_pylist()) <= {"Completed", "Canceled"}
    assert len(found.manifest["universe"]["sold"]) > 50
    assert gap(found.record["equity"], expected["equity"]) < 1e-9
    assert gap(found.record["cash"], expected["cash"]) < 1e-9
    for n, key in enumerate(found.spec.series):
        assert gap(found.record[f"position.{n}"], expected[Series.parse(key).instrument.symbol]) == 0
    assert biased.stats["total_return"] > found.stats["total_return"] + 0.2
    assert biased.validity.verdict.reasons[-1].startswith(f"all {len(survivors)} stocks trade to the end")
    assert not any("trade to the end" in reason for reason in found.validity.verdict.reasons)


class Calendar(bt.Strategy):
    """Note the sessions on which the feed belongs."""

    def __init__(self):
        self.belongs = []

    def next(self):
        if self.data in backtest.members(self):
            self.belongs.append(self.data.datetime.date(0).isoformat())

    def stop(self):
        Calendar.seen = self.belongs


def test_a_name_in_two_spellings_belongs_in_the_time_of_both(tmp_path):
    future, sessions = Series.parse("ES-FUT-CME-USD-20240315/1day"), (date(2024, 1, 22), date(2024, 1, 26))
    store = backtest.Store(tmp_path)
    facts = ContractDetails(contract_month="202403", last_trade_date="20240315", multiplier="50")
    bars = minute_bars(future, *sessions)
    store.write(future, span_of_sessions(future, *sessions), bars, source="market", contract=facts)
    by_month = "ES-FUT-CME-USD-202403/1day"

    rows = [(str(future), "", "2024-01-23"), (by_month, "2024-01-25", "")]
    run(Calendar, by_month, store=store, universe=rows, costs="none")

    assert Calendar.seen == ["2024-01-22", "2024-01-23", "2024-01-25", "2024-01-26"]
    with pytest.raises(UsageError, match="has overlapping memberships from 2024-01-23"):
        run(Calendar, by_month, store=store, universe=[*rows, (by_month, "2024-01-23", "2024-01-23")], costs="none")


def test_names_without_bars_in_the_time_of_a_run_are_not_compared_with_all(tmp_path):
    store = store_with(tmp_path, {"NOW/1day": ("2024-01-22", "2024-01-26"), "PAST/1day": ("2023-01-23", "2023-01-27")})
    names, seen = ["NOW/1day", "PAST/1day", "GONE/1day"], cProfile.Profile()

    seen.runcall(run, Calendar, names, store=store, start="2024-01-22", missing_members="allow", costs="none",
                 universe=[(name, "", "") for name in names])  # fmt: skip

    called = {one.code for one in seen.getstats()}
    assert len(Calendar.seen) == 5
    assert Store.manifest_or_empty.__code__ in called
    assert Store.series.__code__ not in called  # which lists the whole store, for each of them
