import json
from random import Random

import pytest

from backtest.emulator.limiter import Limiter
from backtest.emulator.protocol import BarsRequest, ContractQuery
from backtest.errors import UsageError
from backtest.market.ib_limits import (
    BURST_REQUESTS,
    BURST_SECONDS,
    IDENTICAL_SECONDS,
    OPEN_REQUESTS,
    WINDOW_REQUESTS,
    WINDOW_SECONDS,
)
from backtest.sources.ib.pacing import MARGIN, Ask, Budget, Flow
from backtest.sources.ib.shared_state import State

NOW = 1_700_000_000.0


def send_all(asks):
    """Send each request as soon as the budget lets it; return the times."""
    budget, now, times = Budget(), 0.0, []
    for ask in asks:
        now += budget.delay(ask, now)
        budget.spend(ask, now)
        times.append(now)
    return times


def test_an_identical_request_waits_fifteen_seconds():
    first, second = send_all([Ask("same", "AAPL")] * 2)

    assert second - first > IDENTICAL_SECONDS


@pytest.mark.parametrize("weight", [1, 2])
def test_no_window_ever_holds_more_than_ib_allows(weight):
    times = send_all([Ask(n, n % 3, weight) for n in range(150)])

    for n, at in enumerate(times):
        assert sum(weight for t in times[: n + 1] if t > at - WINDOW_SECONDS) <= WINDOW_REQUESTS
        assert (
            sum(weight for m, t in enumerate(times[: n + 1]) if m % 3 == n % 3 and t > at - BURST_SECONDS)
            < BURST_REQUESTS
        )


def test_the_budget_is_used_up_before_it_makes_anybody_wait():
    times = send_all([Ask(n, n) for n in range(61)])

    assert times[59] == 0
    assert times[60] > WINDOW_SECONDS


def test_a_blocked_budget_lets_nothing_through_until_its_time():
    budget = Budget()

    budget.block(60.0)

    assert budget.delay(Ask("one", "AAPL"), 10.0) == 50.0
    assert budget.delay(Ask("one", "AAPL"), 60.0) == 0


def answers(flow, count, seconds=0.1, bars=1000):
    for _ in range(count):
        number = flow.sent()
        flow.answered(number, seconds, bars)
        flow.ended(number)


def test_a_round_of_quick_answers_lets_one_more_request_through():
    flow = Flow()

    answers(flow, 3)
    before = flow.limit
    answers(flow, 1)

    assert (before, flow.limit) == (4, 5)


def test_no_more_than_twelve_requests_are_under_way():
    flow = Flow()

    answers(flow, 200)

    assert flow.limit == 12


def test_a_request_waits_while_as_many_are_under_way_as_the_limit_says():
    flow = Flow()

    numbers = [flow.sent() for _ in range(4)]
    before = flow.may()
    flow.ended(numbers[0])

    assert (before, flow.may()) == (False, True)


def test_no_answer_halves_the_limit_once_for_all_that_were_under_way():
    flow = Flow(limit=12)
    numbers = [flow.sent() for _ in range(12)]

    for number in numbers:
        flow.congested(number)
        flow.ended(number)

    assert flow.limit == 6


def test_silence_after_silence_leaves_one_request_at_a_time():
    flow = Flow(limit=12)

    for _ in range(9):
        number = flow.sent()
        flow.congested(number)
        flow.ended(number)

    assert flow.limit == 1
    assert flow.may()


@pytest.mark.parametrize(("seconds", "limit"), [(2.9, 5), (3.1, 2)])
def test_an_answer_three_times_as_slow_a_bar_as_the_best_halves_the_limit(seconds, limit):
    flow = Flow()

    answers(flow, 3, seconds=1.0)
    answers(flow, 1, seconds=seconds)

    assert flow.limit == limit


def test_an_answer_within_half_a_second_is_never_slow():
    flow = Flow()

    answers(flow, 3, seconds=0.001)
    answers(flow, 1, seconds=0.4)

    assert flow.limit == 5


def test_never_more_than_fifty_requests_are_open_whatever_they_are():
    flow = Flow()

    for _ in range(OPEN_REQUESTS):
        assert flow.may(paced=True)
        flow.sent(paced=True)

    assert not flow.may(paced=True)
    assert not flow.may()


def test_paced_requests_do_not_hold_up_the_others():
    flow = Flow()

    for _ in range(10):
        flow.sent(paced=True)

    assert flow.may()


def test_the_time_for_bars_follows_the_measured_rate_within_bounds():
    flow = Flow()
    start = flow.seconds_for(10_000)

    answers(flow, 100, seconds=20.0, bars=10_000)
    slow = flow.seconds_for(10_000)
    answers(flow, 100, seconds=0.01, bars=10_000)

    assert start == 10
    assert slow == pytest.approx(20.0, rel=0.01)
    assert flow.seconds_for(10_000) == pytest.approx(2.5, rel=0.01)


def booked(state, count, now=NOW, scale=1.0):
    """Book so many different requests as soon as may be; return the time of the last."""
    for number in range(count):
        while delay := state.book(Ask(f"{number} {now}", f"line {number}"), now):
            now += delay
    return now


