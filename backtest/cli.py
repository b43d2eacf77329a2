"""The command line: one function a command, listed in `COMMANDS`; it parses and prints, and decides nothing."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest.errors import BacktestError, UsageError

if TYPE_CHECKING:
    import threading

    from backtest.bars import Series
    from backtest.downloader import DownloadReport, Progress
    from backtest.result import RunResult
    from backtest.store import Store

STORE = "data/bars"
RUNS = "runs"
WIDTH = 80

StoreOption = Annotated[str, typer.Option("--store", envvar="BACKTEST_STORE", help="Folder of the store.")]
SourceOption = Annotated[
    str,
    typer.Option("--source", envvar="BACKTEST_SOURCE", help="ib://HOST:PORT[?client_id=N], or gateway:FOLDER."),
]
SinceOption = Annotated[str, typer.Option("--since", help="First session, YYYY-MM-DD.")]
UntilOption = Annotated[str, typer.Option("--until", help="Last session, YYYY-MM-DD, included.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]


def demo(
    out: Annotated[str, typer.Option(help="Folder of the pages.")] = "runs/demo",
    store: Annotated[str, typer.Option(help="Folder of the demo's own store.")] = "runs/demo/store",
) -> None:
    """
    Show the whole job on real prices: emulator, ib_insync, Parquet, Backtrader, report.

    Starts the emulator on the sample, downloads four stocks from it through a TCP socket, runs two strategies on
    each and writes a page per run. Needs no account and no network.
    """
    from backtest.demo import run_demo

    shown = run_demo(Path(out), store, tell=_say)
    _print_runs(shown.results)
    _say(f"Pages: {shown.pages[0].parent.parent}/*/index.html, the first one: {shown.pages[0]}")


def download(
    series: Annotated[list[str], typer.Argument(help="Series such as AAPL/1day, or @FILE with one a line.")],
    since: SinceOption,
    until: UntilOption = "",
    source: SourceOption = "ib://127.0.0.1:7497",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
    log_format: Annotated[str, typer.Option(help="text or json: how log records look on stderr.")] = "text",
) -> None:
    """
    Fill the gaps of series in the store. Safe to stop; run it again to go on.

    Example: backtest download AAPL/1day EUR-CASH/1hour --since 2020-01-02 --source ib://127.0.0.1:4002
    """
    from backtest.downloader import download as fill
    from backtest.sources import connect
    from backtest.store import Store

    _start_logging(log_format)
    wanted, target = _series(series), Store(store)
    first, last = _date(since, "--since"), _date(until, "--until") or datetime.now(UTC).date()
    if first is None:
        raise UsageError("--since names no date; write YYYY-MM-DD")
    with connect(source) as opened, _progress() as tell:
        report = fill(target, opened, wanted, (first, last), tell=tell)
    _print_download(report, as_json)
    if report.ended_by:
        raise report.ended_by
    if not report.complete:
        raise typer.Exit(4)


def ls(
    series: Annotated[list[str] | None, typer.Argument(help="Series to list; all if none is named.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    List the series of a store: span, bars, size on disk.

    Example: backtest ls --store data/sample
    """
    from backtest.store import Store

    opened = Store(store)
    rows = [_ls_row(opened, one) for one in (_series(series) if series else opened.series())]
    if as_json:
        _print_json({"store": store, "series": {row.pop("key"): row for row in rows}})
        return
    columns = ("series", "from", "to", "bars", "bytes")
    _print_table(columns, [[_cell(row[name]) for name in columns] for row in rows])
    if not rows:
        _say(f"{store} is empty; fill it with: backtest download AAPL/1day --since 2020-01-02")


