"""Orders at the close, orders for the day and timers go by the exchange's sessions, in both loops."""

from datetime import UTC, datetime, time, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

import backtrader as bt
import pytest

from backtest.api import run
from backtest.engine.feed import replay
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

LOOPS = {"lean": {}, "Backtrader's own": {"volume_cap": 1.0}}
SYDNEY, NEW_YORK, CHICAGO = map(ZoneInfo, ("Australia/Sydney", "America/New_York", "America/Chicago"))
HOURS = ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]


def opened(day, times, zone, before=()):
    """Return when bars of a day in 2024 open, in UTC: some on the evening before."""
    date = datetime.fromisoformat(f"2024-{day}")
    moments = [(date - timedelta(days=1), one) for one in before] + [(date, one) for one in times]
    return [datetime.combine(one, time.fromisoformat(text), zone).astimezone(UTC) for one, text in moments]


def store_of(folder, spelling, *days, low=None):
    """Return a store with flat bars at 100, 101, 102, ...; some reach down to a price."""
    rows = []
    for moment in chain(*days):
        price = 100.0 + len(rows)
        rows.append((moment, price, price, (low or {}).get(len(rows), price), price, 1e9, None, None))
    store, series = Store(folder), Series.parse(spelling)
    store.write(series, Span(rows[0][0], rows[-1][0] + timedelta(days=2)), table_of(rows))
    return store


class Gives(bt.Strategy):
    """Give an order at the end of some bar, counted from 0, and note what is heard of it."""

    params = (("at", 0), ("order", None))

    def next(self):
        if len(self) - 1 == self.p.at:
            self.buy(size=1, **self.p.order)


def given(store, spelling, at, loop="lean", **order):
    result = run(Gives, spelling, store=store, params={"at": at, "order": order}, costs="none", **LOOPS[loop])
    return result.orders_table.to_pylist()[0]


SYDNEYS = [opened(day, HOURS, SYDNEY) for day in ("02-05", "02-06", "02-07")]  # from 23:00 to 05:00 in UTC
GLOBEX = [opened(day, ["00:00", "08:00", "15:00"], CHICAGO, ["17:00", "21:00"]) for day in ("02-06", "02-07")]
US = [opened(day, ["09:30", "10:30", "14:30", "15:30"], NEW_YORK) for day in ("02-05", "02-06")]  # an hour each
HALF = [opened("07-03", ["09:30", "11:30", "12:30"], NEW_YORK), opened("07-05", ["09:30", "15:30"], NEW_YORK)]
HOLE = [SYDNEYS[0], SYDNEYS[1][:4], SYDNEYS[2]]  # nothing was traded in the last two hours of a session
AT_THE_CLOSE = [  # series, bars, the bar at whose end the order is given, the bar at whose close it is filled
    ("BHP-STK-ASX-AUD/1hour", SYDNEYS, 6, 11),
    ("BHP-STK-ASX-AUD/1hour", SYDNEYS, 10, 11),
    ("BHP-STK-ASX-AUD/1hour", SYDNEYS, 11, 17),  # given with the session's end: at the next close
    ("ES-FUT-CME-USD-202403+multiplier=1/1hour", GLOBEX, 0, 4),
    ("ES-FUT-CME-USD-202403+multiplier=1/1hour", GLOBEX, 5, 9),
    ("AAPL/1hour", US, 0, 3),
    ("AAPL/1hour", US, 3, 7),
    ("AAPL/1hour", HALF, 0, 2),
    ("AAPL/1hour", HALF, 2, 4),
    ("BHP-STK-ASX-AUD/1hour", HOLE, 7, 9),
    ("BHP-STK-ASX-AUD/1hour", HOLE, 9, 15),  # no close of this session was left
]


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("spelling", "days", "at", "filled"), AT_THE_CLOSE)
def test_an_order_at_the_close_is_filled_at_the_last_close_of_its_session(tmp_path, spelling, days, at, filled, loop):
    order = given(store_of(tmp_path, spelling, *days), spelling, at, loop, exectype=bt.Order.Close)

    assert (order["status"], order["price"]) == ("Completed", 100 + filled)
    assert order["closed"] == [*chain(*days)][filled] + timedelta(hours=1)


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("spelling", "days", "at", "last", "valid"),  # the last bar in which it is tried
    [
        *((*one, bt.Order.DAY) for one in AT_THE_CLOSE),
        *((*AT_THE_CLOSE[0], valid) for valid in (timedelta(), 0, 0.0)),
    ],
)
def test_an_order_for_the_day_is_tried_up_to_the_last_bar_of_its_session(
    tmp_path, spelling, days, at, last, valid, loop
):
    count = len([*chain(*days)])
    asked = {"exectype": bt.Order.Limit, "price": 50.0, "valid": valid}
    in_time = store_of(tmp_path / "in time", spelling, *days, low={last: 40.0})
    too_late = store_of(tmp_path / "too late", spelling, *days, low=dict.fromkeys(range(last + 1, count), 40.0))

    assert given(in_time, spelling, at, loop, **asked)["status"] == "Completed"
    late = given(too_late, spelling, at, loop, **asked)["status"]
    assert late == ("Expired" if last + 1 < count else "Accepted")


