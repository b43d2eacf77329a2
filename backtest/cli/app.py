"""The command line: `COMMANDS` and what becomes of their errors; a command is a function in `cli/`."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from backtest._clock import Clock, utc_now
from backtest.cli.baselines import baseline, reproduce
from backtest.cli.research import sweep, validate
from backtest.cli.runs import compare, report, run, runs
from backtest.cli.setup import demo, doctor, emulator, new, tell_version
from backtest.cli.store import download, export, import_, ls, pin, prune, publish, verify
from backtest.cli.terminal import results_alone, say
from backtest.errors import BacktestError

WIDTH = 80

COMMANDS = (
    demo,
    new,
    doctor,
    download,
    import_,
    export,
    ls,
    verify,
    prune,
    pin,
    publish,
    run,
    sweep,
    runs,
    report,
    compare,
    validate,
    baseline,
    reproduce,
    emulator,
)
_OLD_NAMES = {"gateway": emulator}  # still taken, and shown nowhere

app = typer.Typer(
    help="Backtest on Interactive Brokers' historical bars: download, store, replay, measure, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)


def _help(command: Any) -> str:
    """Return what a command says of itself before any form feed, a line a paragraph, for the terminal to break."""
    text = inspect.cleandoc(command.__doc__).partition("\f")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _alone(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that gives its document alone on stdout, where --json asks for one."""

    @functools.wraps(command)
    def called(**arguments: Any) -> None:
        with results_alone() if arguments.get("as_json") else nullcontext():
            command(**arguments)

    return called


for _command in COMMANDS:
    app.command(_command.__name__.rstrip("_"), help=_help(_command))(_alone(_command))
for _name, _command in _OLD_NAMES.items():
    app.command(_name, help=_help(_command), hidden=True)(_alone(_command))


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", help="Print versions and end.", callback=tell_version, is_eager=True)
    ] = False,
) -> None: ...


def main(words: list[str] | None = None, clock: Clock = utc_now) -> None:
    """
    Run the command line, of this process if no words are given; a known error is one sentence and an exit code.

    Args:
        clock: what time it is for the command, which finds it in its context.
    """
    try:
        app(words, prog_name="backtest", obj=clock)
    except BacktestError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nobody to tell
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; choose another place or make room, then run this again", 1)


def _fail(text: str, code: int) -> None:
    say(f"error: {text}")
    sys.exit(code)


if __name__ == "__main__":
    main()