def run(
    strategy: Annotated[str, typer.Argument(help="file.py:Name, or the name of a strategy that comes along.")],
    series: Annotated[list[str], typer.Argument(help="One series or several, such as AAPL/1day.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter: fast=10. Repeatable.")] = None,
    since: SinceOption = "",
    until: UntilOption = "",
    cash: Annotated[float, typer.Option(help="Money at the start.")] = 100_000.0,
    costs: Annotated[str, typer.Option(help="ib-fixed, or none.")] = "ib-fixed",
    benchmark: Annotated[str, typer.Option(help="A series to compare with.")] = "",
    risk_free: Annotated[float, typer.Option(help="Return of cash a year; 0.02 is 2 %.")] = 0.0,
    store: StoreOption = STORE,
    out: Annotated[str, typer.Option(help="Folder of the run; runs/NAME if not given.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Run a strategy over stored bars, print its numbers and keep the run.

    Example: backtest run strategies/sma_cross.py AAPL/1day --set fast=20 --set slow=50 --store data/sample
    """
    from backtest.engine import run as simulate
    from backtest.store import Store

    result = simulate(
        strategy,
        _series(series),
        store=Store(store),
        span=(_date(since, "--since"), _date(until, "--until")),
        params=_settings(settings or []),
        cash=cash,
        costs=costs,
        benchmark=benchmark,
        risk_free=risk_free,
    )
    folder = result.save(out or Path(RUNS) / result.run)
    if as_json:
        stats = {"stats": result.stats.to_dict(), "definitions": result.stats.definitions}
        _print_json({"run": result.run, "folder": str(folder), **stats, "manifest": result.manifest})
        return
    _print(repr(result))
    _say(f"Kept in {folder}; its page: backtest report {folder}")


def report(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a kept run, or its name in runs/.")],
    out: Annotated[str, typer.Option(help="Folder of the page; the run's own if not given.")] = "",
) -> None:
    """
    Write the page of a kept run: numbers, pictures, trades, definitions, manifest.

    Example: backtest report runs/SmaCross-AAPL-1day-84e4132266
    """
    from backtest.report import write_report
    from backtest.result import RunResult

    folder = Path(run_folder) if Path(run_folder).exists() else Path(RUNS) / run_folder
    _print(str(write_report(RunResult.load(folder), Path(out) if out else folder)))


def gateway(
    store: StoreOption = STORE,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 for any free one.")] = 4002,
    pacing: Annotated[str, typer.Option(help="strict: IB's limits; off: none.")] = "strict",
    time_scale: Annotated[float, typer.Option(help="Pacing windows pass this many times faster.")] = 1.0,
    faults: Annotated[str, typer.Option(help="JSON file of scripted faults.")] = "",
    log: Annotated[str, typer.Option(help="File for a JSON line a request.")] = "",
) -> None:
    """
    Serve a store as a TWS or IB Gateway would, to any TWS client on this machine.

    Example: backtest gateway --store data/sample --port 4002
    """
    from backtest.sources.gateway import Gateway
    from backtest.sources.gateway.faults import Faults
    from backtest.store import Store

    stopped = _signalled()
    with (
        Path(log or os.devnull).open("a") as lines,
        Gateway(
            Store(store),
            port=port,
            pacing=pacing,
            time_scale=time_scale,
            faults=Faults.load(faults) if faults else None,
            log=lines,
        ) as served,
    ):
        _print(f"listening on 127.0.0.1:{served.port}")
        if not Store(store).series():
            _say(f"{store} holds no bars, so every request will be answered with error 200; fill it, or use --store")
        stopped.wait()


COMMANDS = (demo, download, ls, run, report, gateway)

app = typer.Typer(
    help="Backtest on Interactive Brokers' historical bars: download, store, replay, measure, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
for _command in COMMANDS:
    app.command()(_command)


def main(words: list[str] | None = None) -> None:
    """Run the command line, of this process if no words are given; a known error is one sentence and an exit code."""
    try:
        app(words, prog_name="backtest")
    except BacktestError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nobody to tell
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; choose another place or make room, then run this again", 1)


def _fail(text: str, code: int) -> None:
    _say(f"error: {text}")
    sys.exit(code)


# --- reading the words


def _series(words: list[str]) -> list[Series]:
    from backtest.bars import Series

    return [Series.parse(word) for word in _listed(words)]


def _listed(words: list[str]) -> Iterator[str]:
    for word in words:
        if not word.startswith("@"):
            yield word
            continue
        path = Path(word[1:])
        if not path.is_file():
            raise UsageError(f"no file {str(path)!r} of series; write @FILE, with one series a line")
        lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
        yield from (line for line in lines if line)


def _date(text: str, option: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no date ({error}); write YYYY-MM-DD, such as 2024-03-28") from error


def _settings(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for word, (name, mark, _) in zip(words, pairs, strict=True):
        if not (name and mark):
            raise UsageError(f"--set {word!r} is no setting; write NAME=VALUE, such as --set fast=10")
    return {name: value for name, _, value in pairs}


# --- printing


def _say(text: str) -> None:
    """Tell people something: stderr."""
    print(text, file=sys.stderr, flush=True)


def _print(text: str) -> None:
    """Give a result: stdout."""
    print(text, flush=True)


def _print_json(value: dict[str, Any]) -> None:
    _print(json.dumps(value, indent=1, allow_nan=False))


def _print_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, collapse_padding=True)
    for n, name in enumerate(columns):
        right = bool(rows) and all(row[n][:1] in "-–0123456789" for row in rows) and "-" not in rows[0][n][1:]
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(table)


def _print_runs(results: list[RunResult]) -> None:
    from backtest.metrics import METRICS

    names = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "trades")
    heads = ("strategy", "series", "return", "CAGR", "volatility", "Sharpe", "drawdown", "trades")
    rows = [
        [result.spec.name, result.series[0], *(METRICS[name].text(result.stats[name]) for name in names)]
        for result in results
    ]
    _print_table(heads, rows)
    _print(_wrapped(results[0].stats.conventions))


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, WIDTH)


def _print_download(report: DownloadReport, as_json: bool) -> None:
    if as_json:
        _print_json(report.to_dict())
        return
    for one in report.series:
        first, last = (f"{moment:%Y-%m-%d}" if moment else "–" for moment in (one.first, one.last))
        _print(
            f"{one.series.short}: {one.status}, {one.bars_added:,} new of {one.bars:,} bars, {first} to {last}, "
            f"{one.requests} requests"
        )
        for error in one.errors:
            _say(f"error: {error}")
    if report.complete and not report.requests:
        _say("Nothing to download: the store has it all.")


def _ls_row(store: Store, series: Series) -> dict[str, Any]:
    manifest = store.manifest(series)
    if not manifest.generation:
        from backtest.errors import NoBars

        raise NoBars(f"{series.short} is not in {store.root}; see what is: backtest ls --store {store.root}")
    first, last = (manifest.segments[0].first, manifest.segments[-1].last) if manifest.segments else (None, None)
    return {
        "key": str(series),
        "series": series.short,
        "from": first,
        "to": last,
        "bars": manifest.rows,
        "bytes": sum(segment.bytes for segment in manifest.segments),
        "content": manifest.content,
        "covered": [[span.start.isoformat(), span.end.isoformat()] for span in manifest.coverage],
    }


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)[:10] if str(value).endswith("+00:00") else str(value)


@contextmanager
def _progress() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("connected") as status:

        def tell(progress: Progress) -> None:
            status.update(f"{progress.series.short}  window {progress.done} of {progress.windows}")

        yield tell


# --- logs


def _start_logging(log_format: str) -> None:
    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format {log_format!r} is unknown; write text or json")
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(_JsonLines())
    logger = logging.getLogger("backtest")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if log_format == "json" else logging.WARNING)
    logger.propagate = False


class _JsonLines(logging.Formatter):
    """A JSON object a record: time, level, logger, message, and the fields given with it."""

    _known = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {key: value for key, value in vars(record).items() if key not in self._known}
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        return json.dumps(line, default=str)


def _signalled() -> threading.Event:
    """Return an event that SIGINT or SIGTERM sets from now on, instead of ending the process."""
    import signal
    import threading

    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    return event


if __name__ == "__main__":
    main()
