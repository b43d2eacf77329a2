"""
Give malformed input to every interface: it answers with one line and an exit code, never a traceback, hang or signal.

Run:  python tests/soak/fuzz.py [--inputs 100000] [--seed 7] [--kinds words,csv] [--only words:17]

A kind is an interface: the arguments of every command; changed bytes of CSV, Parquet, manifests and segments, fault
scripts and lists of series; strategy files made of odd pieces, or with changed bytes; saved runs, sweeps, baselines and
pins with changed bytes, values, types and kinds of file; bytes that a gateway sends to the client, and that a client
sends to the emulator. No output has a character that hides, reverses or controls others. Each input depends on its
number and the seed alone, so `--only KIND:NUMBER` repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import re
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from operations import DAILY, MINUTES, bars_of, by_processes, environment, quick_folder, two_months
from rawclient import RawClient, framed
from writers import STRATEGY

from backtest.cli import app
from backtest.cli.app import COMMANDS
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import BacktestError
from backtest.runs.record import SUMMARY
from backtest.sources.base import Patience
from backtest.sources.files.export import write_bars
from backtest.sources.ib.source import IbSource
from backtest.store.store import Store

MEMORY = 2 << 30  # bytes that a child may take, with what it inherits
LONGEST = 20  # seconds for an input; most take a tenth of one
BATCH = 25  # inputs of a child process
SMA = str(Path(__file__).resolve().parents[2] / "strategies" / "sma_cross.py")
IMPATIENT = Patience(answer=0.2, connect=0.3, outage=0.2, backoff=0.01, backoff_most=0.05, belief=0.1)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--inputs", type=int, default=100_000)
    words.add_argument("--seed", type=int, default=7)
    words.add_argument("--kinds", default=",".join(KINDS))
    words.add_argument("--only", default="")
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--seconds", type=int, default=LONGEST)
    asked = words.parse_args()
    if asked.only:
        kind, _, number = asked.only.partition(":")
        with _laid_out() as folder:
            print(KINDS[kind](Random(f"{asked.seed} {kind} {number}"), folder) or "as it should be")
        return
    failures = run(asked.inputs, asked.seed, asked.kinds.split(","), asked.jobs, asked.seconds)
    print("\n".join(failures))
    print(f"{asked.inputs} inputs at {len(asked.kinds.split(','))} doors: {len(failures)} failures")
    raise SystemExit(bool(failures))


def run(inputs: int, seed: int, kinds: Sequence[str], jobs: int = 2, seconds: int = LONGEST) -> list[str]:
    """Try inputs on the interfaces in turn; return a line for each failure."""
    turns = [kind for kind in kinds for _ in range(_TURNS.get(kind, 1))]
    numbers = [(turns[number % len(turns)], number) for number in range(inputs)]
    with environment():
        shares = [numbers[place::jobs] for place in range(jobs)]
        thrown = by_processes(jobs, _throw, [seed] * jobs, shares, [seconds] * jobs)
    return [line for lines in thrown for line in lines]


# --- children, each for a batch of inputs: a crash or a hang ends one of them


def _throw(seed: int, numbers: list[tuple[str, int]], seconds: int) -> list[str]:
    failures: list[str] = []
    logging.disable(logging.CRITICAL)
    with _laid_out() as folder:
        for kind in ("words", "csv", "parquet", *["kept"] * 20):
            KINDS[kind](Random(0), folder)  # so that the children have nothing to import
        while numbers:
            done, lines = _batch(seed, numbers[:BATCH], folder, seconds)
            failures += lines
            numbers = numbers[done:]
    return failures


def _batch(seed: int, numbers: list[tuple[str, int]], folder: Path, seconds: int) -> tuple[int, list[str]]:
    """Try a batch in a child process; return how many were tried, and a line for each failure."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _throw_each(seed, numbers, folder, writing, seconds)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    begun = sum(line == "begin" for line in said)
    failures = [line for line in said if line != "begin"]
    if status:
        kind, number = numbers[begun - 1]
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        failures.append(f"{kind}:{number}: {f'took over {seconds} s' if hung else f'ended the process: {status}'}")
    return begun, failures


