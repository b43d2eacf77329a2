"""Trials that skip steps at which they do nothing equal those of the event engine to the last bit."""

import ast
from datetime import timedelta

import numpy as np
import pytest
from compiled_check import named, set_up_of
from compiled_idle import CLASSES, Hears, Levels, compared
from compiled_random import Chance, case
from parity_markets import market, quick_rows

from backtest.engine.compiled import trials as module
from backtest.engine.compiled.idle import Idle, acts
from backtest.engine.compiled.trials import Run, run_trials


@pytest.fixture
def ways(monkeypatch):
    """Return how trials were taken through their steps, in order."""
    found = []
    for name in ("go_by_trial", "go_by_step"):
        way = getattr(Run, name)
        monkeypatch.setattr(Run, name, lambda run, *args, n=name, w=way: (found.append(n), w(run, *args))[1])
    return found


AT_ONCE = (Levels, Hears)  # which the quick tests look at
EACH = [pytest.param(cls, marks=() if cls in AT_ONCE else pytest.mark.slow) for cls in CLASSES]


@pytest.mark.parametrize("cls", EACH)
def test_skipped_steps_change_nothing(cls, ways):
    outcomes, differing = compared(cls, 1, trials=2, bars=90)

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert ways == ["go_by_trial"]


@pytest.mark.parametrize("cls", EACH)
def test_trials_that_skip_too_little_go_on_together(cls, ways, monkeypatch):
    monkeypatch.setattr(module, "_SELDOM", -1)
    monkeypatch.setattr(module, "_TRIED", 31)

    outcomes, differing = compared(cls, 3, trials=2, bars=90)

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert ways == ["go_by_trial", "go_by_step"]


def test_steps_may_be_looked_at_a_few_at_a_time(ways, monkeypatch):
    monkeypatch.setattr(module, "_TABLED", 20)
    monkeypatch.setattr(module, "_SELDOM", 2)
    monkeypatch.setattr(module, "_TRIED", 1)

    outcomes, differing = compared(Hears, 1, trials=3, bars=90)

    assert (outcomes.left, differing, ways) == ({}, {}, ["go_by_trial"])
    assert len(outcomes.fills) > 20


def test_a_strategy_that_may_act_at_each_step_skips_none(ways):
    run_trials(Chance, *(part() if callable(part) and n == 1 else part for n, part in enumerate(case(0, 1, bars=20))))

    assert ways == ["go_by_step"]


def test_a_trial_that_rests_for_long_is_called_seldom(monkeypatch):
    calls = []
    through = Run.go_on
    monkeypatch.setattr(
        Run, "go_on", lambda run, idle, t, history: (calls.append(t), through(run, idle, t, history))[1]
    )
    rows = market(5, 400, timedelta(days=1), tick=0.01)

    outcomes = run_trials(Levels, [{"low": 20.0, "high": 80.0}], named([quick_rows(rows)]), set_up_of("none"))

    assert 4 < len(outcomes.orders) <= len(calls) < 60


def functions_of(text):
    return {node.name: node for node in ast.parse(text).body}


def following(text, closes, position, **constants):
    """Return the next steps at which code may act for one trial with a position, of closes."""
    steps = len(closes)
    condition = acts(functions_of(text), "next", {"NF": 1, **constants}, {"orders"}, steps - 1)
    if isinstance(condition, bool):
        return condition
    columns = {"close": np.array([closes], float)}
    idle = Idle(condition, columns, np.arange(steps)[None], [(0, np.array([closes], float), 0)], [np.array([2.5])])
    idle.begin(1, 0, steps)
    account = {"position": np.array([[position]], float), "left": np.array([3.0])}
    at = np.arange(steps)
    return np.hstack([idle.soonest(account, np.array([0]), at[n : n + 1]) for n in at]).tolist()


BUYS = "i_t1 = give(0)"


@pytest.mark.parametrize(
    ("code", "flat", "invested"),
    [
        (f"if line(0, 0) > const(0):\n        {BUYS}", [2, 2, 2, 3, 5], [2, 2, 2, 3, 5]),
        (f"if line(0, 0) > const(0) and A.position[0] == 0:\n        {BUYS}", [2, 2, 2, 3, 5], [5] * 5),
        (f"if A.position[0] != 0:\n        if N.close[0] < 2:\n            {BUYS}", [5] * 5, [0, 4, 4, 4, 4]),
        (f"if line(0, 0) > line(0, -1):\n        {BUYS}", [1, 1, 2, 5, 5], [1, 1, 2, 5, 5]),
        (f"if N.step % 3 == 1:\n        {BUYS}", [1, 1, 4, 4, 4], [1, 1, 4, 4, 4]),
        (f"f_sign = 0\n    if line(0, 0) > 2.5:\n        f_sign = 1\n    if f_sign == 1:\n        {BUYS}",
         [2, 2, 2, 3, 5], [2, 2, 2, 3, 5]),
        (f"if line(0, 0) < 4:\n        return\n    {BUYS}", [2, 2, 2, 5, 5], [2, 2, 2, 5, 5]),
        (f"if line(0, 0) < A.position[0] * 2:\n        {BUYS}", [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),  # not known before
        (f"i_n = line(0, 0) * 0.6\n    if i_n < 1.5:\n        {BUYS}", [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),  # 1.8 is 1
        ("A.left = 3.0", [5] * 5, [5] * 5),  # what is there already
        ("A.left = 2.0", [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ("f_part = 1 / (line(0, 0) - 2)", [1, 1, 5, 5, 5], [1, 1, 5, 5, 5]),  # which flags
    ],
)  # fmt: skip
def test_the_next_step_at_which_code_may_act_is_found(code, flat, invested):
    text = f"def next():\n    {code}\ndef give(i_d):\n    A.orders = A.orders + 1\n    return 0\n"

    assert following(text, [1, 2, 4, 3, 1], 0.0) == flat
    assert following(text, [1, 2, 4, 3, 1], 7.0) == invested


@pytest.mark.parametrize(
    "code",
    [
        "A.left = A.left - 1",
        "f_drawn = draw(0)",
        "f_value = line(0, 1)",  # after the last bar
        "f_value = 1 / A.position[0] + line(0, -9)",
        "while A.left > 0:\n        A.left = 0.0",
        "for i_k in range(40):\n        A.left = 1.0",
    ],
)
def test_code_that_may_always_act_is_told(code):
    assert following(f"def next():\n    {code}\n", [1, 2, 4, 3, 1], 0.0) is True
