import gc
import json
import re
import weakref
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest

from backtest.api import run
from backtest.engine.code.strategy import load_strategy, parameters
from backtest.engine.feed import replay
from backtest.engine.simulation import memory_lacking
from backtest.errors import NoBars, StrategyError, UsageError
from backtest.market import arrays
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

DAILY = Series.parse("AAPL/1day")


@pytest.fixture
def store(tmp_path):
    """Five days at prices that are easy to reckon with: opens 10, 11, 12 ..., closes 10.5, 11.5 ..."""
    rows = [
        (datetime(2024, 1, 1 + n, tzinfo=UTC), 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 1e6, None, None) for n in range(5)
    ]
    made = Store(tmp_path / "bars")
    for text in ("AAPL/1day", "MSFT/1day"):
        made.write(Series.parse(text), Span.of_dates(date(2024, 1, 1), date(2024, 1, 5)), table_of(rows))
    return made


class BuyOnce(bt.Strategy):
    params = (("size", 100),)

    def next(self):
        if len(self) == 1:
            self.buy(size=self.p.size)
        if len(self) == 3:
            self.close()


def test_an_order_fills_at_the_next_open_and_every_cent_is_accounted_for(store):
    result = run(BuyOnce, "AAPL/1day", store=store, cash=10_000)

    assert result.fills[["size", "price", "costs"]].to_numpy().tolist() == [[100, 11.0, 1.0], [-100, 13.0, 1.0]]
    # 10,000; bought 100 at 11 for 1; marked at 11.5 and 12.5; sold at 13 for 1.
    assert result.equity.tolist() == [10_000, 10_049, 10_149, 10_198, 10_198]
    assert result.positions["AAPL/1day"].tolist() == [0, 100, 100, 0, 0]
    (trade,) = result.trades.to_dict("records")
    assert (trade["gross"], trade["costs"], trade["net"], trade["bars"]) == (200, 2, 198, 2)


@pytest.mark.parametrize("price", [lambda data: data.close, lambda data: data], ids=["a line", "a feed"])
def test_a_fill_at_a_line_is_recorded_with_what_the_line_had_then(store, price):
    class AtTheClose(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(size=10, exectype=bt.Order.Stop, price=price(self.data))

    result = run(AtTheClose, "AAPL/1day", store=store, costs="none")

    assert result.fills["price"].tolist() == [11.5]  # the close of the second bar, between its open and its high
    assert result.orders["price"].tolist() == [11.5]
    assert result.record["cash"].to_pylist() == [100_000.0] + [100_000.0 - 115.0] * 4


def test_the_one_percent_cap_beats_the_minimum(store):
    result = run(BuyOnce, "AAPL/1day", store=store, params={"size": 2})

    assert result.fills["costs"].tolist() == [0.22, 0.26]


def test_without_costs_nothing_is_charged(store):
    assert run(BuyOnce, "AAPL/1day", store=store, costs="none").fills["costs"].sum() == 0


def test_a_pair_of_dates_bounds_the_run_both_included(store):
    result = run(BuyOnce, "AAPL/1day", store=store, span=(date(2024, 1, 2), date(2024, 1, 4)))

    assert [f"{day:%d}" for day in result.equity.index] == ["02", "03", "04"]


def test_a_run_is_named_by_what_it_was_asked_and_what_it_saw(store):
    first, again = (run(BuyOnce, "AAPL/1day", store=store) for _ in range(2))

    assert first.name == again.name
    assert first.name != run(BuyOnce, "AAPL/1day", store=store, params={"size": 99}).name
    assert first.name != run(BuyOnce, "MSFT/1day", store=store).name


def test_the_manifest_says_what_the_run_saw_and_ran_on_and_no_path(store, tmp_path):
    result = run(BuyOnce, "AAPL/1day", store=store)

    assert set(result.manifest["series"]) == {str(DAILY)}
    assert result.manifest["series"][str(DAILY)]["bars"] == 5
    assert result.manifest["packages"]["backtrader"] == bt.__version__
    assert str(tmp_path) not in json.dumps(result.manifest)


@pytest.mark.parametrize(
    ("notes", "kept"),
    [({"model": "ab12"}, {"model": "ab12"}), ([1, 2], None), ({"x": float("nan")}, None), ({1: object()}, None)],
)
def test_what_a_strategy_notes_of_itself_is_in_the_manifest_if_it_can_be_kept(store, notes, kept, tmp_path):
    noting = type("Noting", (BuyOnce,), {"notes": notes})

    result = run(noting, "AAPL/1day", store=store)

    assert result.manifest.get("notes") == kept
    result.save(tmp_path / "run")


def test_several_series_have_a_column_each(store):
    result = run("buy_and_hold", ["AAPL/1day", "MSFT/1day"], store=store)

    assert list(result.positions) == ["AAPL/1day", "MSFT/1day"]
    assert (result.positions.iloc[-1] > 0).all()


def test_the_benchmark_is_recorded_beside_the_run(store):
    result = run(BuyOnce, "AAPL/1day", store=store, benchmark="MSFT/1day")

    assert result.record["benchmark"].to_pylist() == [10.5, 11.5, 12.5, 13.5, 14.5]


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("AAPL/3hours", ("14:30", "17:00", "20:00")),  # the last one is over at 21:00, when New York closes
        ("AAPL/8hours", ("14:30",)),
        ("VOD-STK-LSE-GBP/1hour", ("08:00", "12:00", "16:00")),  # London closes at 16:30
    ],
)
def test_a_bar_that_the_close_cuts_short_belongs_to_the_session_that_it_began_in(tmp_path, text, starts):
    store, series = Store(tmp_path), Series.parse(text)
    moments = [datetime.fromisoformat(f"2024-01-{day:02}T{start}+00:00") for day in (4, 5, 8) for start in starts]
    rows = [(moment, 10.0, 10.0, 10.0, 10.0, 1e6, None, None) for moment in moments]
    store.write(series, Span(moments[0], moments[-1] + timedelta(hours=8)), table_of(rows))

    result = run(BuyOnce, text, store=store, costs="none")

    sessions = [day.isoformat() for day in result.record["session"].to_pylist()]
    assert sessions == [f"2024-01-{day:02}" for day in (4, 5, 8) for _ in starts]
    assert len(result.returns) == 3