def test_two_programs_share_one_budget(tmp_path):
    one, other = State(tmp_path / "gateway.json"), State(tmp_path / "gateway.json")

    booked(one, 30)
    booked(other, 30)

    assert one.book(Ask("next", "line"), NOW) > WINDOW_SECONDS
    assert other.book(Ask("next", "line"), NOW) > WINDOW_SECONDS


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_two_programs_break_no_limit_of_a_gateway_that_hears_them_late(tmp_path, scale):
    # The margin is of the machine's seconds, whatever the scale: so late a request may come without harm.
    states = [State(tmp_path / "gateway.json", scale) for _ in range(2)]
    chance, now, arrivals = Random(7), NOW, []
    for number in range(150):
        contract = ContractQuery(symbol=f"X{number % 7}")
        request = BarsRequest(number, contract, f"end {number}", "30 secs", "300 S", True, "TRADES")
        while delay := states[number % 2].book(Ask(f"request {number}", f"X{number % 7}"), now):
            now += delay
        arrivals.append((now + chance.choice((0, 0.99)) * MARGIN, request))
    clock = iter(sorted(at for at, _ in arrivals))
    limiter = Limiter(scale, now=lambda: next(clock))

    assert [request for _, request in sorted(arrivals, key=lambda pair: pair[0]) if limiter.violated(request)] == []


def test_the_budget_outlives_the_program(tmp_path):
    booked(State(tmp_path / "gateway.json"), 60)

    assert State(tmp_path / "gateway.json").book(Ask("next", "line"), NOW + 1) > WINDOW_SECONDS - 1


def test_a_budget_on_a_faster_clock_is_free_sooner(tmp_path):
    state = State(tmp_path / "gateway.json", time_scale=100)

    assert booked(state, 61) == pytest.approx(NOW + WINDOW_SECONDS / 100 + MARGIN, abs=0.05)


def test_a_block_is_kept_and_shared(tmp_path):
    State(tmp_path / "gateway.json").block(NOW + 60)

    assert State(tmp_path / "gateway.json").book(Ask("next", "line"), NOW) == pytest.approx(60)


@pytest.mark.parametrize("ahead", [86_400, 366 * 86_400])
def test_a_block_of_a_clock_that_was_ahead_ends_with_the_window_once_it_is_put_right(tmp_path, ahead):
    state = State(tmp_path / "gateway.json")
    state.block(NOW + ahead + 60)

    waits = [state.book(Ask("next", "line"), NOW + seconds) for seconds in (0, 60, WINDOW_SECONDS + 1)]

    assert waits == [pytest.approx(WINDOW_SECONDS), pytest.approx(WINDOW_SECONDS - 60), 0]


def test_nor_does_a_later_block_make_it_last(tmp_path):
    state = State(tmp_path / "gateway.json")
    state.block(NOW + 86_400)

    state.block(NOW + 60)

    assert state.book(Ask("next", "line"), NOW + WINDOW_SECONDS + 61) == 0


def test_a_clock_that_was_put_back_blocks_for_ten_minutes_at_most(tmp_path):
    state = State(tmp_path / "gateway.json")
    booked(state, 60, NOW + 86_400)
    state.block(NOW + 86_400)

    assert state.book(Ask("next", "line"), NOW) <= WINDOW_SECONDS + 1


MINUTES = "1 min, TRADES, STK, regular hours"


def test_learnt_steps_outlive_the_program(tmp_path):
    State(tmp_path / "gateway.json").learn("176 abc", MINUTES, "10 D", 5.0)

    again = State(tmp_path / "gateway.json")
    assert again.learnt("176 abc", MINUTES, "1 min") == ("10 D", 5.0)
    assert again.learnt("176 abc", MINUTES.replace("STK", "FUT"), "1 min") is None
    assert again.learnt("187 abc", MINUTES, "1 min") is None  # another gateway at the same address


def test_a_state_of_version_010_is_read_and_its_steps_are_as_if_learnt_long_ago(tmp_path):
    text = '{"spent": [[100.0, "a", "b", 1]], "steps": {"1 min": "10 D"}, "blocked_until": 130.0}'
    (tmp_path / "gateway.json").write_text(text, "utf-8")
    state = State(tmp_path / "gateway.json")

    assert state.learnt("176 abc", MINUTES, "1 min") == ("10 D", 0.0)
    assert state.book(Ask("c", "d"), 110.0) == 20.0

    state.learn("176 abc", MINUTES, "20 D", 200.0)
    assert state.learnt("176 abc", MINUTES, "1 min") == ("20 D", 200.0)
    assert json.loads((tmp_path / "gateway.json").read_text("utf-8"))["steps"] == {"1 min": "10 D"}  # for 0.1.0


def test_a_state_without_a_file_leaves_none(tmp_path):
    state = State()

    state.learn("176 abc", MINUTES, "10 D", 5.0)

    assert state.learnt("176 abc", MINUTES, "1 min") == ("10 D", 5.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"spent": 3}',
        '{"spent": [[1, 2]]}',
        '{"spent": [[NaN, "a", "b", 1]]}',
        '{"steps": {"1 min": "x"}}',
        '{"learnt": []}',
        '{"learnt": {"176 abc": {"1 min": "10 D"}}}',
        '{"learnt": {"176 abc": {"1 min": ["10 D", "now"]}}}',
    ],
)
def test_a_damaged_state_begins_anew_and_says_so(tmp_path, caplog, text):
    (tmp_path / "gateway.json").write_text(text)

    delay = State(tmp_path / "gateway.json").book(Ask("next", "line"), NOW)

    assert delay == 0
    assert "damaged" in caplog.text
    assert len(json.loads((tmp_path / "gateway.json").read_text())["spent"]) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="name another folder"):
        State(tmp_path / "file" / "gateway.json")