@pytest.mark.parametrize("loop", LOOPS)
def test_an_order_at_the_close_on_globex_is_not_filled_at_midnight_in_utc(tmp_path, loop):
    evening, day = (
        [f"{hour:02}:{minute}" for hour in hours for minute in ("00", "30")] for hours in (range(17, 24), range(16))
    )
    days = [opened(one, day, CHICAGO, evening) for one in ("02-06", "02-07", "02-08")]  # 46 half hours each
    store = store_of(tmp_path, "ES-FUT-CME-USD-202403+multiplier=1/30mins", *days)

    order = given(store, "ES-FUT-CME-USD-202403+multiplier=1/30mins", 47, loop, exectype=bt.Order.Close)

    assert order["created"] == datetime(2024, 2, 7, tzinfo=UTC)  # an hour after the opening, and midnight
    assert order["price"] == 100 + 2 * 46 - 1  # the price rises by 1 a bar; by midnight in UTC it was 43 less


class EachEvening(bt.Strategy):
    """An order at the close in the first bar of each session, of three bars; note in which bar each is filled."""

    def __init__(self):
        self.notes = {"bars": []}

    def notify_order(self, order):
        if order.status == order.Completed:
            self.notes["bars"].append(len(self) - 1)

    def next(self):
        if len(self) % 3 == 1:
            self.buy(size=1, exectype=bt.Order.Close)


@pytest.mark.parametrize("loop", LOOPS)
def test_where_closes_are_known_roughly_orders_are_filled_in_the_last_bar_of_each_session(tmp_path, loop):
    dates = [datetime(2024, 3, 4) + timedelta(days=n) for n in range(24)]  # noqa: DTZ001  # the clocks change on the 10th
    days = [opened(f"{day:%m-%d}", ["08:00", "15:00"], CHICAGO, ["17:00"]) for day in dates if day.weekday() < 5]
    store = store_of(tmp_path, "ES-FUT-CME-USD-202403+multiplier=1/1hour", *days)

    result = run(EachEvening, "ES-FUT-CME-USD-202403+multiplier=1/1hour", store=store, costs="none", **LOOPS[loop])

    assert result.manifest["notes"]["bars"] == [3 * n + 2 for n in range(len(days))]  # CMES says an hour later


class GivesByCandles(Gives):
    """The same with an indicator that makes it go bar by bar."""

    def __init__(self):
        self.candles = bt.ind.HeikinAshi(self.data)


class GivesByTwo(Gives):
    """The same with an indicator over two series that have different times."""

    def __init__(self):
        self.both = self.data0.close - self.data1.close

    def prenext(self):
        self.next()


@pytest.mark.parametrize("strategy", [GivesByCandles, GivesByTwo])
def test_orders_of_a_run_bar_by_bar_end_with_their_session_too(tmp_path, strategy):
    names = ["BHP-STK-ASX-USD/1hour", "AAPL/1hour"][: 1 + (strategy is GivesByTwo)]
    store = store_of(tmp_path, names[0], *SYDNEYS)
    later = [(moment + timedelta(hours=16), *[9.0] * 4, 1.0, None, None) for moment in SYDNEYS[0]]
    store.write(Series.parse("AAPL/1hour"), Span(later[0][0], later[-1][0] + timedelta(hours=1)), table_of(later))

    for at, filled in ((1, 5), (5, 11)):
        params = {"at": at, "order": {"exectype": bt.Order.Close}}
        result = run(strategy, names, store=store, params=params, costs="none")
        order = result.orders_table.to_pylist()[0]
        assert (order["price"], order["closed"]) == (100 + filled, [*chain(*SYDNEYS)][filled] + timedelta(hours=1))


