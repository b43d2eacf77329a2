"""Commands about baselines: the numbers that a strategy is held to."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from backtest.cli.options import RUNS, STORE, JsonOption, RunArgument, StoreOption
from backtest.cli.run_tables import give_baselines, give_reproduced, give_saved
from backtest.cli.terminal import say
from backtest.errors import UsageError


class BaselineAction(StrEnum):
    """What `baseline` does."""

    save = "save"
    check = "check"
    diff = "diff"
    accept = "accept"


def baseline(
    action: Annotated[
        BaselineAction,
        typer.Argument(
            metavar="ACTION", help="save: of kept runs; check: run again; diff: say all that moved; accept: take it."
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Runs to save, or baselines; all if none is named.")
    ] = None,
    folder: Annotated[str, typer.Option(help="Folder of the baselines, to be committed.")] = "strategies/baselines",
    name: Annotated[
        str, typer.Option("--name", help="What a saved baseline is called; as the strategy if not given.")
    ] = "",
    markdown: Annotated[str, typer.Option("--markdown", help="File for a summary, such as of a pull request.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Of check and diff: processes on this machine.")] = 1,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Hold strategies to what they did: say what moved, from which order and date on, and why. Exit code 1 if one moved.

    Example: backtest baseline save SmaCross-AAPL --folder baselines --store sample
    """
    from backtest.api import RunResult
    from backtest.baselines.drift import accept_kept, check_kept, save_runs
    from backtest.baselines.drift import markdown as summary
    from backtest.runs.kept import locate
    from backtest.store.replacement import replace_file
    from backtest.store.store import open_store

    if jobs > 1 and action not in (BaselineAction.check, BaselineAction.diff):
        raise UsageError(f"--jobs {jobs} is of check and diff, and this is {action.value}; leave it out")
    target = open_store(store)
    if action is BaselineAction.save:
        if not names:
            raise UsageError("no run to save; name one, see: backtest runs ls")
        paths = save_runs([RunResult.load(locate(RUNS, one)) for one in names], folder, target, name)
        give_saved(paths, as_json)
        return
    if action is BaselineAction.accept:
        judgements = accept_kept(names or [], folder, target)
    else:
        judgements = check_kept(names or [], folder, target, jobs)
    give_baselines(judgements, action is BaselineAction.diff, as_json)
    if markdown:
        replace_file(markdown, summary(judgements).encode())
    if not all(judgement.fine for judgement in judgements):
        say("error: results moved; if that is meant, accept them: backtest baseline accept")
        raise typer.Exit(1)


def reproduce(
    run_name: RunArgument,
    strategy: Annotated[str, typer.Option(help="file.py:Name, where it is not where the run found it.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Run a kept run again and say whether the result is equal, and if not, from which date on and why.

    Exit code 0: equal. 1: not, or the run fails now.

    Example: backtest reproduce SmaCross-AAPL --store sample
    """
    from backtest.api import RunResult
    from backtest.baselines.drift import reproduce as run_again
    from backtest.runs.kept import locate
    from backtest.store.store import open_store

    result = RunResult.load(locate(RUNS, run_name))
    judgement = run_again(result, result.label, open_store(store), strategy)
    give_reproduced(judgement, as_json)
    if not judgement.fine:
        raise typer.Exit(1)
