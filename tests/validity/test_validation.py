import json
import math

import numpy as np
import pytest
from handmade import day, fill, result_of

from backtest.metrics.account import sample
from backtest.metrics.returns import equity_of
from backtest.validity import bootstrap as resampling
from backtest.validity.bootstrap import OF_SESSIONS, OF_TRADES, block_length, block_rows, bootstrap
from backtest.validity.cost_stress import break_even_costs, cost_cases
from backtest.validity.monte_carlo import monte_carlo
from backtest.validity.validation import validate
from backtest.validity.verdict import verdict

NET = np.array([100.0, -50.0, 30.0, -20.0])
TRADED = [one for n in range(0, 600, 10) for one in (fill(n, 1, 10.0), fill(n + 5, -1, 10.0 + (-1) ** (n // 10) + 0.3))]


def run_of(mean, sessions=1000, seed=0, fills=(), **spec):
    """Return a run whose returns have this mean and a deviation of 1 %."""
    noise = np.random.default_rng(seed).normal(0, 1, sessions)
    returns = mean + 0.01 * (noise - noise.mean()) / noise.std()
    closes = 50 + np.random.default_rng(seed + 1).normal(0, 1, sessions)
    return result_of(equity_of(returns, 100.0)[1:].tolist(), fills, closes=closes.tolist(), **spec)


def autoregressive(coefficient, count, seed=0):
    values = np.random.default_rng(seed).normal(size=count)
    for n in range(1, count):
        values[n] += coefficient * values[n - 1]
    return values


def test_blocks_follow_the_series_and_go_round_at_its_end():
    rows = block_rows(1000, 20, np.random.default_rng(0))

    steps = np.diff(rows) % 1000
    assert 30 <= (steps != 1).sum() <= 70  # a new block with a probability of 1 in 20
    assert sorted(block_rows(10, 1e9, np.random.default_rng(0))) == list(range(10))


def test_blocks_of_one_are_independent_draws():
    rows = block_rows(10_000, 1, np.random.default_rng(0))

    assert (np.diff(rows) == 1).mean() < 0.002
    assert len(np.unique(rows)) == pytest.approx(10_000 * (1 - math.exp(-1)), rel=0.02)


@pytest.mark.parametrize("coefficient", [0.3, 0.6, 0.8])
def test_the_block_length_is_that_of_theory_for_an_autoregression(coefficient):
    count = 20_000
    optimum = (2 * coefficient / (1 - coefficient**2)) ** (2 / 3) * count ** (1 / 3)

    assert block_length(autoregressive(coefficient, count)) == pytest.approx(optimum, rel=0.35)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01] * 50])
def test_what_has_no_correlation_is_drawn_one_by_one(returns):
    assert block_length(np.array(returns)) == 1
    assert block_length(np.random.default_rng(1).normal(size=5000)) < 4


@pytest.mark.parametrize("risk_free", [0.0, 0.02])
def test_draws_that_are_measured_together_have_the_numbers_of_each(monkeypatch, risk_free):
    run = sample(run_of(0.001, 610, fills=TRADED, risk_free=risk_free))
    together = bootstrap(run, 40)
    monkeypatch.setattr(resampling, "_AT_ONCE", 1)

    assert repr(bootstrap(run, 40)) == repr(together)


def test_intervals_are_the_same_for_the_same_seed_and_say_how_they_were_made():
    run = sample(run_of(0.001, 300))

    first, second, third = (bootstrap(run, 50, seed, block=5.0) for seed in (1, 1, 2))

    assert first.intervals["sharpe"] == second.intervals["sharpe"] != third.intervals["sharpe"]
    assert "stationary bootstrap, 50 samples, mean block 5.0 sessions" in first.basis
    assert "seed 1" in first.basis


def test_the_interval_of_sharpe_is_that_of_theory_where_returns_are_independent_and_normal():
    run = sample(run_of(0.0005, 2000))

    low, high = bootstrap(run, 400, block=1.0).intervals["sharpe"]

    error = math.sqrt(252 / 2000)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert (high + low) / 2 == pytest.approx(0.05 * math.sqrt(252), abs=0.15)


def test_blocks_widen_the_interval_of_returns_that_hang_together():
    trending = 0.001 + 0.005 * autoregressive(0.7, 1000)
    run = sample(result_of(equity_of(trending, 100.0)[1:].tolist(), closes=[1.0] * 1000))

    alone, together = (bootstrap(run, 200, block=block).intervals["sharpe"] for block in (1.0, 30.0))

    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_every_headline_number_that_can_be_resampled_has_an_interval_around_it():
    result = run_of(0.0005, 700, fills=TRADED)

    found = bootstrap(sample(result), 200)

    assert tuple(found.intervals) == OF_SESSIONS + OF_TRADES
    for name, (low, high) in found.intervals.items():
        assert low <= result.stats[name] <= high


def test_what_is_undefined_has_no_interval():
    found = bootstrap(sample(result_of([101.0, 102.0, 103.0])), 20)

    for name in ("cagr", "win_rate", "sortino"):
        assert all(math.isnan(end) for end in found.intervals[name])


def test_another_order_of_the_trades_ends_the_same_but_falls_otherwise():
    shuffle, resample, skip = monte_carlo(NET, 1000.0, samples=2000)

    assert shuffle.end == pytest.approx((1060.0,) * 3)
    # At worst both losses come first: -50 of 1100, then -20 of 1080.
    assert shuffle.drawdown[0] == pytest.approx((1050 / 1100) * (1060 / 1080) - 1)
    assert shuffle.drawdown[2] > shuffle.drawdown[0]
    assert resample.end[0] < 1000 < 1060 < resample.end[2]
    assert resample.loss > 0 == shuffle.loss
    assert skip.end[0] < 1060 < skip.end[2]


def test_skipping_nothing_is_the_run_and_skipping_all_is_none():
    assert monte_carlo(NET, 1000.0, skipped=0.0)[2].end == pytest.approx((1060.0,) * 3)
    assert monte_carlo(NET, 1000.0, skipped=1.0)[2].end == pytest.approx((1000.0,) * 3)


def test_trades_are_drawn_the_same_for_the_same_seed_in_whatever_memory():
    assert monte_carlo(NET, 1000.0, seed=3) == monte_carlo(NET, 1000.0, seed=3) != monte_carlo(NET, 1000.0, seed=4)


def test_without_trades_or_after_ruin_there_is_nothing_to_draw():
    assert monte_carlo(np.array([]), 1000.0) == monte_carlo(np.array([-1000.0, 5.0]), 1000.0) == []


FILLS = [fill(0, 1, 10.0, 1.0), fill(2, -1, 16.0, 3.0)]


def test_costs_are_taken_off_from_their_fill_on():
    free, paid, double = cost_cases(result_of([99.0, 100.0, 106.0, 108.0], FILLS))

    assert (free.factor, free.total_return) == (0, pytest.approx(0.12))
    assert paid.total_return == pytest.approx(0.08)
    assert double.total_return == pytest.approx(0.04)
    returns = np.array([98 / 100, 99 / 98, 102 / 99, 104 / 102]) - 1
    assert double.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(252))


