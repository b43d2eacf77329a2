"""
Change one random input of a run, and check that its baseline names the change.

Run:  python tests/soak/mutations.py [--count 200] [--seed 1]

The change is a bar's close by one tick, a bar removed, a line of the strategy, a parameter, the cash, or the commission
rates. The baseline check must detect it and name it as the only cause; for a bar it must name the right one, and no
earlier date. If the result does not change, the check must still note the change.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from moved import AAPL, CROSS, baseline, make_repository, revise, scene_of, two_years, unload

from backtest.baselines.causes import CAUSE
from backtest.baselines.changes import Scene
from backtest.baselines.drift import MOVED, SAME, Judgement, check
from backtest.engine.account.commissions import COSTS
from backtest.store.store import Store

SAMPLE = Store(Path(__file__).resolve().parents[2] / "data" / "sample")
WHAT = {
    "close": "data",
    "gone": "data",
    "code": "code",
    "parameter": "parameters",
    "cash": "parameters",
    "costs": "costs",
}
LINES = (("size=100", "size=101"), ("> self.slow[0]", ">= self.slow[0] * 1.01"), ("elif", "elif len(self) % 2 and"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for outcome, count in sorted(run(Path(folder), words.count, words.seed).items()):
            print(f"{count:5} {outcome}")


def run(folder: Path, count: int, seed: int) -> Counter[str]:
    """Return how often each kind of change was named correctly, and a description of each that was not."""
    chance, outcomes = Random(seed), Counter[str]()
    for number in range(count):
        repository = make_repository(folder / f"{number}")
        scene = scene_of(repository, two_years(folder / f"{number}-bars", SAMPLE))
        kind = list(WHAT)[number % len(WHAT)]
        day, judgement = mutated(kind, chance, scene, repository)
        right = rightly(kind, day, judgement)
        outcomes[f"{kind}, {judgement.status}: rightly told" if right else f"{kind} {day}: {judgement}"] += 1
        unload(repository)
    return outcomes


def mutated(kind: str, chance: Random, scene: Scene, repository: Path) -> tuple[str, Judgement]:
    """Return the day of the changed bar, if a bar was changed, and what the earlier baseline reports."""
    old = baseline(scene)
    day = chance.choice(scene.store.read(AAPL)["time"].to_pylist()).date().isoformat() if WHAT[kind] == "data" else ""
    if kind == "code":
        (repository / "cross.py").write_text(CROSS.replace(*chance.choice(LINES)))
    if day:
        revise(scene.store, **{"changed" if kind == "close" else kind: day})
    if kind == "parameter":
        fast, slow = chance.choice([4, 6, 7]), chance.choice([19, 21, 30])
        scene = replace(scene, spec=replace(scene.spec, params={"fast": fast, "slow": slow}))
    if kind == "cash":
        scene = replace(scene, spec=replace(scene.spec, cash=chance.choice([99_999.0, 50_000.0])))
    if kind != "costs":
        return day, check(old, kind, scene)
    row = COSTS["ib-fixed"]
    try:
        COSTS["ib-fixed"] = replace(row, make=lambda: type(row.make())(minimum=2.0))
        return day, check(old, kind, scene)
    finally:
        COSTS["ib-fixed"] = row


def rightly(kind: str, day: str, judgement: Judgement) -> bool:
    if judgement.status == SAME:
        return [one.what for one in judgement.noted] == [WHAT[kind]]
    named = [(one.what, one.verdict) for one in judgement.causes] == [(WHAT[kind], CAUSE)]
    since = judgement.difference.first
    return judgement.status == MOVED and named and day in judgement.causes[0].told[0] and (not since or since >= day)


if __name__ == "__main__":
    main()
