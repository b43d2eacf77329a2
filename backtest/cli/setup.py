"""Commands about the environment: the demo, a new project folder, checks of this machine, the emulator."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backtest._resources import installed_version
from backtest._system import one_word, wait_for
from backtest.cli.options import STORE, JsonOption, SourceOption, StoreOption, templates
from backtest.cli.parse import one_series_of
from backtest.cli.run_tables import give_runs
from backtest.cli.terminal import give, give_json, say, signalled, unmarked, width

if TYPE_CHECKING:
    from backtest.onboarding.doctor import Check


def tell_version(asked: bool) -> None:
    """If requested, print the versions of this package, of Python and of packages that affect results, and exit."""
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
    out: Annotated[str, typer.Option(help="Folder for the pages.")] = "runs/demo",
    store: Annotated[str, typer.Option(help="Folder for the demo's store. Default: OUT/store.")] = "",
) -> None:
    """
    Run the whole workflow on real prices: emulator, ib_insync, Parquet, Backtrader, report.

    Starts the emulator on the sample bars, downloads four stocks from it over TCP, runs two strategies on each and
    writes an HTML page per run. Needs no account and no network.

    Example: backtest demo --out runs/demo
    """
    from backtest.onboarding.demo import run_demo

    shown = run_demo(Path(out), store or str(Path(out) / "store"), tell=say, clock=context.obj)
    give_runs(shown.results)
    say(f"A page per run: {shown.pages[0].parents[1] / '*' / 'index.html'}, such as {shown.pages[0]}")
    say(f"A table of all runs: {shown.gallery}")


def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Folder to create; the last part of the path is also the strategy's name."),
    ],
    template: Annotated[
        str, typer.Option(help="trend (one series), pairs (two) or rotation (several).", autocompletion=templates)
    ] = "trend",
    as_json: JsonOption = False,
) -> None:
    """
    Create a project folder for your own strategy, with tests, a notebook, CI, pinned bars and a baseline.

    `pytest` passes in it right away, without a network or an account.

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
    series: Annotated[
        str, typer.Option(help="Request a few bars of this series, to check your market data permissions.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Check the installation, the source and the store, and say how to fix problems. Exit code 1 if there are any.

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
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes any free port.")] = 4002,
    pacing: Annotated[str, typer.Option(help="strict enforces IB's limits; off does not.")] = "strict",
    time_scale: Annotated[float, typer.Option(help="Speed up IB's pacing windows by this factor.")] = 1.0,
    faults: Annotated[str, typer.Option(help="JSON file with faults to inject.")] = "",
    log: Annotated[str, typer.Option(help="Log each request to this file, one JSON line per request.")] = "",
    dividends: Annotated[
        str,
        typer.Option(
            help="CSV file with the columns date,amount,currency, to compute ADJUSTED_LAST bars that the store lacks."
        ),
    ] = "",
) -> None:
    """
    Serve a store over the TWS protocol to any TWS client on this machine.

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
        wait_for(stopped)


def _give_findings(findings: list[Check]) -> None:
    """Print the findings of `doctor`."""
    from rich.console import Console
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "warning": "[yellow] ![/]", "problem": "[bold red]!![/]"}
    table = Table.grid("mark", "what", "said", padding=(0, 1))
    for finding in findings:
        said = f"{finding.detail}\nTo do: {finding.fix}" if finding.fix else finding.detail
        table.add_row(marks[finding.state], unmarked(finding.what), unmarked(said))
    Console(width=width(), highlight=False).print(table)