def _throw_each(seed: int, numbers: list[tuple[str, int]], folder: Path, writing: int, seconds: int) -> None:
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for kind, number in numbers:
            os.write(writing, b"begin\n")
            signal.alarm(seconds)
            wrong = KINDS[kind](Random(f"{seed} {kind} {number}"), folder)
            signal.alarm(0)
            if wrong:
                os.write(writing, f"{kind}:{number}: {wrong!r}\n".encode(errors="replace"))
        code = 0
    except BaseException:  # noqa: BLE001 - the parent sees the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


@contextlib.contextmanager
def _laid_out() -> Iterator[Path]:
    """Yield a folder, also the working folder, with one of each thing that a command may read."""
    with tempfile.TemporaryDirectory(dir=quick_folder()) as name:
        folder, before = Path(name), Path.cwd()
        two_months(folder / "bars")
        bars = bars_of(DAILY, "2024-01-02", "2024-01-12")
        write_bars(bars, folder / "good.csv", DAILY)
        write_bars(bars, folder / "good.parquet", DAILY)
        (folder / "good.json").write_text(_FAULTS)
        (folder / "list").write_text("AAPL/1day\nAAPL/5mins  # minutes\n")
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        _lay_out_project(folder / "project", folder / "bars")
        yield folder
        os.chdir(before)


def _lay_out_project(root: Path, bars: Path) -> None:
    """Make a folder with a saved run, a sweep, a baseline and pins."""
    root.mkdir()
    (root / "hold.py").write_text(STRATEGY)
    with contextlib.chdir(root):
        for words in (
            "run hold.py AAPL/1day --out runs/run",
            "run hold.py AAPL/1day --out runs/other --set size=20",
            "sweep hold.py AAPL/1day --grid size=1,2 --out runs/grid",
            "baseline save run --folder baselines",
            "pin AAPL/1day",
        ):
            code, said = _call(*words.split(), "--store", str(bars))
            assert not code, said


_FAULTS = json.dumps(
    [
        {"when": {"request": 3, "symbol": "AAPL", "kind": "any", "times": 2}, "do": "drop", "bytes": 400},
        {"when": {"connection": 2}, "do": "lost", "seconds": 0.5, "code": 1101},
        {"when": {"request": 1}, "do": "bad", "value": "nan"},
    ]
)


# --- the doors: each throws one input, and returns what is wrong


def _words(chance: Random, folder: Path) -> str:
    command = chance.choice([*_OPTIONS, _text(chance)])
    words = ["--nothing"] if command in _SAFE else []
    words += [chance.choice(_MEANT.get(command, _ANY))(chance) for _ in range(chance.choice((0, 1, 1, 2, 2, 3)))]
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        option = chance.choice(_OPTIONS.get(command) or ["--store"])
        words += [option] if option in _FLAGS else [option, chance.choice([_VALUES.get(option, _text), _text])(chance)]
    if command in ("download", "doctor") and "--source" not in words:
        words += ["--source", "csv:."]
    if command in ("import", "export", "run", "download") and "--store" not in words:
        words += ["--store", "bars"]
    return _called_wrongly(command, *(word for word in words if "\0" not in word))


def _bytes_of(name: str, *words: str) -> Callable[[Random, Path], str]:
    """Return the interface of a file: a changed copy of the valid one replaces {} in the arguments of a command."""

    def throw(chance: Random, folder: Path) -> str:
        good = folder / name
        bad = folder / f"bad-{os.getpid()}{good.suffix}"
        bad.write_bytes(_mutated(good.read_bytes(), chance))
        try:
            return _called_wrongly(*(word.format(bad) for word in words))
        finally:
            bad.unlink()

    return throw


