"""Commands about what is around: the demo, a new folder, the state of this machine, the emulator."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backtest._resources import installed_version
from backtest._system import HEARD_AFTER, one_word
from backtest.cli.options import STORE, JsonOption, SourceOption, StoreOption, templates
from backtest.cli.parse import one_series_of
from backtest.cli.run_tables import give_runs
from backtest.cli.terminal import give, give_json, say, signalled, unmarked, width

if TYPE_CHECKING:
    from backtest.onboarding.doctor import Check


def tell_version(asked: bool) -> None:
    """Print the versions of this package, of Python and of what decides on results, and end; if that is asked."""
    if not asked:
        return
    import platform

    others = [f"Python {platform.python_version()}"]
    for name in ("backtrader", "ib_insync", "ib_async"):  # one of the last two
        if version := installed_version(name):
            others.append(f"{name} {version}")
    give(f"backtest {installed_version('ib-backtest') or 'unknown'} ({', '.join(others)})")
    raise typer.Exit


def demo(
    context: typer.Context,
    out: Annotated[str, typer.Option(help="Folder of the pages.")] = "runs/demo",
    store: Annotated[str, typer.Option(help="Folder of the demo's own store; OUT/store if not given.")] = "",
) -> None:
    """
    Show the whole job on real prices: emulator, ib_insync, Parquet, Backtrader, report.

    Starts the emulator on the sample, downloads four stocks from it through a TCP socket, runs two strategies on
    each and writes a page per run. Needs no account and no network.

    Example: backtest demo --out runs/demo
    """
    from backtest.onboarding.demo import run_demo

    shown = run_demo(Path(out), store or str(Path(out) / "store"), tell=say, clock=context.obj)
    give_runs(shown.results)
    say(f"Pages: {shown.pages[0].parents[1] / '*' / 'index.html'}, the first one: {shown.pages[0]}")
    say(f"All runs in a table: {shown.gallery}")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Folder to make; its last part names the strategy, too.")],
    template: Annotated[
        str, typer.Option(help="Such as trend: one series; pairs: two; rotation: several.", autocompletion=templates)
    ] = "trend",
    as_json: JsonOption = False,
) -> None:
    """
    Make a folder for a strategy of your own: strategy, tests, notebook, CI, bars, and a baseline that holds.

    Its `pytest` passes as it is, without a network or an account.

    Example: backtest new momentum --template trend
    """
    from backtest.onboarding.scaffold import TEMPLATES, scaffold

    paths = scaffold(name, template)
    if as_json:
        give_json(
            {"folder": name, "template": template, "files": [path.relative_to(name).as_posix() for path in paths]}
        )
        return
    for path in paths:
        give(path.as_posix())
    series = " ".join(TEMPLATES[template].series)
    say(f"Next:\n  cd {one_word(name)}\n  pytest\n  backtest run strategies/{Path(name).resolve().name}.py {series}")


def doctor(
    context: typer.Context,
    source: SourceOption = "ib://127.0.0.1:7497",
    store: StoreOption = STORE,
    series: Annotated[str, typer.Option(help="Ask the source for a few bars of it: may you have them?")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Say whether everything is in place, and what to do where it is not; exit code 1 if there is a problem.

    Example: backtest doctor --source ib://127.0.0.1:4002 --series AAPL/1day
    """
    from backtest.onboarding.doctor import diagnose

    findings = diagnose(source, store, one_series_of(series) if series else None, context.obj)
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        give_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    else:
        _give_findings(findings)
    if problems:
        raise typer.Exit(1)


def emulator(
    context: typer.Context,
    store: StoreOption = STORE,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 for any free one.")] = 4002,
    pacing: Annotated[str, typer.Option(help="strict: IB's limits; off: none.")] = "strict",
    time_scale: Annotated[float, typer.Option(help="Pacing windows pass this many times faster.")] = 1.0,
    faults: Annotated[str, typer.Option(help="JSON file of scripted faults.")] = "",
    log: Annotated[str, typer.Option(help="File for a JSON line a request.")] = "",
    dividends: Annotated[
        str, typer.Option(help="File of date,amount,currency, to make ADJUSTED_LAST of where it is not stored.")
    ] = "",
) -> None:
    """
    Serve a store as a TWS or IB Gateway would, to any TWS client on this machine.

    Example: backtest emulator --store sample --port 4002
    """
    from backtest.emulator.faults import Faults
    from backtest.emulator.server import Gateway
    from backtest.engine.account.dividends import paid_by_instrument
    from backtest.store.reader import nothing_in
    from backtest.store.store import open_local

    served_store, stopped = open_local(store), signalled()
    paid = paid_by_instrument(dividends, served_store.series()) if dividends else None
    with (
        Path(log or os.devnull).open("a", encoding="utf-8") as lines,
        Gateway(
            served_store,
            port=port,
            pacing=pacing,
            time_scale=time_scale,
            faults=Faults.load(faults) if faults else None,
            clock=context.obj,
            log=lines,
            dividends=paid,
        ) as served,
    ):
        give(f"listening on 127.0.0.1:{served.port}")
        if not served_store.series():
            say(f"every request will be answered with error 200: {nothing_in(served_store)}")
        while not stopped.wait(HEARD_AFTER):
            pass


def _give_findings(findings: list[Check]) -> None:
    """Give what a doctor found."""
    from rich.console import Console
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "warning": "[yellow] ![/]", "problem": "[bold red]!![/]"}
    table = Table.grid("mark", "what", "said", padding=(0, 1))
    for finding in findings:
        said = f"{finding.detail}\nTo do: {finding.fix}" if finding.fix else finding.detail
        table.add_row(marks[finding.state], unmarked(finding.what), unmarked(said))
    Console(width=width(), highlight=False).print(table)
