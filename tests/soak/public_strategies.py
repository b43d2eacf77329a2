"""
Compare strategies that others published under our Cerebro with the same under Backtrader's.

    python tests/soak/public_strategies.py FOLDER [--page docs/public-strategies.md] [--only TEXT] [--jobs 2]

FOLDER holds checkouts of public repositories, each in a folder named `owner+name`. Each strategy class in each file
(identical files once) runs alone, in a child process without network, over random daily bars: of one series or, if that
fails, of three. Equal means the same output, exit, orders, fills, cash and equity, to the last bit, under Backtrader
and under our Cerebro as `backtest.run` sets it up. Only the definitions and imports of a file are executed. Writes the
table to a page, if one is named. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import backtrader as bt
import numpy as np
import pandas as pd
from apart import apart
from parity_check import Cerebro
from side_by_side import Compared, compare

SECONDS = 40.0
BARS = 1_000
CASH = 100_000.0
COMMISSION = 0.001
MANY = 3  # series, where one is not enough
SHOWN = 90  # characters of an error
KEPT = "when finished objects are kept"  # a row of the table of differences in docs/design.md

# What the random cases of tests/engine/lean have to draw from, and how it shows in a file.
CONSTRUCTS = {
    "`notify_order`": r"def notify(_order)?\(",
    "`notify_trade`": r"def notify_trade",
    "`notify_cashvalue` or `notify_fund`": r"def notify_(cashvalue|fund)",
    "`notify_data` or `notify_store`": r"def notify_(data|store)",
    "`prenext`, `nextstart`": r"def (prenext|nextstart)\(",
    "`start`, `stop`": r"def (start|stop)\(",
    "several series": r"datas\[[1-9]\]|data1\b|in self\.datas|enumerate\(self\.datas|getdatabyname|dnames",
    "`order_target_...`": r"order_target_(size|value|percent)",
    "limit, stop and trailing orders": r"Order\.(Limit|Stop|StopLimit|StopTrail|StopTrailLimit)\b",
    "orders at the close": r"Order\.Close\b",
    "orders that expire": r"\bvalid\s*=",
    "brackets": r"_bracket\(|\btransmit\s*=",
    "`oco`": r"\boco\s*=",
    "`cancel`": r"\.cancel\(",
    "`tradeid`": r"\btradeid\s*=",
    "cash or value read": r"broker\.(get_?value|get_?cash)",
    "cash set or added": r"broker\.(add_cash|set_?cash)",
    "observers": r"addobserver|self\.observers|self\.stats|\.Observer\)",
    "analyzers": r"addanalyzer|\.Analyzer\)",
    "timers": r"add_timer|notify_timer",
    "`optstrategy`": r"optstrategy",
    "`resampledata`, `replaydata`": r"resampledata|replaydata",
    "filters": r"addfilter",
    "signals": r"SignalStrategy|add_signal|signal_add",
    "`cheat_on_open`, `next_open`": r"cheat_on_open|next_open",
    "cheat on close": r"set_coc|\bcoc\s*=",
    "`exactbars`, `runonce`, `preload`": r"exactbars|runonce|preload",
    "`runstop`": r"runstop",
    "writers": r"addwriter|WriterFile",
    "own indicators": r"class \w+\((bt|backtrader)\.(Ind\w*|ind\w*\.\w+)\)",
    "lines bound to or computed from others": r"self\.(lines|l)\.\w+\s*=",
    "lines set bar by bar": r"self\.(lines|l)\.\w+\[0\]\s*=",
    "operations on lines": r"\bbt\.(And|Or|If|Max|Min|All|Any|Sum|DivByZero|Cmp|Reduce)\(",
    "lines shifted": r"self(\.\w+)+\(-\d+\)",
    "`line.get`, `line.array`": r"\.get\((ago|size)|\.array\b",
    "extra lines of feeds": r"class \w+\(.*(PandasData|CSVData)\)",
    "own sizers": r"class \w+\(.*Sizer",
    "own commissions": r"class \w+\(.*CommInfo",
    "slippage": r"set_slippage|\bslip_",
    "TA-Lib": r"\bbt\.talib|import talib",
    "classes as parameters": r"=\s*bt\.ind(icators)?\.\w+\s*,|,\s*bt\.ind(icators)?\.\w+\)",
}

DEFINING = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Try)


@dataclass(frozen=True)
class Public:
    """A strategy class of a public file."""

    repository: str
    path: str
    digest: str
    name: str
    file: Path


@dataclass(frozen=True)
class Judged:
    """The outcome of a strategy under both."""

    of: Public
    both: Compared
    kept: bool = False  # whether they are equal only where nothing is let go of

    @property
    def result(self) -> str:
        if self.both.difference:
            return "differs"
        if self.both.ended:
            return f"fails under both: {_plain(self.both.ended)}"
        return f"equal {KEPT}" if self.kept else "equal"


class Ours(Cerebro):
    """Our Cerebro as `backtest.run` sets it up."""

    forgets = True


def main(words: list[str] | None = None, ours: type[bt.Cerebro] = Ours) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of checkouts, each in a folder named owner+name")
    parser.add_argument("--page", type=Path, help="the page that is written")
    parser.add_argument("--only", default="", help="only files with this text in repository or path")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at once")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which a strategy is stopped")
    asked = parser.parse_args(words)
    found = [row for row in files(asked.folder) if asked.only in f"{row.repository}/{row.path}"]
    judged = []
    for one in judge(found, ours, asked.jobs, asked.seconds):
        judged.append(one)
        if one.both.difference:
            print(f"DIFFERS: {one.of.repository}/{one.of.path} {one.of.name}: {one.both.difference}", flush=True)
    if asked.page:
        asked.page.write_text(page(judged, found), "utf-8")
    print(summary(judged))
    return int(any(one.both.difference for one in judged) or not judged)


# --- what there is


def files(folder: Path) -> list[Public]:
    """Return the files in a folder of checkouts that may contain strategies, identical ones once."""
    known: dict[str, Public] = {}
    for file in sorted(folder.glob("*+*/**/*.py")):
        if not file.is_file() or file.is_symlink():
            continue
        content = file.read_bytes()
        if b"backtrader" not in content or b"Strategy" not in content or _is_backtrader_itself(file):
            continue
        inside = file.relative_to(folder)
        digest = sha256(content).hexdigest()
        row = Public(inside.parts[0].replace("+", "/", 1), "/".join(inside.parts[1:]), digest, "", file)
        known.setdefault(digest, row)
    return list(known.values())


def _is_backtrader_itself(file: Path) -> bool:
    return any((parent / "cerebro.py").exists() and (parent / "metabase.py").exists() for parent in file.parents)


def judge(found: list[Public], ours: type[bt.Cerebro], workers: int, seconds: float) -> Iterator[Judged]:
    """Yield the verdicts on the strategies of the files, in order; workers are processes."""
    one = partial(_judge_file, ours=ours, seconds=seconds)
    if workers == 1:
        yield from chain.from_iterable(map(one, found))
        return
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        yield from chain.from_iterable(pool.map(one, found))


def _judge_file(row: Public, ours: type[bt.Cerebro], seconds: float) -> list[Judged]:
    with tempfile.TemporaryDirectory() as scratch:
        names = apart(partial(_names, row.file), Path(scratch), seconds).told or []
        publics = [Public(row.repository, row.path, row.digest, name, row.file) for name in names]
        return [_judge_one(public, ours, Path(scratch), seconds) for public in publics]


def _judge_one(public: Public, ours: type[bt.Cerebro], scratch: Path, seconds: float) -> Judged:
    both = _compare(public, ours, scratch, seconds)
    if not both.difference or ours is not Ours:
        return Judged(public, both)
    keeping = _compare(public, Cerebro, scratch, seconds)
    return Judged(public, both if keeping.difference else keeping, kept=not keeping.difference)


def _compare(public: Public, ours: type[bt.Cerebro], scratch: Path, seconds: float) -> Compared:
    alone = compare(partial(run_public, public.file, public.name, 1), ours, scratch, seconds)
    if not alone.ended or alone.difference:
        return alone
    among = compare(partial(run_public, public.file, public.name, MANY), ours, scratch, seconds)
    return among if not among.ended or among.difference else alone


# --- in the child


def run_public(file: Path, name: str, series: int) -> None:
    """Run a strategy class of a file over random bars."""
    cls = getattr(definitions(file), name)
    cerebro = bt.Cerebro()
    for number in range(series):
        cerebro.adddata(bt.feeds.PandasData(dataname=bars(number)), name=f"series{number}")
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(COMMISSION)
    cerebro.addstrategy(cls)
    cerebro.run()


def bars(number: int) -> pd.DataFrame:
    """Return random daily bars, the same each time for a number: prices in cents, some bars without a move."""
    chance = np.random.default_rng(number)
    close = np.round(100.0 * np.exp(np.cumsum(chance.normal(0.0003, 0.02, BARS))), 2)
    start = np.round(np.concatenate([[100.0], close[:-1]]) * (1 + chance.normal(0.0, 0.004, BARS)), 2)
    reach = chance.uniform(0.0, 0.015, (2, BARS))
    table = {
        "open": start,
        "high": np.round(np.maximum(start, close) * (1 + reach[0]), 2),
        "low": np.round(np.minimum(start, close) * (1 - reach[1]), 2),
        "close": close,
        "volume": chance.integers(1_000, 1_000_000, BARS).astype(float),
        "openinterest": np.zeros(BARS),
    }
    return pd.DataFrame(table, index=pd.bdate_range("2018-01-01", periods=BARS))


def _names(file: Path) -> list[str]:
    module = definitions(file)
    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    return list(dict.fromkeys(one.__name__ for one in own if issubclass(one, bt.Strategy) and _is_reached(module, one)))


def _is_reached(module: types.ModuleType, cls: type) -> bool:
    return getattr(module, cls.__name__, None) is cls


def definitions(file: Path) -> types.ModuleType:
    """Execute the imports, classes, functions and constants of a file one by one, and skip those that fail."""
    module = types.ModuleType(f"public_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    inside = [parent for parent in file.parents if any("+" in above.name for above in [parent, *parent.parents])]
    sys.path[:0] = map(str, inside)
    for node in ast.parse(file.read_text("utf-8", "replace")).body:
        if isinstance(node, DEFINING) or _is_constant(node):
            with suppress(Exception, SystemExit):
                exec(compile(ast.Module([node], []), str(file), "exec"), vars(module))
    return module


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign) and ".run(" not in ast.unparse(node)


# --- the page


def summary(judged: list[Judged]) -> str:
    """Return the counts of the results, in a sentence."""
    equal = [one for one in judged if one.result.startswith("equal")]
    trading = [one for one in equal if one.both.orders]
    failing = len([one for one in judged if one.result.startswith("fails")])
    orders, fills = (sum(getattr(one.both, name) for one in equal) for name in ("orders", "fills"))
    return (
        f"{len(judged)} strategies: {len(equal)} are equal ({sum(one.kept for one in equal)} of these only {KEPT}): "
        f"{len(trading)} of these submit orders "
        f"({orders:,} orders, {fills:,} fills), and {sum(one.both.lean for one in equal)} use the fast loop; "
        f"{failing} fail under both in the same way; {len(judged) - len(equal) - failing} differ."
    )


def page(judged: list[Judged], found: list[Public]) -> str:
    """Return the page: the counts, the constructs and a row for each strategy."""
    with_strategies = {one.of.digest for one in judged}
    texts = [row.file.read_text("utf-8", "replace") for row in found if row.digest in with_strategies]
    uses = Counter({name: sum(bool(re.search(sign, text)) for text in texts) for name, sign in CONSTRUCTS.items()})
    return "\n".join(
        [
            HEAD.format(bars=BARS, cash=f"{CASH:,.0f}", commission=f"{COMMISSION * 100:g} %", many=MANY),
            f"{summary(judged)} They come from {len(texts)} files of "
            f"{len({one.of.repository for one in judged})} repositories.",
            "",
            "| what they use | files |",
            "|---|---:|",
            *(f"| {name} | {count} |" for name, count in uses.most_common()),
            "",
            "## The strategies",
            "",
            "| repository | file | class | SHA-256 of the file | orders | fills | result |",
            "|---|---|---|---|---:|---:|---|",
            *map(_row, judged),
            "",
        ]
    )


HEAD = """# Public strategies under Backtrader and under this engine

Strategies that others published for Backtrader. Each runs with Backtrader's own `Cerebro` and with this package's, over
{bars:,} random daily bars of one series or, if that fails, of {many}, with {cash} in cash and {commission} commission.
*Equal* means that every notification of every order, every fill and trade, cash and equity after every bar, and all
printed output are the same to the last bit. A strategy that fails under Backtrader, through its own error or because it
needs other data, fails with the same error under this engine. As in `backtest run`, the engine frees finished objects
([how runs differ](design.md)): a strategy that counts objects in memory is equal only if they are kept. TA-Lib and the
packages of `.ci/constraints.txt` were installed. `tests/soak/public_strategies.py` generates this page from a folder of
checkouts; their sources are not part of this package.
"""


def _row(one: Judged) -> str:
    cells = [one.of.repository, one.of.path, one.of.name, one.of.digest, one.both.orders, one.both.fills, one.result]
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _plain(error: str) -> str:
    """Return an error as one line of a table, without the machine's paths and addresses."""
    flat = re.sub(r"(?<!\w)/[^\s'\"]*/| at 0x[0-9a-f]+", "", " ".join(error.split()))
    return flat[:SHOWN].replace("`", "'")


if __name__ == "__main__":
    sys.exit(main())