def test_intraday_bars_belong_to_the_session_of_their_exchange(tmp_path):
    store, hourly = Store(tmp_path), Series.parse("ES-FUT-CME-USD-202403+multiplier=1/1hour")
    evening = datetime(2024, 1, 8, 23, tzinfo=UTC)  # Monday 17:00 in Chicago: Tuesday's session begins
    rows = [(evening + timedelta(hours=n), 10.0, 12.0, 9.0, 11.0, 1.0, None, None) for n in (-3, 0, 1)]
    store.write(hourly, Span(rows[0][0], evening + timedelta(hours=2)), table_of(rows))

    result = run("buy_and_hold", str(hourly), store=store, costs="none")

    assert result.record["session"].to_pylist() == [date(2024, 1, 8), date(2024, 1, 9), date(2024, 1, 9)]
    assert result.record["time"].to_pylist()[0] == evening - timedelta(hours=2)  # when the bar was complete


def test_orders_are_recorded_even_when_the_broker_keeps_no_list_of_them(store):
    class Unchecked(BuyOnce):
        def start(self):
            self.broker.set_checksubmit(False)

    unchecked, checked = (run(cls, "AAPL/1day", store=store) for cls in (Unchecked, BuyOnce))

    assert unchecked.fills.equals(checked.fills)
    assert unchecked.orders.equals(checked.orders)


def test_an_order_that_cash_cannot_pay_is_kept_as_refused(store):
    result = run(BuyOnce, "AAPL/1day", store=store, cash=500)

    assert result.orders["status"].tolist() == ["Margin"]
    assert result.equity.tolist() == [500] * 5


class Breaks(bt.Strategy):
    def next(self):
        if len(self) == 3:
            raise ZeroDivisionError("division by zero")


def test_a_strategy_that_raises_is_named_with_line_and_reason(store):
    with pytest.raises(
        StrategyError, match=r"Breaks failed in next\(\) at line \d+ of test_simulation.py: ZeroDivisionError"
    ):
        run(Breaks, "AAPL/1day", store=store)


def test_a_strategy_that_waits_for_more_bars_than_there_are_is_told_so(store):
    with pytest.raises(StrategyError, match="further back than the 5 bars"):
        run("sma_cross", "AAPL/1day", store=store, params={"fast": 100, "slow": 200})


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"params": {"sizes": 3}}, "did you mean size"),
        ({"params": {"size": "many"}}, "whole number"),
        ({"costs": "free"}, "ib-fixed"),
        ({"cash": 0}, "cash"),
        ({"risk_free": 5}, "0.02"),
    ],
)
def test_a_wrong_argument_is_answered_with_what_would_be_right(store, arguments, hint):
    with pytest.raises(UsageError, match=hint):
        run(BuyOnce, "AAPL/1day", store=store, **arguments)


def test_bars_that_are_not_there_name_the_command_that_gets_them(store):
    with pytest.raises(NoBars, match="backtest download IBM/1day"):
        run(BuyOnce, "IBM/1day", store=store)


def test_text_is_read_as_the_type_of_the_default():
    given = parameters(load_strategy("sma_cross"), {"fast": "5", "invest": "0.5"})

    assert given == {"fast": 5, "slow": 30, "invest": 0.5}