def test_the_costs_of_a_run_as_it_was_are_its_own_numbers():
    result = result_of([99.0, 100.0, 106.0, 108.0], FILLS)

    (same,) = cost_cases(result, [1.0])

    assert (same.total_return, same.sharpe) == (result.stats["total_return"], result.stats["sharpe"])


def test_who_has_nothing_left_stays_ruined():
    (ruined,) = cost_cases(result_of([99.0, 100.0, 106.0, 108.0], FILLS), [1000.0])

    assert ruined.total_return == -1


def test_break_even_is_where_the_costs_eat_the_gain():
    result = result_of([99.0, 100.0, 106.0, 108.0], FILLS)

    factor = break_even_costs(result)

    assert factor == pytest.approx(3.0)  # 12 gained before costs of 4
    assert cost_cases(result, [factor])[0].total_return == pytest.approx(0)


def test_no_multiple_of_no_costs_and_none_of_a_loss_breaks_even():
    assert break_even_costs(result_of([101.0])).reason == "no costs"
    assert break_even_costs(result_of([90.0, 90.0, 90.0], FILLS)).reason == "loses before costs"


def test_a_long_and_good_run_holds_so_far():
    found = verdict(run_of(0.001, 1500))

    assert found.words == "no red flags"
    assert "95 % CI" in found.reasons[-1]


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("loses money", run_of(-0.001)),
        ("earns less than cash", run_of(0.0001, risk_free=0.2)),
        ("inconclusive: track record too short", run_of(0.001, 100)),
        ("inconclusive: track record too short", run_of(0.0003, 1000)),
        ("inconclusive: track record too short", run_of(0.002, 1000, fills=[fill(0, 1, 10.0), fill(1, -1, 11.0)])),
        ("does nothing", result_of([100.0] * 300)),
        ("every order was rejected", result_of([100.0] * 300, statuses=["Margin"] * 7)),
        ("no order was filled", result_of([100.0] * 300, statuses=["Canceled", "Margin", "Rejected"])),
    ],
)
def test_the_gravest_fault_is_the_word(words, result):
    assert verdict(result).words == words


