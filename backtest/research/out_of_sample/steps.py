"""`Step`: an in-sample window of a walk-forward and the one after it; and steps as a document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from backtest.research.out_of_sample.window import Window
from backtest.research.search.trials import Trial, Trials
from backtest.runs.parameters import kept_params, read_params
from backtest.store.documents import ANYTHING, DAY, NUMBER, TEXT, either, keyed, list_of, mapped, one_of


@dataclass(frozen=True, slots=True)
class Step:
    """
    An in-sample window, the parameters chosen there, and the outcome in the window after it.

    If no parameters traded in the in-sample window, none can be chosen, and the next one stays in cash.
    """

    train: Window
    test: Window
    params: dict[str, Any]  # None each where it is cash
    inside: Trial  # the chosen one where it was chosen, with returns
    outside: Trial  # the same parameters out of sample
    cash: bool = False


# A document has the key of a trial; a window in cash is not a trial of the folder, so it has its numbers.
_NUMBER_OR_NULL = either("a number, or null", NUMBER, one_of(None))
_CASH = keyed({"metrics": mapped(_NUMBER_OR_NULL), "sessions": list_of(DAY), "returns": list_of(NUMBER)})
_WINDOW = keyed({"first": DAY, "last": DAY})
KEPT_STEP = keyed(
    {"train": _WINDOW, "test": _WINDOW, "params": mapped(ANYTHING), "inside": TEXT},
    {"outside": TEXT, "cash": _CASH},
)


def kept_step(step: Step) -> dict[str, Any]:
    """Return a step as JSON values; its outcome is identified by the keys of its trials."""
    outside = {"cash": _kept_cash(step.outside)} if step.cash else {"outside": step.outside.key}
    windows = {"train": _kept_window(step.train), "test": _kept_window(step.test)}
    return {**windows, "params": kept_params(step.params), "inside": step.inside.key, **outside}


def read_steps(kept: Sequence[Mapping[str, Any]], trials: Trials) -> list[Step]:
    """
    Return steps from the form of `kept_step`, with their trials.

    Raises:
        ValueError: a trial is missing, or the parameters are not in their stored form.
        DamagedStore: a file of trials is not what was written.
    """
    keys = {step[name] for step in kept for name in ("inside", "outside") if name in step}
    known = trials.read(keys, returns=True)
    if lost := len(keys - known.keys()):
        raise ValueError(f"it lacks {lost:,} of its {len(keys):,} trials")
    return [_read_step(step, known) for step in kept]


def _read_step(step: Mapping[str, Any], known: Mapping[str, Trial]) -> Step:
    test, cash = _read_window(step["test"]), step.get("cash")
    outside = known[step["outside"]] if cash is None else _read_cash(cash, test)
    params, inside = read_params(step["params"]), known[step["inside"]]
    return Step(_read_window(step["train"]), test, params, inside, outside, cash is not None)


def _kept_window(window: Window) -> dict[str, str]:
    return {"first": window.first.isoformat(), "last": window.last.isoformat()}


def _read_window(kept: Mapping[str, str]) -> Window:
    return Window(date.fromisoformat(kept["first"]), date.fromisoformat(kept["last"]))


def _kept_cash(trial: Trial) -> dict[str, Any]:
    metrics = {name: value if math.isfinite(value) else None for name, value in trial.metrics.items()}
    return {"metrics": metrics, "sessions": list(map(str, trial.sessions)), "returns": trial.returns.tolist()}


def _read_cash(kept: Mapping[str, Any], window: Window) -> Trial:
    metrics = {name: math.nan if value is None else float(value) for name, value in kept["metrics"].items()}
    sessions, returns = np.array(kept["sessions"], "datetime64[D]"), np.array(kept["returns"], float)
    if len(sessions) != len(returns):
        raise ValueError(f"there are {len(sessions):,} sessions for {len(returns):,} returns")
    return Trial("", "", {}, str(window), metrics, sessions=sessions, returns=returns)
