"""The command line: `COMMANDS`, each a function in `cli/`, and how their errors become messages and exit codes."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from backtest._clock import Clock, utc_now
from backtest._system import write_anything
from backtest.cli.baselines import baseline, reproduce
from backtest.cli.parse import refuse_url
from backtest.cli.research import combine, next_, sweep, validate
from backtest.cli.runs import compare, report, run, runs, show
from backtest.cli.setup import demo, doctor, emulator, new, tell_version
from backtest.cli.store import download, export, import_, ls, pin, prune, publish, verify
from backtest.cli.terminal import documents_given, failure_of, give_json, harmless, results_alone, say, shortened
from backtest.errors import BacktestError, UsageError

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
    next_,
    sweep,
    runs,
    report,
    show,
    compare,
    combine,
    validate,
    baseline,
    reproduce,
    emulator,
)
_PLACES = ("out", "lock", "folder", "png", "pdf", "markdown", "log")  # options that name what is written
_OLD_NAMES = {"gateway": emulator}  # still accepted, but not documented


class _Commands(TyperGroup):
    """The commands; their usage errors repeat what was typed, shortened and with control characters escaped."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the words before the command."""
        with _harmless_errors():
            return super().make_context(*args, **extra)

    def invoke(self, *args: Any, **extra: Any) -> Any:
        """Parse the words of the command, and call it."""
        with _harmless_errors():
            return super().invoke(*args, **extra)


_WrongUsage: Any = typer.BadParameter.__base__  # the base class of these errors; Typer does not export it


@contextmanager
def _harmless_errors() -> Iterator[None]:
    try:
        yield
    except _WrongUsage as error:
        error.message = harmless(shortened(_in_words(error)))
        raise


def _in_words(error: Any) -> str:
    """Return what is wrong with a command line; if Pydantic refused a value, the text quotes it."""
    refused = error.__cause__.errors()[0] if hasattr(error.__cause__, "errors") else {}
    words = _REFUSED.get(refused.get("type", ""))
    if words is None:
        return str(error.message).removeprefix("Value error, ")
    return words.format(value=refused["input"], **refused.get("ctx", {}))


_REFUSED = {
    "float_parsing": "{value!r} is not a number.",
    "int_parsing": "{value!r} is not a whole number.",
    "greater_than_equal": "{value} is below the minimum of {ge:g}.",
    "less_than_equal": "{value} is above the maximum of {le:g}.",
}


app = typer.Typer(
    cls=_Commands,
    help="Backtest on Interactive Brokers' historical bars: download, store, replay, measure, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)


def _help(command: Any) -> str:
    """Return a command's help before any form feed, one line per paragraph, for the terminal to wrap."""
    text = inspect.cleandoc(command.__doc__).partition("\f")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _alone(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that prints only its document to stdout if --json is set, and that writes to no URL."""

    @functools.wraps(command)
    def called(**arguments: Any) -> None:
        for name in _PLACES:
            refuse_url(arguments.get(name), f"--{name}")
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
        bool, typer.Option("--version", help="Print versions and exit.", callback=tell_version, is_eager=True)
    ] = False,
) -> None: ...


def main(words: list[str] | None = None, clock: Clock = utc_now) -> None:
    """
    Run the command line, by default with this process's words; a known error becomes one sentence and an exit code.

    Args:
        clock: the clock of the command, which finds it in its context.
    """
    write_anything(sys.stdout, sys.stderr)
    as_json = "--json" in (sys.argv[1:] if words is None else words)
    given = documents_given()
    try:
        _program()(words, prog_name="backtest", obj=clock)
    except (BacktestError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has closed the pipe
            sys.exit(0)
        text, code = failure_of(error)
        say(f"error: {text}")
        if as_json:
            _give_failure(text, code, given)
        sys.exit(code)
    except SystemExit as ended:
        if as_json and ended.code not in (0, None):
            _give_failure(_ENDINGS.get(ended.code, f"ended with exit code {ended.code}"), ended.code, given)
        raise
    except BaseException as error:
        if as_json:
            _give_failure(*failure_of(error), given)
        raise


@functools.cache
def _program() -> Any:
    """Return the commands with all their options, built once: building takes as long as a small command."""
    return typer.main.get_command(app)


# Typer ended the command, after it printed the reason on stderr.
_ENDINGS: dict[object, str] = {
    UsageError.exit_code: "invalid command line; see the message on stderr",
    130: "interrupted; run this again to resume",
}


def _give_failure(text: str, code: object, given: int) -> None:
    """Print the document of a failed command, unless the command has printed one."""
    if documents_given() == given:
        with suppress(OSError):  # stdout may be a file on the full disk
            give_json({"error": text, "exit_code": code})


if __name__ == "__main__":
    main()