def _stored(chance: Random, folder: Path) -> str:
    """Change a file of a store, often with a matching hash, as in a store from a stranger."""
    root = folder / f"hostile-{os.getpid()}"
    shutil.copytree(folder / "bars", root)
    path = chance.choice([path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock"])
    data = path.read_bytes()
    path.write_bytes(_hostile(data, chance) if path.name == "manifest.json" else _mutated(data, chance))
    commands: list[tuple[str, ...]] = [("ls",), ("ls", "--json"), ("export", str(MINUTES), "x.csv", "--force")]
    commands += [("export", str(DAILY), "x.csv", "--force"), ("import", "good.csv", str(DAILY))]
    commands += [("verify",)] if "verify" in _OPTIONS else []
    try:
        return _called_wrongly(*chance.choice(commands), "--store", str(root))
    finally:
        shutil.rmtree(root)


def _kept(chance: Random, folder: Path) -> str:
    """Change a file of a saved run, sweep or baseline, or a file of pins; or replace it by something else."""
    root = folder / f"kept-{os.getpid()}"
    shutil.copytree(folder / "project", root)
    (root / "bars").symlink_to(folder / "bars")
    place, commands = chance.choice(_KEPT)
    path = chance.choice(sorted(one for one in root.glob(place) if one.is_file()))
    none = _destroyed(path, chance)
    words = chance.choice(commands).split()
    try:
        with contextlib.chdir(root):
            wrong = _called_wrongly(*words) or _not_one_document(*words)
            return f"{path.relative_to(root)}: {wrong}" if wrong else _believed(path, words) if none else ""
    finally:
        shutil.rmtree(root)


_ON_BARS = "--store bars"
_OF_A_RUN = ("report run", "runs show run", "runs show run --json", f"reproduce run {_ON_BARS}", "compare run other")
_OF_A_RUN += ("validate run --bootstrap 10", f"baseline save run {_ON_BARS} --folder new", "runs ls", "runs ls --json")
_OF_A_SWEEP = ("validate grid --bootstrap 10", "validate grid --bootstrap 10 --json",
               f"validate grid --bootstrap 10 --walk-forward 8/4 {_ON_BARS}")  # fmt: skip
_AGAIN = f"sweep hold.py AAPL/1day --grid size=1,2 --out runs/grid {_ON_BARS}"
_KEPT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("runs/run/*.json", _OF_A_RUN),
    ("runs/run/*.parquet", _OF_A_RUN),
    ("runs/grid/sweep.json", (*_OF_A_SWEEP, _AGAIN, f"{_AGAIN} --resume")),
    ("runs/grid/trials/*.parquet", (*_OF_A_SWEEP, _AGAIN)),
    ("runs/grid/best/*", _OF_A_SWEEP),
    ("baselines/*", (*(f"baseline {what} --folder baselines {_ON_BARS}" for what in ("check", "diff", "accept")),
                     f"baseline check --folder baselines {_ON_BARS} --json")),
    ("data.lock", (*(f"pin {what} {_ON_BARS}" for what in ("--check", "--update", "--check --json", "AAPL/1day")),
                   f"run hold.py AAPL/1day --pin data.lock {_ON_BARS}")),
)  # fmt: skip


def _destroyed(path: Path, chance: Random) -> bool:
    """Change a file; return whether it is no longer a regular file, so that no command may accept it."""
    if chance.random() < 0.15:
        path.unlink()
        chance.choice((os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir))(path)
        return True
    data = path.read_bytes()
    if path.suffix == ".parquet" and chance.random() < 0.7:
        _change_table(path, chance)
    elif path.suffix != ".parquet" and chance.random() < 0.8:
        path.write_text(json.dumps(_changed(json.loads(data), chance)))
    else:
        path.write_bytes(_mutated(data, chance))
    return False


def _change_table(path: Path, chance: Random) -> None:
    """Write a table again with a column removed, renamed, of another type or with other values, or with other rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    number, rows = chance.randrange(table.num_columns), len(table)
    name = table.column_names[number]
    match chance.randrange(7):
        case 0:
            table = table.drop_columns([name])
        case 1:
            other = _text(chance).encode(errors="replace").decode()
            names = [other if n == number else one for n, one in enumerate(table.column_names)]
            table = table.rename_columns(names)
        case 2:
            table = table.slice(0, chance.choice((0, 1, rows // 2)))
        case 3:
            table = table.set_column(number, name, pa.array([chance.choice(_CELLS)] * rows))
        case 4 if rows:
            table = table.set_column(number, name, _with_another(table[name], chance))
        case 5:
            table = pa.concat_tables([table, table.slice(0, 1)])
        case _:
            table = table.append_column("hidden", pa.array([[0.0] * 100] * rows))
    with contextlib.suppress(pa.ArrowException, UnicodeError):
        pq.write_table(table, path)


_CELLS: tuple[Any, ...] = (
    None, 0, -1, 2**62, -(2**62), "x", "", b"\xff", 1e308, float("nan"), float("inf"), True, [1], [[None]],
)  # fmt: skip


def _with_another(column: Any, chance: Random) -> Any:
    """Return a column in which another value of its type replaces one value, as far as the type has one."""
    import pyarrow as pa

    kind = column.type
    plain = pa.int32() if pa.types.is_date32(kind) else pa.int64() if pa.types.is_temporal(kind) else kind
    values = column.cast(plain).to_pylist()
    values[chance.randrange(len(values))] = chance.choice(_CELLS)
    try:
        return pa.array(values, plain).cast(kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return column


def _not_one_document(*words: str) -> str:
    """Return what is wrong with the output of --json, which is one document whatever happens."""
    if "--json" not in words:
        return ""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        app.main([*words])
    out.flush()
    said = out.buffer.getvalue().decode()
    try:
        json.loads(said)
    except ValueError as error:
        return f"no document of {words} ({error}): {said[:200]}"
    return ""


def _believed(path: Path, words: list[str]) -> str:
    if path.name == SUMMARY:  # which is made again, and else done without
        return ""
    code, _ = _call(*words)
    return f"{path.name} is no file, and {words} ended with 0" if not code else ""


def _strategy_file(chance: Random, folder: Path) -> str:
    """Write a strategy file that is odd in some places; run, sweep or check it, or request its next orders."""
    text = _STRATEGY
    for place, pieces in _ODD.items():
        every = pieces.split("\n")
        text = text.replace(f"@{place}@", chance.choice(every) if chance.random() < 0.2 else every[0])
    data = text.encode(errors="surrogatepass")
    root = folder / f"strategy-{os.getpid()}"
    root.mkdir()
    (root / "odd.py").write_bytes(_mutated(data, chance) if chance.random() < 0.3 else data)
    (root / "beside.py").write_text(
        chance.choice(("ONE = 1\n", "raise ValueError('\u202e')\n", "ONE = \n", "import odd\n"))
    )
    words = chance.choice(_WITH_A_STRATEGY).split()
    try:
        with contextlib.chdir(root):
            return _called_wrongly(*words, "--store", str(folder / "bars"))
    finally:
        for name in ("odd", "beside"):
            sys.modules.pop(name, None)
        shutil.rmtree(root)


_WITH_A_STRATEGY = (
    "run odd.py AAPL/1day",
    "run odd.py AAPL/1day --json",
    "run odd.py:Odd AAPL/1day --set size=3",
    "run odd.py AAPL/1day --set size=x",
    "run odd.py AAPL/1day AAPL/5mins",
    "run odd.py AAPL/1day --each --out each",
    "next odd.py AAPL/1day",
    "sweep odd.py AAPL/1day --grid size=1,2",
)
_STRATEGY = """@head@
import backtrader as bt

@above@
class Odd(@base@):
    params = @params@

    def __init__(self):
        @init@

    def next(self):
        @next@
        if not self.position:
            self.buy(size=self.p.size)

    def stop(self):
        @stop@
"""
_RAISED = r"""raise ValueError('\u202e\x1b[31m\x00')
raise ValueError('x' * 500_000)
raise KeyError
raise SystemExit(0)
raise SystemExit('\x1b]0;x\x07')
raise KeyboardInterrupt
raise StopIteration
raise GeneratorExit
raise UnicodeDecodeError('utf-8', b'\xff', 0, 1, '\u202e')
1 / 0
assert False, '\n' * 99
[0] * 10**10
raise type('\u200bE', (Exception,), dict(__str__=lambda self: 1 / 0))()
raise ExceptionGroup('g\u2067', [ValueError(1), OSError(2)])
raise OSError(28, 'full', '/x\u202e')
exec('x =')
raise BaseException('\x9b')
(lambda again: again(again))(lambda again: again(again))"""
# The first of each is as it should be.
_ODD = {
    "head": """
# -*- coding: latin-1 -*-
# coding: nothing
from __future__ import nothing
\ufeff
\x0c
import nothing
from beside import ONE
from . import beside
import beside as \u017fys
def \u202e
__name__ = 3
raise SystemExit""",
    "above": r"""
class Other(bt.Strategy): pass
Odd = 3
raise ValueError('\u2066' * 9)
import odd
del bt
bt.Strategy = 3
__all__ = 3
def __getattr__(name): raise OSError(name)
class Meta(type(bt.Strategy)): __repr__ = lambda cls: '\x1b[2J'""",
    "base": """bt.Strategy
bt.Strategy, object
bt.Indicator
bt.SignalStrategy
object
bt.Analyzer
3
bt.Strategy, int""",
    "params": r"""(('size', 10),)
dict(size=10)
(('size', float('nan')),)
(('size', '\u202e'),)
3
()
(('size',),)
(('size', 10**400),)
(('size', lambda: 1 / 0),)
(('s\u200bize', 1), ('size', 1))
dict(size=b'\xff')
[[1, 2]]
(('size', -1),)
(('size', object()),)
(('size', ['x' * 10**6]),)""",
    "init": rf"""self.average = bt.ind.SMA(period=2)
bt.ind.SMA(period=0)
bt.ind.SMA(period=10**9)
bt.ind.SMA(self.data.nothing)
self.addminperiod(10**6)
self.p = None
self.data = 3
self.position = 3
self.env = None
{_RAISED}""",
    "next": rf"""pass
self.buy(size=float('nan'))
self.buy(size='x')
self.buy(price=-1, exectype=bt.Order.Limit)
self.cancel(None)
self.sell(size=10**400)
self.data.close[10**9]
self.data.close[1]
self.datas[7]
self.broker = None
self.broker.setcash(float('nan'))
self.buy(data='\u202e')
self.order_target_percent(target=1e308)
self.env.runstop()
self.close(exectype=99)
self.broker.add_cash(-10**9)
self.notes = {{'\u202e': object()}}
{_RAISED}""",
    "stop": f"""pass
self.broker.setcash(0)
self.notes = 3
self.buy()
del self.broker
{_RAISED}""",
}


def _script(chance: Random, folder: Path) -> str:
    try:
        Faults.of(_changed(json.loads(_FAULTS), chance))
    except BacktestError as error:
        return "" if "\n" not in str(error) else f"more than a line: {error}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
        return f"{type(error).__name__}: {error}"
    return ""


def _to_client(chance: Random, folder: Path) -> str:
    """Answer the client with noise, sometimes after a valid start."""
    answers = [_frames(chance) for _ in range(4)]
    if chance.random() < 0.8:
        answers[0] = framed(b"176\x0020240101 12:00:00 EST\0") + (_ACCEPTED if chance.random() < 0.8 else answers[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        talker = threading.Thread(target=_talk, args=(server, answers), daemon=True)
        talker.start()
        try:
            with IbSource(port=server.getsockname()[1], patience=IMPATIENT) as source:
                source.qualify(DAILY.instrument)
                span = bars_span()
                for window in source.windows(DAILY, span):
                    source.fetch(DAILY, window)
        except BacktestError as error:
            return "" if "\n" not in str(error) else f"more than a line: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            return f"{type(error).__name__}: {error}"
    return ""


def _to_emulator(chance: Random, folder: Path) -> str:
    """Send noise to the emulator, then a request as a client does."""
    with Gateway(Store(folder / "bars")) as gateway:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port), timeout=1) as noisy:
            if chance.random() < 0.7:
                noisy.sendall(b"API\0" + framed(b"v157..176") + framed(b"71\0002\0001\0\0"))
            for _ in range(chance.randint(1, 5)):
                noisy.sendall(_frames(chance))
        with RawClient(gateway.port, client_id=2) as client:
            client.ask_bars(7, end="20240113-00:00:00")
            answer = client.answer(7)
    return "" if answer[0] in ("17", "4") else f"the next client got {answer[:4]}"


KINDS: dict[str, Callable[[Random, Path], str]] = {
    "words": _words,
    "csv": _bytes_of("good.csv", "import", "{}", "IBM/1day", "--store", "imported"),
    "parquet": _bytes_of("good.parquet", "import", "{}", "IBM/1day", "--store", "imported"),
    "list": _bytes_of("list", "download", "@{}", "--since", "2024-01-02", "--source", "csv:.", "--store", "listed"),
    "store": _stored,
    "kept": _kept,
    "strategy": _strategy_file,
    "faults": _script,
    "client": _to_client,
    "emulator": _to_emulator,
}
# How often a door comes in turn: most often those that strangers' files and people's fingers reach.
_TURNS = {
    "words": 14,
    "csv": 10,
    "parquet": 8,
    "store": 10,
    "faults": 6,
    "client": 3,
    "emulator": 2,
    "list": 2,
    "kept": 10,
    "strategy": 10,
}


def bars_span() -> Any:
    """Return the span that the client requests."""
    from operations import span_of

    return span_of(DAILY, "2024-01-02", "2024-01-12")


def _called_wrongly(*words: str) -> str:
    """Call a command in this process; return what is wrong with the outcome, with the arguments."""
    code, said = _call(*words)
    if "Traceback" in said or code not in range(10):
        return f"{code!r} of {words}: {said[-300:]}"
    if raw := _RAW.search(said):
        return (
            f"U+{ord(raw[0]):04X} as it is in what {words} said: {said[max(raw.start() - 150, 0) : raw.end() + 150]!r}"
        )
    if code and not said.strip():
        return f"{code} of {words}, and nothing is said"
    errors = sum(line.startswith("error: ") for line in said.splitlines())
    if errors > 1 and words[0] not in ("download", "import"):  # one a series, one a file
        return f"more than one error of {words}: {said[-300:]}"
    return ""


# Characters that hide, turn or control others on a terminal; ends of lines apart.
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def _call(*words: str) -> tuple[object, str]:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app.main([*words])
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a failure
            code = f"{type(error).__name__}: {error}"
    for stream in (out, err):
        stream.flush()
    return code, err.buffer.getvalue().decode() + out.buffer.getvalue().decode()


def _talk(server: socket.socket, answers: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(0.5)
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)


# --- what is thrown


def _text(chance: Random) -> str:
    return chance.choice(_TEXTS)(chance)


def _noise(chance: Random) -> str:
    alphabet = "abcAZ019 /\\-.,:;'\"@#%&?*[]{}()=+~`|<>$!\n\t\r\x01\x1b\x7fäß€𝄞\u202e\u0000"
    return "".join(chance.choices(alphabet, k=chance.choice((0, 1, 2, 5, 20, 300))))


def _number(chance: Random) -> str:
    return chance.choice(
        ("0", "-1", "1e400", "nan", "-inf", "inf", "1_0", "0x10", "٣", "9" * 400, "1e-400", "-0.0", "")
    )


def _date(chance: Random) -> str:
    fixed = ("2024-01-02", "0000-00-00", "0001-01-01", "9999-12-31", "2024-02-30", "20240102", "2024-W01-1", "today")
    return chance.choice((*fixed, f"{chance.randint(0, 99999)}-{chance.randint(0, 99)}-{chance.randint(0, 99)}"))


def _series(chance: Random) -> str:
    good = chance.choice(
        (
            "AAPL/1day",
            "AAPL/5mins",
            "EUR-CASH/1min/MIDPOINT",
            "ES-FUT-CME-USD-202612/5mins",
            "SPX-IND-CBOE-USD/1day/all",
        )
    )
    if chance.random() < 0.4:
        return good
    return _mutated(good.encode(), chance).decode("utf-8", "surrogateescape").replace("\0", "")


def _path(chance: Random) -> str:
    known = ("bars", "good.csv", "good.parquet", "good.json", "project", "list", "@list", "", ".", "none", "/dev/null")
    odd = (
        "bars/STORE.json",
        "x" * 300,
        "a\nb.csv",
        "-",
        "--",
        "~",
        "\udcff.csv",
        "out.csv",
        "out.parquet",
        "/proc/version",
    )
    return chance.choice((*known, *odd))


def _address(chance: Random) -> str:
    known = ("csv:.", "csv:none", "emulator:bars", "emulator:none", "ib://127.0.0.1:1", "ib://", "ib://127.0.0.1:99999")
    odd = (
        "ib://127.0.0.1:1?client_id=x",
        "ib://[::1",
        "ib://example..invalid:1",
        "http://x",
        "csv:",
        ":",
        "emulator:",
        "ib:1",
    )
    return chance.choice((*known, *odd))


def _setting(chance: Random) -> str:
    return chance.choice(("fast=3", "slow=x", "fast=", "=1", "nothing=1", "fast=1e400", "fast=-1", "fast=nan", "fast"))


def _strategy(chance: Random) -> str:
    return chance.choice((SMA, f"{SMA}:None", "sma_cross", "good.csv", "none.py:X", ":", "", "os:path"))


_TEXTS: tuple[Callable[[Random], str], ...] = (_noise, _number, _date, _series, _path, _address)
_ANY = [*_TEXTS]
_MEANT: dict[str, list[Callable[[Random], str]]] = {
    "download": [_series, _series, _path],
    "import": [_path, _series],
    "export": [_series, _path],
    "run": [_strategy, _series, _series],
    "ls": [_series],
    "verify": [_series],
    "report": [_path],
}
_SAFE = {  # demo writes much, and a gateway serves for ever: all only with words that they refuse
    "demo": ["--help", "--nothing"],
    "emulator": ["--help", "--nothing"],
    "show": ["--help", "--nothing"],  # which opens a browser
}
_VALUES: dict[str, Callable[[Random], str]] = {
    "--since": _date, "--until": _date, "--source": _address, "--store": _path, "--set": _setting, "--series": _series,
    "--cash": _number, "--risk-free": _number, "--benchmark": _series, "--faults": _path,
}  # fmt: skip


_RUNS = "--on-problem"  # whatever it is given, which may be anything here


def _options_of_commands() -> tuple[dict[str, list[str]], set[str]]:
    """Return the options of each command, and which take no value, as the command line declares them."""
    import typer

    group: Any = typer.main.get_command(app.app)
    options, flags = {}, {"--help", "--nothing"}
    for name, command in group.commands.items():
        if command.hidden:
            continue
        known = [option for option in command.params if option.opts[0].startswith("--")]
        options[name] = _SAFE.get(name) or [*(o.opts[0] for o in known if o.opts[0] != _RUNS), "--help"]
        flags |= {option.opts[0] for option in known if getattr(option, "is_flag", False)}
    return options, flags


_OPTIONS, _FLAGS = _options_of_commands()
assert len(_OPTIONS) == len(COMMANDS)


def _mutated(data: bytes, chance: Random) -> bytes:
    """Return the bytes with a few changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place, size = chance.randint(0, len(data)), chance.choice((1, 1, 2, 4, 8, 64))
        piece = chance.choice((chance.randbytes(size), data[place : place + size], *_PIECES))
        match chance.randrange(4):
            case 0:
                data = data[:place] + data[place + size :]
            case 1:
                data = data[:place] + piece + data[place:]
            case 2:
                data = data[:place] + piece + data[place + len(piece) :]
            case _:
                flip = bytes([data[place] ^ 1 << chance.randrange(8)]) if place < len(data) else b""
                data = data[:place] + flip + data[place + 1 :]
    return data if chance.random() < 0.97 else data[: chance.randint(0, len(data))]


_PIECES = (
    b"\0", b"\xff", b"\n", b"\r\n", b",", b";", b'"', b"nan", b"inf", b"1e400", b"-1", b"9" * 30, b"\xef\xbb\xbf",
    b"1_0", "٣".encode(), b"2024-03-10 02:30:00", b"0000-00-00", b"99999-01-01", b"time", b"open", b"\xff\xff\xff\x7f",
    b"PAR1",
)  # fmt: skip


def _hostile(manifest: bytes, chance: Random) -> bytes:
    """Return a manifest with other content, whose own hash is right."""
    body, mark, _ = manifest.rpartition(b"#sha256 ")
    if chance.random() < 0.25 or not mark:
        return _mutated(manifest, chance)
    if chance.random() < 0.8:
        body = json.dumps(_changed(json.loads(body), chance)).encode() + b"\n"
    else:
        body = _mutated(body, chance)
    return body + b"#sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def _changed(value: Any, chance: Random) -> Any:
    """Return a JSON value with one value changed, at a random place."""
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inner or chance.random() < 0.15:
        return chance.choice(_VALUES_OF_JSON)
    key, same = chance.choice(inner), value.copy()
    if chance.random() < 0.1:
        del same[key]
    elif chance.random() < 0.05 and isinstance(value, dict):
        same[_text(chance)] = same.pop(key)
    else:
        same[key] = _changed(value[key], chance)
    return same


_VALUES_OF_JSON: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x", "../../x", "/etc/passwd",
    "\0", "a" * 10_000, [], {}, [[]], [None], {"": None}, "2024-01-02T00:00:00+00:00", "0001-01-01T00:00:00", "\ud800",
)  # fmt: skip
_ACCEPTED = framed(b"15\x001\x00DU1\0") + framed(b"9\x001\x001\0")


