"""Write into copies of a store, each time with a disk that fails at the n-th call; print what came of it, as JSON."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

from stores.make_store import DAILY, daily, days

from backtest.errors import BacktestError
from backtest.store.store import Store

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.listdir", "os.scandir")
JOBS = {
    "create": lambda store: store.write(DAILY, days(2, 5), daily(2, 5)),
    "append": lambda store: store.write(DAILY, days(6, 7), daily(6, 7)),
    "revise": lambda store: store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), revise=True),
    "quarantine": lambda store: store.quarantine(DAILY, days(2, 5), daily(2, 5), "no"),
    "prune": lambda store: store.prune(DAILY),
    "drop": lambda store: store.drop(DAILY),
}


def main(job: str, folder: Path, code: int) -> None:
    """Do the job until no call is left to fail."""
    left, pristine = -1, folder / "pristine"

    def fail(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if left >= 0 and event in EVENTS and str(folder) in str(args[0]):
            left -= 1
            if left < 0:
                raise OSError(code, os.strerror(code), str(args[0]))

    if job != "create":
        JOBS["create"](Store(pristine))
    if job == "prune":
        JOBS["revise"](Store(pristine))
    warm = Store(shutil.copytree(pristine, folder / "warm") if pristine.exists() else folder / "warm")
    JOBS[job](warm)  # what is loaded on the way is loaded
    sys.addaudithook(fail)
    results, number = [], 0
    while True:
        root = folder / str(number)
        if pristine.exists():
            shutil.copytree(pristine, root)
        left, said = number, ""
        try:
            JOBS[job](Store(root))
        except (OSError, BacktestError) as error:
            said = str(error)
        finished, left = left >= 0, -1
        results.append({"root": str(root), "error": said})
        number += 1
        if finished:
            break
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), getattr(errno, sys.argv[3]))