class Brackets(bt.Strategy):
    """A bracket whose limit to sell is for the day, given in the first bar of a session in Sydney."""

    def next(self):
        if len(self) == 7:
            self.buy_bracket(size=1, exectype=bt.Order.Market, stopprice=1.0, limitprice=1e6,
                             stopargs={"valid": bt.Order.DAY}, limitargs={"valid": bt.Order.DAY})  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_orders_of_a_bracket_end_with_their_session_too(tmp_path, loop):
    store = store_of(tmp_path, "BHP-STK-ASX-AUD/1hour", *SYDNEYS)

    rows = run(Brackets, "BHP-STK-ASX-AUD/1hour", store=store, costs="none", **LOOPS[loop]).orders_table.to_pylist()

    assert [row["status"] for row in rows] == ["Completed", "Expired", "Canceled"]


class Timers(bt.Strategy):
    """Note when timers of sessions go off: in which bar, and what they say."""

    params = (("when", bt.timer.SESSION_END), ("more", {}))

    def __init__(self):
        self.add_timer(self.p.when, **self.p.more)
        self.notes = {"bars": []}

    def notify_timer(self, timer, when, *args, **kwargs):
        self.notes["bars"].append([len(self), when.isoformat()])  # the strategy has not moved to the bar yet


HALF_HOUR, START, END = timedelta(minutes=30), bt.timer.SESSION_START, bt.timer.SESSION_END


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("when", "more", "bars"),
    [
        (START, {}, [[0, "02-04T23:00"], [6, "02-05T23:00"], [12, "02-06T23:00"]]),
        (END, {}, [[5, "02-05T05:00"], [11, "02-06T05:00"], [17, "02-07T05:00"]]),
        (END, {"offset": -3 * HALF_HOUR}, [[4, "02-05T03:30"], [10, "02-06T03:30"], [16, "02-07T03:30"]]),
        (END, {"weekdays": [2]}, [[11, "02-06T05:00"]]),  # of the session: a Tuesday
        (
            START,
            {"offset": 4 * HALF_HOUR, "repeat": 4 * HALF_HOUR, "weekdays": [3]},
            [[13, "02-07T01:00"], [15, "02-07T03:00"], [17, "02-07T05:00"]],
        ),
    ],
)  # fmt: skip
def test_timers_of_sessions_go_off_once_in_each(tmp_path, when, more, bars, loop):
    store = store_of(tmp_path, "BHP-STK-ASX-AUD/1hour", *SYDNEYS)

    params = {"when": when, "more": more}
    result = run(Timers, "BHP-STK-ASX-AUD/1hour", store=store, params=params, **LOOPS[loop])

    assert result.manifest["notes"]["bars"] == [[bar, f"2024-{when}:00"] for bar, when in bars]


class Daily(bt.Strategy):
    """Orders of all lengths on daily bars, and a timer of the session's end."""

    def __init__(self):
        self.rows = []
        self.notes = {"rows": self.rows}
        self.add_timer(bt.timer.SESSION_END)

    def notify_timer(self, timer, when, *args, **kwargs):
        self.rows.append(["timer", len(self), str(when)])

    def notify_order(self, order):
        self.rows.append([order.getstatusname(), len(self), order.dteos, order.valid, order.executed.price])

    def next(self):
        if len(self) % 5 == 0:
            self.buy(size=1, exectype=bt.Order.Close)
        if len(self) % 7 == 0:
            for valid in (bt.Order.DAY, 0, timedelta(days=3), None):
                self.buy(size=1, exectype=bt.Order.Limit, price=0.98 * self.data.close[0], valid=valid)


@pytest.mark.slow
def test_daily_bars_have_orders_and_timers_as_in_backtrader(sample):
    cerebro = bt.Cerebro(stdstats=False)
    bars = sample.read("AAPL/1day", start="2004-01-02", end="2004-12-31")
    cerebro.adddata(replay(bars, "AAPL/1day"))
    cerebro.broker.setcash(100_000)
    cerebro.addstrategy(Daily)
    (stock,) = cerebro.run()

    for asked in LOOPS.values():
        result = run(Daily, "AAPL/1day", store=sample, start="2004-01-02", end="2004-12-31", costs="none", **asked)

        assert result.manifest["notes"]["rows"] == stock.rows
    assert len(stock.rows) > 300
