"""What a strategy would order next is what it does order once the next bar is there."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import pytest
from market import store_with

from backtest import UsageError, next_orders, run
from backtest.cli.app import main
from backtest.errors import NoBars, StrategyError

DAY = {"start": "2003-01-02"}


def times(result):
    """Return the dates on which a run gave orders."""
    return sorted({time.date() for time in result.orders_table["created"].to_pylist()})


class EachDay(bt.Strategy):
    """Gives one order a bar, of a size that says which."""

    def next(self):
        self.buy(size=len(self))


class Kinds(bt.Strategy):
    """Gives orders of many kinds at the tenth bar, none of which the market reaches before the fourteenth."""

    def next(self):
        if len(self) != 10:
            return
        close = self.data.close[0]
        self.buy(size=1, exectype=bt.Order.Limit, price=close * 0.2)
        self.sell(size=2, exectype=bt.Order.Stop, price=close * 0.25, valid=timedelta(days=100))
        self.buy(size=3, exectype=bt.Order.StopLimit, price=close * 5, plimit=close * 5.5)
        self.sell(size=4, exectype=bt.Order.StopTrail, trailamount=close * 0.9)
        first = self.buy(size=5, exectype=bt.Order.Limit, price=close * 0.1)
        self.buy(size=6, exectype=bt.Order.Limit, price=close * 0.11, oco=first)
        self.buy_bracket(size=7, price=close * 0.3, stopprice=close * 0.2, limitprice=close * 6)


@pytest.mark.parametrize("strategy", ["sma_cross", EachDay])
def test_the_orders_are_those_that_a_run_with_more_bars_gives_at_that_close(sample, strategy):
    asked = {"store": sample, "params": {"fast": 3, "slow": 8} if strategy == "sma_cross" else {}}
    whole = run(strategy, "IBM/1day", end="2003-03-31", lines=False, **DAY, **asked)
    rows = whole.orders_table.to_pylist()

    for day in times(whole)[:4]:
        found = next_orders(strategy, "IBM/1day", end=day, **DAY, **asked)

        given = [(row["side"], row["kind"], row["size"]) for row in rows if row["created"].date() == day]
        assert [(one.side, one.kind, one.size if one.side == "buy" else -one.size) for one in found.orders] == given
        assert found.opens.date() == min(row["closed"].date() for row in rows if row["created"].date() == day)
        assert {one.given.date() for one in found.orders} == {day}


def test_the_position_is_that_of_the_run_up_to_there(sample):
    whole = run("sma_cross", "IBM/1day", store=sample, end="2003-12-31", lines=False, **DAY)
    fills = [row["time"].date() for row in whole.fills_table.to_pylist() if row["size"] > 0]
    bought = next(day for day in fills if day not in times(whole))  # on which nothing else was ordered

    found = next_orders("sma_cross", "IBM/1day", store=sample, end=bought, **DAY)

    place = whole.record["session"].to_pylist().index(bought)
    row = {name: whole.record[name][place].as_py() for name in whole.record.column_names}
    (position,) = found.positions
    assert (position.size, position.close) == (row["position.0"], row["close.0"])
    assert (found.equity, found.cash) == (row["equity"], row["cash"])
    assert found.orders == ()
    assert f"{position.size:+,.10g} IBM/1day" in found.assumes
    assert "since 2003-01-02 had been real and it had started with 100,000.00 USD" in found.assumes
    assert str(found).startswith("SmaCross: no order at the open of 2003-")


def test_orders_of_each_kind_stay_with_their_prices_until_they_are_filled(sample):
    found = next_orders(Kinds, "IBM/1day", store=sample, end="2003-01-22", cash=1e6, **DAY)

    close = sample.read("IBM/1day", start="2003-01-15", end="2003-01-15")["close"][0].as_py()  # the tenth bar
    rows = [(one.number, one.side, one.kind, one.size) for one in found.orders]
    assert rows == [
        (1, "buy", "Limit", 1), (2, "sell", "Stop", 2), (3, "buy", "StopLimit", 3), (4, "sell", "StopTrail", 4),
        (5, "buy", "Limit", 5), (6, "buy", "Limit", 6), (7, "buy", "Limit", 7), (8, "sell", "Stop", 7),
        (9, "sell", "Limit", 7),
    ]  # fmt: skip
    assert [one.given.date() for one in found.orders] == [date(2003, 1, 15)] * 9
    assert found.orders[0].price == pytest.approx(close * 0.2)
    assert (found.orders[2].price, found.orders[2].limit) == (pytest.approx(close * 5), pytest.approx(close * 5.5))
    assert found.orders[1].until.date() == date(2003, 4, 25)  # a hundred days after the tenth bar
    assert [one.instead_of for one in found.orders[4:6]] == [(6,), (5,)]
    assert [one.after for one in found.orders[6:]] == [None, 7, 7]
    assert [one.instead_of for one in found.orders[7:]] == [(9,), (8,)]
    assert all(one.paid for one in found.orders)


def test_an_order_that_the_broker_would_refuse_is_known_beforehand(sample):
    class TooMuch(bt.Strategy):
        def next(self):
            if self.data.datetime.date(0) == date(2003, 1, 8):
                self.buy(size=1000)
                self.buy(size=1000)  # the cash pays for one of the two
                self.buy(size=1)  # Backtrader reckons on with what the refused one would have left

    found = next_orders(TooMuch, "IBM/1day", store=sample, end="2003-01-08", **DAY)
    then = run(TooMuch, "IBM/1day", store=sample, end="2003-01-09", lines=False, **DAY)

    statuses = then.orders_table["status"].to_pylist()
    assert [one.paid for one in found.orders] == [status == "Completed" for status in statuses]
    assert statuses[:2] == ["Completed", "Margin"]


def test_looking_changes_nothing_of_the_strategy_or_its_end(sample):
    ended = []

    class Ends(EachDay):
        def stop(self):
            ended.append((self.broker.getcash(), len(self.broker.orders)))

    next_orders(Ends, "IBM/1day", store=sample, end="2003-01-31", cash=1e6, **DAY)
    run(Ends, "IBM/1day", store=sample, end="2003-01-31", cash=1e6, lines=False, **DAY)

    assert ended[0] == ended[1]


@pytest.mark.parametrize(
    ("options", "loop"),
    [({}, "lean"), ({"slippage": "5bp"}, "Backtrader's"), ({"volume_cap": 0.5}, "Backtrader's")],
)
def test_it_is_so_in_each_loop(sample, options, loop):
    found = next_orders(EachDay, "IBM/1day", store=sample, end="2003-01-08", cash=1e6, **DAY, **options)

    assert [(one.size, one.given.date()) for one in found.orders if one.kind == "Market"][-1] == (5, date(2003, 1, 8))


def test_the_next_bar_of_minutes_is_in_the_session_or_opens_the_next(tmp_path):
    store = store_with(tmp_path, {"AAPL/1min": ("2024-03-07", "2024-03-08")})

    found = next_orders(EachDay, "AAPL/1min", store=store)
    one_day = next_orders(EachDay, "AAPL/1min", store=store, end="2024-03-07")

    assert found.last == datetime(2024, 3, 8, 21, tzinfo=UTC)  # 16:00 in New York
    assert found.opens == datetime(2024, 3, 11, 13, 30, tzinfo=UTC)  # Monday, and summer time
    assert one_day.opens == datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
    assert found.orders[-1].given == found.last
    assert found.when(found.opens) == "2024-03-11 13:30Z"


def test_daily_bars_go_on_after_weekends_and_holidays(sample):
    found = next_orders(EachDay, "IBM/1day", store=sample, end="2003-01-17", **DAY)  # Martin Luther King on Monday

    assert found.opens.date() == date(2003, 1, 21)


def test_a_series_that_lags_is_said_to(tmp_path):
    store = store_with(tmp_path, {"AAPL/1day": ("2024-01-02", "2024-03-28"), "MSFT/1day": ("2024-01-02", "2024-03-15")})

    lags = next_orders(EachDay, ["AAPL/1day", "MSFT/1day"], store=store)

    assert lags.notes[-1] == "MSFT/1day ends with 2024-03-15, before the others; update it first."


def test_what_cannot_be_asked_is_refused_as_by_run(sample):
    class Fails(bt.Strategy):
        def next(self):
            raise ValueError("no")

    with pytest.raises(NoBars, match="QQQ/1day is not in"):
        next_orders("sma_cross", "QQQ/1day", store=sample)
    with pytest.raises(UsageError, match="no parameter 'fsat'"):
        next_orders("sma_cross", "IBM/1day", store=sample, params={"fsat": 1})
    with pytest.raises(StrategyError, match="Fails failed in next"):
        next_orders(Fails, "IBM/1day", store=sample, end="2003-01-10", **DAY)


# --- as a command


@pytest.fixture
def asked(call, sample, tmp_path, monkeypatch):
    """Return a function that calls the command in an empty folder, up to a day."""
    monkeypatch.chdir(tmp_path)

    def asked(until, *words):
        code, out, err = call(
            "next", "sma_cross", "IBM/1day", "--since", "2003-01-02", "--until", str(until), "--set", "fast=3", "--set",
            "slow=8", "--store", sample.root, *words,
        )  # fmt: skip
        assert list(tmp_path.iterdir()) == []  # nothing is kept
        return code, out, err

    return asked


def test_the_command_shows_orders_position_and_that_nothing_was_placed(asked, sample):
    whole = run(
        "sma_cross", "IBM/1day", store=sample, params={"fast": 3, "slow": 8}, end="2003-12-31", lines=False, **DAY
    )
    (row, *_) = whole.orders_table.to_pylist()

    code, out, err = asked(row["created"].date())
    _, document, _ = asked(row["created"].date(), "--json")

    told = json.loads(document)
    assert code == 0
    assert f"SmaCross would place these orders at the open of {row['closed']:%Y-%m-%d}:" in out
    assert f"{row['size']:,.10g}" in out
    assert "no position; equity 100,000.00 USD" in out
    assert "No orders were placed." in err
    assert (told["placed"], told["late"]) == (False, False)
    assert told["orders"][0]["size"] == row["size"]
    assert told["orders"][0]["given"] == row["created"].isoformat()
    assert told["assumes"] in " ".join(out.split())


def test_the_command_warns_once_the_open_after_the_last_bar_is_over(sample, capsys):
    words = ["next", "sma_cross", "IBM/1day", "--since", "2012-01-03", "--store", str(sample.root)]

    said = []
    for now in (datetime(2013, 3, 4, 12, tzinfo=UTC), datetime(2013, 3, 5, 1, tzinfo=UTC)):
        with pytest.raises(SystemExit):
            main(words, clock=lambda now=now: now)
        said.append(capsys.readouterr().err)

    assert ["open has already passed" in one for one in said] == [False, True]


def test_the_command_says_where_there_is_no_order(asked, sample):
    whole = run(
        "sma_cross", "IBM/1day", store=sample, params={"fast": 3, "slow": 8}, end="2003-03-31", lines=False, **DAY
    )
    quiet = next(day for day in whole.record["session"].to_pylist()[10:] if day not in times(whole))

    code, out, _ = asked(quiet)

    assert code == 0
    assert out.startswith("SmaCross would place no orders at the open of 2003-")
