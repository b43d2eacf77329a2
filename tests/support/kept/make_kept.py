"""
Make a working folder as version 0.1.0 leaves one: a store, pins, runs, sweeps, a walk forward and baselines.

Run:  python tests/support/kept/make_kept.py        (with version 0.1.0 installed, commit 8dd12ea; writes 0.1.0)

`test_kept.py` holds every later version to these files, so they are made once and never again. For another released
version, copy this script, adapt it to that version, and write a folder beside this one. The bars of AAPL and MSFT are
cut from `data/sample` (source and licence: data/README.md); all others are made up here.

Made again, all is the same but the moment at which an answer was put aside, and how trials are cut into files: a sweep
keeps what it has made every half second.

    data/bars, data.lock    a store, and pins of each of its series
    strategies              the strategies of `strategies/` as they were, with the baselines of two runs
    runs                    RUNS, each with its metrics.json; a finished sweep, a stopped one, a walk forward
    printed                 what commands of 0.1.0 printed about all this, with --json
    keys.json               `RunSpec.key` of each run
    arithmetic.txt          see `arithmetic`
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest import Series, Store

ROOT = Path(__file__).parents[3]
VERSION = "0.1.0"
STRATEGIES = ("pairs", "rsi2", "sma_cross")
SMA = "strategies/sma_cross.py:SmaCross"
BERKSHIRE, FUTURE, FOREX = "BRK B/1day", "ES-FUT-CME-USD-202406/5mins", "EUR-CASH/15mins"

RUNS = {  # the words of `backtest run`, by the folder in runs/
    "many-options": [
        "strategies/rsi2.py:Rsi2", "AAPL/1day", "--set", "invest=0", "--set", "trend=50", "--since", "2010-06-01",
        "--until", "2012-11-30", "--cash", "50000", "--costs", "ib-tiered", "--slippage", "5bp", "--volume-cap",
        "0.000005", "--borrow", "0.01,AAPL/1day=0.02", "--cash-rate", "0.01",
        "--size", "percent:90", "--benchmark", "MSFT/1day", "--risk-free", "0.02",
    ],
    "two-series": [
        "strategies/pairs.py:Pairs", "AAPL/1day", "MSFT/1day", "--set", "window=30", "--set", "entry=1.5",
        "--costs", "bp:2", "--slippage", "impact:0.1", "--borrow", "0.03", "--align", "intersection",
    ],
    "escaped": [SMA, BERKSHIRE, "--set", "fast=5", "--set", "slow=20"],
    "future": [SMA, FUTURE, "--set", "invest=0.06", "--costs", "futures:2.25:50:15000", "--slippage", "0.25"],
    "forex": [SMA, FOREX, "--costs", "ib-forex", "--fills", "this-close"],
    "walked": [SMA, "AAPL/1day", "--since", "2010-03-01", "--until", "2012-06-29", "--costs", "bp:1"],
}  # fmt: skip
BASELINES = {"many-options": "rsi2", "escaped": "escaped"}  # names of the baselines, by run
SWEEP = [
    SMA, "AAPL/1day", "--grid", "fast=5:20:5", "--grid", "slow=20:70:10", "--set", "invest=0.9", "--costs", "bp:1",
    "--cash", "50000", "--cash-rate", "0.01", "--since", "2010-03-01", "--until", "2012-06-29",
]  # fmt: skip
FINISHED, STOPPED = "runs/sweep", "runs/stopped"
VALIDATE = [
    "runs/walked", "--bootstrap", "50", "--walk-forward", "200/60", "--cpcv", "4,2", "--grid", "fast=5,10",
    "--grid", "slow=20,40",
]  # fmt: skip
PRINTED = {
    "ls": ["ls"],
    "verify": ["verify"],
    "sweep": ["sweep", *SWEEP, "--out", FINISHED],
    "validate": ["validate", *VALIDATE],
}

AT = datetime(2024, 6, 3, tzinfo=UTC)


def main() -> None:
    """Write the folder of this version."""
    with tempfile.TemporaryDirectory() as made:  # in no repository, so that no commit gets into a manifest
        os.chdir(made)
        os.environ["XDG_CACHE_HOME"] = str(Path(made, ".cache"))
        fill_in()
        for path in [Path(".cache"), *Path().rglob("__pycache__")]:
            shutil.rmtree(path, ignore_errors=True)
        for path in [*Path().rglob(".lock"), *Path().rglob("index.html"), *Path().rglob("*.png")]:
            path.unlink()  # a page is large, and is drawn again from what is kept
        shutil.rmtree(Path(__file__).parent / VERSION, ignore_errors=True)
        shutil.copytree(made, Path(__file__).parent / VERSION)
        os.chdir(ROOT)


def fill_in() -> None:
    """Do in this folder what a user of the version does."""
    from backtest import RunResult, Store

    copy_strategies()
    fill_store(Store("data/bars"))
    call("pin")
    for name, words in RUNS.items():
        call("run", *words, "--out", f"runs/{name}")
        call("report", f"runs/{name}")
    for name, baseline in BASELINES.items():
        call("baseline", "save", f"runs/{name}", "--name", baseline)
    Path("printed").mkdir()
    for name, words in PRINTED.items():
        Path("printed", f"{name}.json").write_text(call(*words, "--json"), encoding="utf-8")
    sweep_and_stop()
    keys = {name: RunResult.load(f"runs/{name}").spec.key for name in RUNS}
    Path("keys.json").write_text(json.dumps(keys, indent=1) + "\n", encoding="utf-8")
    Path("arithmetic.txt").write_text(arithmetic() + "\n", encoding="utf-8")


def copy_strategies() -> None:
    """Copy the strategies into the folder: kept trials count for no other source."""
    Path("strategies").mkdir()
    for name in STRATEGIES:
        shutil.copy(ROOT / "strategies" / f"{name}.py", "strategies")


def call(*words: str) -> str:
    """Call the command line and return what it prints on stdout."""
    command = [sys.executable, "-m", "backtest", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout


def sweep_and_stop() -> None:
    """Begin the sweep once more in another folder, and stop it as Ctrl-C does, as soon as some trials are kept."""
    from backtest import sweep

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    grid = {"fast": [5, 10, 15, 20], "slow": [20, 30, 40, 50, 60, 70]}
    try:
        sweep(
            SMA, "AAPL/1day", grid, store="data/bars", folder=STOPPED, params={"invest": 0.9}, costs="bp:1",
            cash=50_000.0, cash_rate=0.01, span=(date(2010, 3, 1), date(2012, 6, 29)), tell=stop,
        )  # fmt: skip
    except KeyboardInterrupt:
        return
    raise AssertionError("the sweep was not stopped")


def fill_store(store: Store) -> None:
    """Write five series: one with a revision, an answer of "none" and one put aside, and one that begins later."""
    from backtest.bars import ContractDetails

    from backtest import Series, Span

    contract = ContractDetails(265598, "AAPL", "NMS", "APPLE INC", "NASDAQ", "SMART,NASDAQ", "America/New_York")
    apple, microsoft = (Series.parse(f"{symbol}/1day") for symbol in ("AAPL", "MSFT"))
    bars, whole = sampled(apple), Span.of_dates(date(2010, 1, 4), date(2012, 12, 31))
    store.write(apple, whole, with_a_wrong_close(bars), source="sample", contract=contract, at=AT)
    store.write(apple, whole, bars, source="sample", at=AT, revise=True)
    after = Span.of_dates(date(2013, 1, 1), date(2013, 1, 1))
    store.write(apple, after, bars.slice(0, 0), source="sample", text="HMDS query returned no data", at=AT)
    store.quarantine(apple, Span.of_dates(date(2012, 12, 31), date(2012, 12, 31)), bars.slice(len(bars) - 1), "settled")
    later = Span.of_dates(date(2010, 6, 1), date(2012, 12, 31))
    store.write(microsoft, later, sampled(microsoft, since=date(2010, 6, 1)), source="sample", at=AT)
    for text, since, until in (
        (BERKSHIRE, date(2023, 1, 3), date(2023, 12, 29)),
        (FUTURE, date(2024, 3, 7), date(2024, 3, 13)),  # through the change to daylight saving
        (FOREX, date(2024, 2, 26), date(2024, 3, 13)),  # two months, and so two segments
    ):
        write_made_up(store, Series.parse(text), since, until)


def sampled(series: Series, since: date = date(2010, 1, 4)) -> pa.Table:
    """Return the bars of the sample to the end of 2012."""
    from backtest import Span, Store

    return Store(ROOT / "data" / "sample").read(series, Span.of_dates(since, date(2012, 12, 31)))


def with_a_wrong_close(bars: pa.Table) -> pa.Table:
    """Return the bars as a vendor gave them at first: one close was its low."""
    closes = bars["close"].to_pylist()
    closes[400] = bars["low"][400].as_py()
    return bars.set_column(4, bars.schema.field("close"), [closes])


def write_made_up(store: Store, series: Series, since: date, until: date) -> None:
    """Write bars of a random walk, on the real sessions."""
    from backtest.bars import table_of
    from backtest.calendars import sessions, span_of_sessions

    chance, close, rows = Random(str(series)), {"FUT": 5000.0, "CASH": 1.1}.get(series.instrument.kind, 300.0), []
    tick = {"FUT": 0.25, "CASH": 0.0001}.get(series.instrument.kind, 0.01)
    for session in sessions(series.instrument, since, until):
        for stamp in stamps_of(session, series):
            opening, close = close, close + tick * chance.randint(-20, 20)
            high, low = max(opening, close) + tick * chance.randint(0, 5), min(opening, close) - tick * 3
            volume = None if series.instrument.kind == "CASH" else float(chance.randint(1, 90_000))
            average = None if volume is None else (high + low) / 2
            rows.append((stamp, opening, high, low, close, volume, average, None if volume is None else 7))
    store.write(series, span_of_sessions(series, since, until), table_of(rows), source="made up", at=AT)


def stamps_of(session: object, series: Series) -> Iterable[datetime]:
    """Return the stamps of a session's bars."""
    if series.size.daily:
        return [datetime.combine(session.day, time(), UTC)]
    count = int((session.close - session.open).total_seconds() // series.size.seconds)
    return [session.open + timedelta(seconds=series.size.seconds * number) for number in range(count)]


def arithmetic() -> str:
    """
    Return a hash of what this machine makes of elementary functions and of sums: their last bits differ.

    Where it is the one that was kept, numbers of now equal the kept ones to the last bit; elsewhere to twelve digits.
    """
    values = np.random.default_rng(16).uniform(0.001, 2.0, 5000)
    made = [function(values) for function in (np.exp, np.log, np.log1p, np.expm1, np.sqrt, np.cumprod, np.cumsum)]
    made += [values**2.5, values**3, np.array([values.sum(), values.std(ddof=1), values @ values, values.var()])]
    made += [np.array([function(value) for value in values.tolist() for function in (math.exp, math.log, math.erf)])]
    made += [np.array([value**1.7 for value in values.tolist()]), np.quantile(values, [0.05, 0.5, 0.95])]
    made += [
        np.array([sum(values.tolist())]),
        np.corrcoef(values.reshape(5, 1000)),
        values.reshape(50, 100).mean(axis=0),
    ]
    return hashlib.sha256(b"".join(part.tobytes() for part in made)).hexdigest()


if __name__ == "__main__":
    main()