def _frames(chance: Random) -> bytes:
    """Return frames of the protocol that are valid, nearly valid, or noise."""
    return b"".join(_frame(chance) for _ in range(chance.randint(1, 4)))


def _frame(chance: Random) -> bytes:
    if chance.random() < 0.15:
        return chance.randbytes(chance.choice((1, 3, 4, 8, 100)))
    number = str(chance.choice((4, 9, 10, 15, 17, 18, 20, 49, 52, 53, 71, 87, 88, 89, 106, 108, 1, 62, 999, -1)))
    fields = [number, *(_field(chance) for _ in range(chance.choice((0, 1, 2, 4, 8, 20, 40))))]
    payload = "".join(f"{field}\0" for field in fields).encode("utf-8", "surrogatepass")
    if chance.random() < 0.2:
        payload = _mutated(payload, chance)
    size = len(payload) if chance.random() < 0.93 else chance.choice((0, 1, 2**31, 2**32 - 1, len(payload) + 9))
    return size.to_bytes(4, "big") + payload


def _field(chance: Random) -> str:
    usual = (
        "",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "20240102",
        "20240102 09:30:00 US/Eastern",
        "AAPL",
        "STK",
        "SMART",
        "USD",
        "185.5",
    )
    return chance.choice((*usual, *usual, "1704205800", "1 day", "10 D", "TRADES", _number(chance), _noise(chance)))


if __name__ == "__main__":
    main()
