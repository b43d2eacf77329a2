"""
Check that verdicts separate skill from luck, and that intervals contain the true value, in simulated runs.

    python tests/soak/skill.py [--paths 4000] [--flips 1000] [--jobs 2] [--only interval]

Returns are independent, autocorrelated or of changing volatility, with normal and with fat tails, over 500 and 2,500
sessions. At most 3 % of the runs without skill may pass. Intervals of the Sharpe ratio have to contain the true one in
93 to 97 % of the runs; in 90 to 97 % where losses raise volatility, which squared returns alone do not show. Over ten
years, at least 75 % of the runs with an annual appraisal ratio of 1 have to pass, and 95 % of those with 2. Of 1,000
strategies that flip a coin on a rising stock at most 3 % may pass, and buying and holding it never does.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import backtrader as bt
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from handmade import result_of
from luck import wandering

from backtest.api import RunResult, run
from backtest.metrics.table import METRICS
from backtest.store.store import Store
from backtest.validity.bootstrap import bootstrap
from backtest.validity.verdict import verdict

SESSIONS = (500, 2500)
PROCESSES = ("iid", "ar 0.1", "ar 0.3", "ar -0.3", "garch")
TAILS = ("normal", "t(6)")
YEAR = 252
SAMPLES = 199  # of a bootstrap: 0.025 and 0.975 of 200 are whole numbers
MOST_LUCKY, COVERED, POWER = 0.03, (0.93, 0.97), {1.0: 0.75, 2.0: 0.95}
COVERED_AFTER_FALLS = (0.90, 0.97)  # a limit that docs/how-to/judge-a-result.md names


@dataclass(frozen=True)
class Case:
    """Simulated runs of one kind: the process of their returns, their length, and the question about them."""

    asked: str  # "luck", "luck beside the market", "interval", "bootstrap" or "power"
    process: str
    tails: str
    sessions: int
    sharpe: float = 0.0  # annual, the true one; of "power" the appraisal ratio

    @property
    def within(self) -> tuple[float, float]:
        """The allowed range of the fraction of paths for which the answer is yes."""
        if self.asked == "power":
            return POWER[self.sharpe], 1.0
        if self.asked in ("interval", "bootstrap"):
            return COVERED_AFTER_FALLS if self.process == "falls" else COVERED
        return 0.0, MOST_LUCKY


CASES = [
    *(Case(asked, process, tails, sessions)
      for asked in ("luck", "luck beside the market")
      for process in PROCESSES for tails in TAILS for sessions in SESSIONS),
    *(Case("interval", process, tails, sessions, sharpe)
      for sharpe in (0.0, 1.0)
      for process in PROCESSES for tails in TAILS for sessions in SESSIONS),
    *(Case("interval", "falls", tails, sessions, 1.0) for tails in TAILS for sessions in SESSIONS),
    *(Case("bootstrap", process, "normal", sessions, 0.5)
      for process in ("iid", "ar 0.3", "garch") for sessions in SESSIONS),
    *(Case("power", process, tails, 10 * YEAR, ratio)
      for ratio in POWER for process in ("iid", "garch") for tails in TAILS),
]  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--paths", type=int, default=4000)
    words.add_argument("--flips", type=int, default=1000)
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--only", default="", help="only cases of this kind, such as interval")
    asked = words.parse_args()
    failed = 0
    chosen = [case for case in CASES if asked.only in ("", case.asked)]
    with ProcessPoolExecutor(asked.jobs) as pool:
        counts = [asked.paths // (_SLOW if case.asked == "bootstrap" else 1) for case in chosen]
        for case, found in zip(chosen, pool.map(share, chosen, counts), strict=True):
            low, high = case.within
            fine = low <= found <= high
            failed += not fine
            print(f"{case}: {found:.2%} ({low:.0%} to {high:.0%}){'' if fine else ' FAILED'}", flush=True)
    if asked.flips:
        with tempfile.TemporaryDirectory() as folder:
            held, held_by_hold = flips(Path(folder), asked.flips)
        failed += held > MOST_LUCKY * asked.flips or held_by_hold
        print(f"{held} of {asked.flips} coin flips hold; buy and hold {'holds' if held_by_hold else 'does not'}")
    sys.exit(failed > 0)


_SLOW = 8  # times fewer paths of what takes a second


def share(case: Case, paths: int, seed: int = 0) -> float:
    """Return the fraction of the paths for which the answer to a case's question is yes."""
    chance, answers = np.random.default_rng([seed, sum(map(ord, repr(case)))]), list[bool]()
    while len(answers) < paths:
        count = min(paths - len(answers), _AT_ONCE)
        own, other = (drawn(case.process, case.tails, case.sessions, count, chance) for _ in "ab")
        answers += [_answer(case, *both, chance) for both in zip(own, other, strict=True)]
    return float(np.mean(answers))


