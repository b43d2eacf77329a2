"""Timers and cheating on open in the lean loop: the same calls, with the same to be seen, as in Backtrader's."""

from datetime import datetime, time, timedelta

import backtrader as bt
import pytest
from backtrader.timer import Timer
from parity_markets import market, quick_rows
from parity_strategies import LOUD, QUIET, Eyes, everything
from parity_trading import BARS, OTHER, assert_lean_and_same, trading

from backtest.engine.lean.timers import WatchedTimer, _quiet_until

HOUR = timedelta(hours=1)
HOURS = market(3, 40, HOUR, gap=0.2)
MORE_HOURS = market(4, 30, HOUR, gap=0.3)
START, END = bt.timer.SESSION_START, bt.timer.SESSION_END

TIMERS = {
    "start of the session": {"when": START},
    "end of the session": {"when": END, "offset": -HOUR},
    "a time": {"when": time(11, 30)},
    "every two hours": {"when": time(10, 0), "repeat": 2 * HOUR},
    "weekdays": {"when": time(10, 0), "weekdays": [1, 3]},
    "carried weekdays": {"when": START, "weekdays": [6, 7], "weekcarry": True},
    "days of the month": {"when": START, "monthdays": [1, 15], "monthcarry": True},
    "allowed days": {"when": START, "allow": lambda day: day.day % 2 == 0},
}


def trades(strategy):
    """Do and see in a timer all that can be done and seen there."""
    strategy.note("seen", [everything(strategy), len(strategy.data), len(strategy)] if len(strategy) else None)
    strategy.buy(size=1)
    if len(strategy) % 2:
        strategy.close()
    strategy.sell(size=2, exectype=bt.Order.Limit, price=strategy.data.close[0] * 1.01)


def averages(strategy):
    return [bt.ind.EMA(bt.ind.SMA(data.close, period=2), period=3) for data in strategy.datas]


@pytest.mark.slow
@pytest.mark.parametrize("cheat", [False, True], ids=["after the broker", "before"])
@pytest.mark.parametrize("timer", TIMERS.values(), ids=TIMERS)
def test_a_timer_goes_off_at_the_same_bars_and_sees_the_same(timer, cheat):
    def prepare(cerebro):
        cerebro.add_timer(strats=True, cheat=cheat, **timer)

    steps = {"notify_timer": trades}

    assert_lean_and_same(trading(steps, HOURS, prepare=prepare, indicators=averages), "timer")
    assert_lean_and_same(trading(steps, HOURS, eyes=QUIET, prepare=prepare, indicators=averages))


@pytest.mark.slow
@pytest.mark.parametrize("feeds", [[HOURS, MORE_HOURS], [BARS, OTHER], [MORE_HOURS, OTHER]], ids=["h", "d", "both"])
def test_timers_before_and_after_the_broker_with_feeds_of_several_calendars(feeds):
    def begin(strategy):
        strategy.add_timer(time(10, 0), repeat=HOUR)
        strategy.add_timer(START, cheat=True, tzdata=strategy.data1)

    assert_lean_and_same(trading({"start": begin, "notify_timer": trades}, *feeds, indicators=averages), "timer")


@pytest.mark.parametrize("options", [{"tz": "US/Eastern"}, {"stdstats": True}, {"tradehistory": True}], ids=str)
def test_timers_with_options(options):
    def prepare(cerebro):
        cerebro.add_timer(time(11, 0), strats=True, tzdata=cerebro.datas[0])
        cerebro.add_timer(END, strats=True, cheat=True)

    assert_lean_and_same(trading({"notify_timer": trades}, HOURS, prepare=prepare, **options), "timer")


@pytest.mark.parametrize("cheat", [False, True])
@pytest.mark.parametrize("fails", [False, True], ids=["stops", "fails"])
def test_a_timer_that_ends_the_run(cheat, fails):
    def end(strategy):
        if len(strategy) > 20:
            strategy.env.runstop()
            if fails:
                raise ValueError(f"at {len(strategy)} of {len(strategy.data)}, worth {strategy.broker.getvalue()}")
        strategy.buy(size=1)

    def prepare(cerebro):
        cerebro.add_timer(START, strats=True, cheat=cheat)

    for feeds in ([HOURS], [HOURS, MORE_HOURS]):
        build = trading({"notify_timer": end}, *feeds, prepare=prepare, indicators=averages)
        assert_lean_and_same(build, ended="raised" if fails else "returned")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"broker_coo": False}, {"stdstats": True}], ids=str)
@pytest.mark.parametrize("feeds", [[BARS], [BARS, OTHER]], ids=["one", "two"])
@pytest.mark.parametrize("eyes", [LOUD, Eyes(("next_open",), everything)], ids=["watched", "open alone"])
def test_who_cheats_on_open_acts_on_the_same(options, feeds, eyes):
    def act(strategy):
        trades(strategy) if len(strategy) % 3 else strategy.order_target_percent(target=0.3)

    build = trading({"next_open": act}, *feeds, eyes=eyes, indicators=averages, cheat_on_open=True, **options)

    assert_lean_and_same(build, "open")


def test_a_run_that_is_stopped_on_open_ends_before_the_broker():
    def stop(strategy):
        strategy.buy()
        if len(strategy) == 12:
            strategy.env.runstop()

    assert_lean_and_same(trading({"next_open": stop}, BARS, indicators=averages, cheat_on_open=True), "open")


def test_one_timer_before_and_one_after_the_broker():
    def prepare(cerebro):
        cerebro.add_timer(time(11, 0), strats=True, repeat=HOUR)
        cerebro.add_timer(START, strats=True, cheat=True)

    assert_lean_and_same(trading({"notify_timer": trades}, HOURS, prepare=prepare, indicators=averages), "timer")


def asked(timer_of, feed_of):
    """Return how often a timer answers over all bars, when watched and when asked at each."""
    (watched, plain), (watched_feed, plain_feed) = (timer_of(), timer_of()), (feed_of(), feed_of())
    cerebro = bt.Cerebro()
    for feed in (watched_feed, plain_feed):
        cerebro.adddata(feed)
        feed._start()
        feed.preload()
    watched.start(watched_feed)
    plain.start(plain_feed)
    watch, answers, calls = WatchedTimer(watched), [], 0
    for _ in range(plain_feed.buflen()):
        watched_feed.advance()
        plain_feed.advance()
        stamp = plain_feed.datetime[0]
        calls += not watch._since <= stamp < watch._until
        answers.append((watch.goes_off(stamp), plain.check(stamp)))
    return answers, calls


def test_a_watched_timer_is_asked_few_times_and_gives_each_answer():
    minutes = market(3, 4_000, timedelta(minutes=1), gap=0.02)

    answers, calls = asked(lambda: Timer(when=time(11, 0), repeat=HOUR), lambda: quick_rows(minutes))

    assert [watched for watched, _ in answers] == [plain for _, plain in answers]
    assert sum(watched for watched, _ in answers) > 30
    assert calls < 200


def test_a_timer_of_another_kind_is_asked_at_each_bar():
    class Other(Timer):
        def check(self, stamp):
            return super().check(stamp)

    stamp = bt.date2num(datetime(2024, 1, 2, 10))  # noqa: DTZ001 - Backtrader's stamps are naive

    assert _quiet_until(Other(when=time(11, 0)), stamp) == stamp