def test_a_strategy_is_found_by_file_and_name(tmp_path):
    path = tmp_path / "two.py"
    path.write_text("import backtrader as bt\nclass A(bt.Strategy): pass\nclass B(bt.Strategy): pass\n")

    assert load_strategy(f"{path}:B").cls.__name__ == "B"
    with pytest.raises(UsageError, match=r"two\.py:A"):
        load_strategy(str(path))
    with pytest.raises(UsageError, match="it has A, B"):
        load_strategy(f"{path}:C")


def test_a_strategy_of_another_folder_leaves_no_machine_path_in_its_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import backtrader as bt\nclass A(bt.Strategy): pass\n")

    assert load_strategy(str(path)).name == "mine.py:A"


@pytest.mark.parametrize(
    ("source", "error", "hint"),
    [
        ("def broken(:\n", StrategyError, "line 1"),
        ("x = 1\nimport no_such_module\n", StrategyError, "line 2.*no_such_module"),
        ("x = 1\n", UsageError, "bt.Strategy"),
    ],
)
def test_a_file_that_is_no_strategy_says_why(tmp_path, source, error, hint):
    path = tmp_path / "mine.py"
    path.write_text(source)

    with pytest.raises(error, match=hint):
        load_strategy(str(path))


def test_an_unknown_strategy_is_answered_with_those_that_exist():
    with pytest.raises(UsageError, match=r"buy_and_hold.*did you mean sma_cross\?"):
        load_strategy("sma_cros")


# --- what stands in the table of differences


class Watches(bt.Strategy):
    """Reads an observer, and acts at the open, as the table of differences says that it can."""

    params = (("own", True),)

    def __init__(self):
        self.seen = []
        if self.p.own:
            self.cerebro.addobserver(bt.observers.Broker)
            self.cerebro.p.cheat_on_open = True
            self.broker.set_coo(True)

    def next_open(self):
        if len(self) == 2:
            self.buy(size=100)

    def next(self):
        self.seen.append((self.stats.broker.value[0], self.broker.getvalue()))

    def stop(self):
        self.notes = {"seen": [[repr(value) for value in pair] for pair in self.seen]}


def test_observers_and_next_open_are_there_for_a_strategy_that_asks_for_them(store):
    cerebro = bt.Cerebro(cheat_on_open=True)
    cerebro.adddata(replay(store.read("AAPL/1day"), "AAPL/1day"))
    cerebro.broker.setcash(100_000)
    cerebro.addstrategy(Watches, own=False)

    (stock,) = cerebro.run()
    result = run(Watches, "AAPL/1day", store=store, costs="none")

    assert result.manifest["notes"] == stock.notes
    assert result.fills["price"].tolist() == [12.0]  # the open of the bar itself


def test_an_observer_that_nobody_added_is_told_how_to_be(store):
    class Reads(bt.Strategy):
        def next(self):
            return self.stats.broker.value[0]

    with pytest.raises(
        StrategyError, match=r"no attribute 'broker'; .*self\.cerebro\.addobserver\(bt\.observers\.Broker\)"
    ):
        run(Reads, "AAPL/1day", store=store)


@pytest.mark.parametrize(("free", "said"), [(2_500_000_000, "needs about 3.0 GB of memory .* only 2.5 GB are free"),
                                            (3_500_000_000, "^$"), (None, "^$")])  # fmt: skip
def test_a_run_says_beforehand_that_its_bars_may_not_fit_into_memory(free, said):
    assert re.search(said, memory_lacking(50_000_000, free))


def test_a_long_run_has_its_stamps_in_memory_once(store, monkeypatch):
    seen = []

    class Seen(BuyOnce):
        def stop(self):
            own, feed = (np.frombuffer(one.lines.datetime.array) for one in (self, self.data))
            history = self.cerebro.history
            seen.append([np.shares_memory(feed, other) for other in (own, history.stamps)])

    short = run(Seen, "AAPL/1day", store=store)
    monkeypatch.setattr("backtest.engine.lean.cerebro.MANY", 5)
    long = run(Seen, "AAPL/1day", store=store)

    assert short == long
    assert seen == [[False, True], [True, True]]


def test_a_long_run_lets_go_of_its_bars_when_it_ends(store, monkeypatch):
    seen = []

    class Seen(BuyOnce):
        def start(self):
            seen.append(weakref.ref(self.data.lines))

    gc.disable()
    try:
        short = run(Seen, "AAPL/1day", store=store)
        monkeypatch.setattr(arrays, "MANY", 5)
        monkeypatch.setattr(arrays, "release_memory", lambda: None)
        long = run(Seen, "AAPL/1day", store=store)
        held = [one() is not None for one in seen]
    finally:
        gc.enable()

    assert short == long
    assert held[1] is False