_AT_ONCE = 250  # paths, so that a step of all of them is one operation


def _answer(case: Case, own: np.ndarray, other: np.ndarray, chance: np.random.Generator) -> bool:
    if case.asked in ("interval", "bootstrap"):
        made = _run_of(0.01 * (own + case.sharpe / math.sqrt(YEAR)), 0.01 * other)
        if case.asked == "interval":
            low, high = (METRICS[name].function(made.account) for name in ("sharpe_low", "sharpe_high"))
        else:
            low, high = bootstrap(made.account, SAMPLES, int(chance.integers(2**31))).intervals["sharpe"]
        return bool(low <= case.sharpe <= high)
    market = 0.01 * (other + 0.04)
    beta = 0.0 if case.asked == "luck" else 0.6
    skill = case.sharpe / math.sqrt(YEAR) if case.asked == "power" else 0.0
    return verdict(_run_of(beta * market + 0.01 * (own + skill), market)).good


def drawn(process: str, tails: str, count: int, paths: int, chance: np.random.Generator) -> np.ndarray:
    """Return numbers of a process with a mean of 0 and a deviation of 1, shape (paths, count)."""
    size = (count + _BEFORE, paths)
    noise = chance.normal(size=size) if tails == "normal" else chance.standard_t(6, size) / math.sqrt(6 / 4)
    if process == "garch":
        noise = _garch(noise, 0.08, 0.90)
    elif process == "falls":
        noise = _garch(noise, 0.02, 0.90, 0.10)
    elif process != "iid":
        noise = _autoregressive(noise, float(process.removeprefix("ar ")))
    return np.ascontiguousarray(noise[_BEFORE:].T)


_BEFORE = 500  # sessions, after which it does not matter how a process began


def _autoregressive(noise: np.ndarray, coefficient: float) -> np.ndarray:
    made, scale = np.empty_like(noise), math.sqrt(1 - coefficient**2)
    made[0] = noise[0]
    for n in range(1, len(noise)):
        made[n] = coefficient * made[n - 1] + scale * noise[n]
    return made


def _garch(noise: np.ndarray, alpha: float, beta: float, of_falls: float = 0.0) -> np.ndarray:
    """Return GARCH(1,1); `of_falls` is added to alpha after a loss, as in Glosten, Jagannathan and Runkle (1993)."""
    made, variance = np.empty_like(noise), np.ones(noise.shape[1])
    for n, row in enumerate(noise):
        made[n] = np.sqrt(variance) * row
        weights = alpha + of_falls * (made[n] < 0)
        variance = 1 - alpha - beta - of_falls / 2 + weights * made[n] ** 2 + beta * variance
    return made


def _run_of(returns: np.ndarray, market: np.ndarray) -> RunResult:
    """Return a run with these returns, on a series with the returns of the market."""
    blank = _blank(len(returns))
    record = blank.record
    for name, values in (("equity", returns), ("close.0", market)):
        grown = 100 * np.cumprod(1 + np.maximum(values, -0.9))
        record = record.set_column(record.column_names.index(name), name, pa.array(grown))
    return replace(blank, record=record)


@cache
def _blank(count: int) -> RunResult:
    days = [_FIRST + timedelta(days=n * 7 // 5) for n in range(count)]
    return result_of([100.0] * count, days=days)


_FIRST = date(2000, 1, 3)


class Flips(bt.Strategy):
    """Hold or not, by a coin flip each day; each seed is another strategy."""

    params = (("seed", 0),)

    def __init__(self) -> None:
        self.coin = np.random.default_rng(self.p.seed)

    def next(self) -> None:
        self.order_target_percent(target=0.95 * self.coin.integers(2))


class Holds(bt.Strategy):
    """Buy on the first day."""

    def next(self) -> None:
        if len(self) == 1:
            self.order_target_percent(target=0.95)


def flips(folder: Path, count: int) -> tuple[int, bool]:
    """Return how many strategies that flip a coin on a rising stock pass, and whether buy and hold does."""
    store = Store(Path(__file__).resolve().parents[2] / "data" / "sample")
    held = sum(_flip_holds(store, seed) for seed in range(count))
    hold = any(verdict(run(Holds, series, store=store)).good for series in ("AAPL/1day", "IBM/1day", "MSFT/1day"))
    risen = (verdict(run(Holds, "AAPL/1day", store=wandering(folder / str(n), 1500, n))).good for n in range(20))
    return held, hold or any(risen)


def _flip_holds(store: Store, seed: int) -> bool:
    asked = {"params": {"seed": seed}, "costs": "none", "lines": False}
    return verdict(run(Flips, "AAPL/1day", store=store, **asked)).good


if __name__ == "__main__":
    main()