def test_nothing_is_explained_of_a_run_that_never_traded():
    closes = run_of(0.001, 1000).record["equity"].to_pylist()

    found = verdict(result_of([100.0] * 1000, closes=closes))

    assert found.words == "does nothing"
    assert not any("explains" in reason for reason in found.reasons)


@pytest.mark.slow
def test_a_position_that_was_bought_in_parts_is_one_trade_of_thirty():
    parts = [fill(n, 1, 10.0) for n in range(40)] + [fill(50, -40, 11.0)]
    turns = [fill(60, 1, 10.0), *(fill(61 + n, (-1) ** (n + 1) * 2, 10.0) for n in range(28))]

    assert "fewer than 30 closed trades: 1" in verdict(run_of(0.002, 1000, fills=parts)).reasons
    assert (
        "fewer than 30 closed trades: 1"
        in verdict(run_of(0.002, 1000, fills=[*parts[:40], fill(50, -9, 11.0)])).reasons
    )
    assert "fewer than 30 closed trades: 29" in verdict(run_of(0.002, 1000, fills=parts + turns)).reasons
    assert verdict(run_of(0.002, 1000, fills=[*parts, *turns, fill(90, -1, 10.0)])).words == "no red flags"


@pytest.mark.parametrize(("mean", "likely"), [(0.01, "0.999"), (-0.01, "0.001")])
def test_no_verdict_calls_a_thing_sure(mean, likely):
    assert f"probability that the true ratio is above 0: {likely}\n" in f"{verdict(run_of(mean, 1500))}\n"


def test_a_run_that_lives_on_cheap_fills_is_told_so():
    result = run_of(0.001, 1500)
    gained = result.record["equity"][-1].as_py() - 100
    costly = run_of(0.001, 1500, fills=[fill(3, 1, 1.0, gained / 2), fill(1400, 1, 1.0, gained / 2)])

    found = verdict(costly)

    assert found.words == "does not survive 2× costs"
    assert "break-even cost multiple: 2.0" in str(found)


def test_one_of_many_trials_is_deflated():
    trials = np.random.default_rng(0).normal(0.5, 0.8, 400).tolist()

    alone, chosen = verdict(run_of(0.001, 1500)), verdict(run_of(0.001, 1500), trials)

    assert alone.words == "no red flags"
    assert chosen.words == "not significant after correction for 400 trials"
    assert any(one.startswith("best of 400 trials: deflated Sharpe ratio 0.") for one in chosen.reasons)


def test_what_looks_ahead_is_believed_nothing_else():
    found = verdict(run_of(0.001, 1500), looks_ahead=["bar 2010-01-07: buy"])

    assert found.words == "look-ahead bias"
    assert "bar 2010-01-07" in found.reasons[0]
    assert str(found).startswith("Look-ahead bias.\n- 1 decision depends on later bars, the first: ")


def test_a_run_of_one_day_is_too_short():
    assert verdict(result_of([101.0], days=[day(0)])).words == "inconclusive: track record too short"


def test_all_there_is_to_say_is_json():
    found = validate(run_of(0.001, 300), samples=20, factors=[0, 3])

    words = json.dumps(found.to_dict(), allow_nan=False)

    assert json.loads(words)["intervals"]["intervals"]["win_rate"] == [None, None]
    assert [case["factor"] for case in json.loads(words)["costs"]] == [0, 3]
