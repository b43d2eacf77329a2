import math
from dataclasses import replace

import numpy as np
import pytest
import skill
from handmade import fill, result_of
from skill import Case

from backtest.metrics.benchmark import alpha_test
from backtest.metrics.returns import equity_of
from backtest.validity.verdict import verdict

COUNT = 2520
MARKET, OWN = np.random.default_rng(3).normal(0, 0.01, (2, COUNT))
MARKET += 0.0006


def run_of(returns, market=MARKET, **options):
    money, prices = (equity_of(np.asarray(one), 100.0)[1:].tolist() for one in (returns, market))
    return result_of(money, closes=prices, **options)


def test_what_only_rises_with_its_market_does_not_hold_however_sure_its_gains_are():
    found = verdict(run_of(1.2 * MARKET + 0.3 * OWN))

    assert not found.good
    assert "annual alpha over buying and holding AAPL/1day:" in str(found)


def test_the_reason_names_alpha_its_interval_its_t_and_the_appraisal_ratio():
    returns = 0.6 * MARKET + OWN - OWN.mean() + 0.001

    result = run_of(returns)
    found, test = verdict(result), alpha_test(result.account.returns, result.account.benchmark)

    assert found.good
    assert f"t = {test.t:.2f} with HAC standard errors" in str(found)
    assert f"appraisal ratio {test.appraisal:.2f}" in str(found)
    low, high = ((test.alpha + sign * 2.326348 * test.error) * 100 for sign in (-1, 1))
    assert f"{test.alpha * 100:.2f} % (98 % CI {low:.2f} % to {high:.2f} %" in str(found)


def test_what_loses_in_its_market_and_gains_beyond_it_is_not_called_skill_for_losing():
    falling = MARKET - 0.0016

    found = verdict(run_of(falling + OWN - OWN.mean() + 0.0002, falling))

    assert found.words == "loses money"


def test_less_than_its_market_is_said_to_be_less():
    found = verdict(run_of(MARKET + OWN - OWN.mean() - 0.0002))

    assert found.words == "earns no more than its market"


@pytest.mark.parametrize(
    ("closes", "why"), [([50.0] * COUNT, "does not move"), ([*[5.0] * 9, -1.0, *[5.0] * (COUNT - 10)], "above 0")]
)
def test_without_a_benchmark_it_is_judged_against_cash_and_says_so(closes, why):
    money = equity_of(OWN - OWN.mean() + 0.0008, 100.0)[1:].tolist()

    found = verdict(result_of(money, closes=closes))

    assert found.good
    assert f"annual excess return over cash, since {'its benchmark' if 'move' in why else 'a price'}" in str(found)
    assert why in str(found)


@pytest.mark.parametrize("held", [1.0, 0.5])
def test_buying_and_holding_never_holds(held):
    money = [100 * (1 - held) + held * price for price in equity_of(MARKET + 0.001, 100.0)[1:].tolist()]

    found = verdict(result_of(money, [fill(0, 1, 100.0)], closes=equity_of(MARKET + 0.001, 100.0)[1:].tolist()))

    assert not found.good


def test_what_its_market_explains_wholly_is_told_as_such():
    market = np.append(0.0, MARKET[1:])  # the benchmark is bought at the first close

    found = verdict(run_of(0.9 * market, market))

    assert found.words == "does what its market does"


def test_too_short_to_tell_says_how_long_it_takes():
    returns = 0.6 * MARKET + OWN - OWN.mean() + 0.0002

    result = run_of(returns)
    found, t = verdict(result), alpha_test(result.account.returns, result.account.benchmark).t

    assert found.words == "inconclusive: track record too short"
    assert 0 < t < 2
    needed = f"{COUNT * (2.326348 / t) ** 2:,.0f}"
    assert f"track record of the alpha: {needed} sessions at 99 % confidence; the run has 2,520" in str(found)


def test_luck_of_many_trials_is_measured_beyond_the_market():
    # Of 1,000 coins on a stock that rises the best has a Sharpe ratio far above the others' and 0.
    chance = np.random.default_rng(8)
    flips = chance.integers(0, 2, (1000, COUNT)) * MARKET
    ratios = flips.mean(axis=1) / flips.std(axis=1, ddof=1) * math.sqrt(252)
    best = flips[int(ratios.argmax())]

    found = verdict(run_of(best), ratios.tolist())

    assert any(one.startswith("best of 1,000 trials: deflated Sharpe ratio 0.") for one in found.reasons)
    assert not found.good


# The witness of `tests/soak/skill.py`, which makes 4,000 paths of each.
PATHS = 120


@pytest.mark.slow
@pytest.mark.parametrize("process", ["ar 0.3", "garch"])
@pytest.mark.parametrize("asked", ["luck", "luck beside the market"])
def test_luck_does_not_hold(asked, process):
    lucky = skill.share(Case(asked, process, "t(6)", 500), PATHS)

    assert lucky * PATHS <= 7  # of 120 with 0.03 each as many or less in 98 cases of 100


@pytest.mark.slow
@pytest.mark.parametrize("process", ["ar 0.3", "garch"])
def test_intervals_of_the_sharpe_ratio_cover_what_is_true(process):
    covered = skill.share(Case("interval", process, "normal", 500, 0.5), PATHS)

    assert covered * PATHS >= 106  # of 120 with 0.95 each as many or more in 998 cases of 1,000; with 0.84 in 8 of 100


@pytest.mark.slow
def test_the_studentised_interval_covers_it_too():
    assert skill.share(Case("bootstrap", "ar 0.3", "normal", 500, 0.5), 40) >= 0.85  # 997 cases of 1,000 with 0.95 each


@pytest.mark.slow
def test_skill_holds():
    assert skill.share(Case("power", "iid", "normal", 2520, 2.0), 40) >= 0.95
    assert skill.share(Case("power", "iid", "normal", 2520, 1.0), 80) >= 0.65


# --- survivors


def run_of_many(count, ends=(), universe=None):
    """Return a run with the manifest of so many stocks, of which some end before the last session."""
    names = [f"N{n}-STK-SMART-USD/1day/TRADES/rth" for n in range(count)]
    to = dict.fromkeys(names, "2009-12-31T00:00:00+00:00") | {names[n]: day for n, day in ends}
    manifest = {"series": {name: {"to": day} for name, day in to.items()}}
    if universe:
        manifest["universe"] = {"rows": [[name, "", universe.get(n, ""), None] for n, name in enumerate(names)]}
    result = run_of(MARKET + OWN - OWN.mean() + 0.001, manifest=manifest)
    account = result.account  # of the one series that there is
    many = replace(result, spec=replace(result.spec, series=tuple(names)))
    vars(many)["account"] = account
    return many


@pytest.mark.parametrize(
    ("told", "good"),
    [
        ({"count": 20}, False),
        ({"count": 19}, True),
        ({"count": 20, "ends": [(3, "2009-12-22T00:00:00+00:00")]}, False),  # which a holiday may be
        ({"count": 20, "ends": [(3, "2008-05-06T00:00:00+00:00")]}, True),
        ({"count": 20, "universe": {3: "2008-05-06"}}, True),
        ({"count": 20, "universe": {3: "2031-05-06"}}, False),
    ],
)
def test_many_stocks_that_all_trade_to_the_end_are_survivors(told, good):
    found = verdict(run_of_many(**told))

    assert found.good is good
    assert ("all 20 stocks trade to the end" in str(found)) is not good
