"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from enum import EnumType
from typing import Any

import typer
from making.markdown import fenced, linked, page, paragraph, plain, summary, table

from backtest import errors
from backtest.cli.app import app


def commands_page() -> str:
    """Return the page of the command line."""
    every = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands = {name: one for name, one in every.items() if not one.hidden}
    return page(
        "Commands",
        paragraph(
            "`backtest COMMAND --help` prints the same in a terminal, and `python -m backtest` is the same as "
            "`backtest`. Results go to stdout, messages to stderr; "
            "with `--json` one JSON document goes to stdout, and nothing else. Dates are sessions, and both ends are "
            "included. A series is spelled `SYMBOL[-KIND[-EXCHANGE[-CURRENCY[-EXPIRY[-STRIKE-RIGHT]]]]][+KEY=VALUE...]"
            "/BARSIZE[/PRICES[/rth|all]]`, such as `AAPL/1day`, `EUR-CASH/1min` or `ES-FUT-CME-USD-202612/5mins`: "
            "[name a series](../how-to/name-a-series.md). For unfamiliar terms see the "
            "[glossary](../glossary.md)."
        ),
        table(("command", "what it does"), *((linked(name), _said(one)[0]) for name, one in commands.items())),
        "## Exit codes",
        _exit_codes(),
        "## Environment variables",
        _environment(commands),
        "## Completion",
        "`backtest --install-completion` lets your shell complete commands and options; `--show-completion` shows how.",
        *(_command(name, one) for name, one in commands.items()),
    )


def _exit_codes() -> str:
    kinds = [kind for kind in errors.BacktestError.__subclasses__() if "exit_code" in vars(kind)]
    return table(
        ("code", "meaning"),
        ("0", "Success."),
        ("1", "A check failed, such as `verify` or `baseline check`, or the disk is full or not writable."),
        *((str(kind.exit_code), summary(kind)) for kind in sorted(kinds, key=lambda kind: kind.exit_code)),
        ("130", "Stopped with Ctrl-C; finished work is saved. A download shuts down cleanly and exits with 4."),
    )


_VARIABLES = {
    "BACKTEST_STORE": "The default of `--store`: a folder, or for reading also s3://BUCKET/PREFIX or sample (the "
    "bundled bars).",
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY": "Credentials of a store at `s3://…`.",
    "AWS_REGION, AWS_ENDPOINT_URL": "The region of the bucket, and a server other than Amazon's.",
    "XDG_CACHE_HOME": "Its folder `ib-backtest/` has the [request budget](../glossary.md#pacing), the accepted request "
    "lengths and the head timestamps of each gateway. The default is `~/.cache`.",
    "NO_COLOR": "Set it to any value for output without colours. Output to a file or a pipe never has colours.",
    "COLUMNS": "Width of the output on a terminal; elsewhere it is 80, but tables and messages may be wider.",
}


def _environment(commands: dict[str, Any]) -> str:
    asked = {option.envvar: option for one in commands.values() for option in one.params if option.envvar}
    ours = {
        name: f"The default of `{option.opts[0]}`: {option.help[:1].lower()}{option.help[1:]}"
        for name, option in sorted(asked.items())
    }
    named = {**ours, **_VARIABLES}
    return table(
        ("variable", "what it sets"), *((f"`{name}`".replace(", ", "`, `"), words) for name, words in named.items())
    )


def _command(name: str, command: Any) -> str:
    paragraphs, example = _said(command)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(["backtest", name, *map(_spelled, arguments), "[OPTIONS]"])
    blocks = [f"## {name}", *map(paragraph, [paragraphs, *_more(command)]), fenced(usage)]
    blocks += [f"Example:\n\n{fenced(example)}"] if example else []
    if arguments:
        rows = ((f"`{_spelled(one)}`", plain(one.help)) for one in arguments)
        blocks.append(table(("argument", "what it is"), *rows))
    rows = ((f"`{_option(one)}`", _value(one), plain(one.help)) for one in options)
    blocks.append(table(("option", "default", "what it does"), *rows))
    return "\n\n".join(blocks)


def _said(command: Any) -> tuple[str, str]:
    """Return the first paragraph of a command's help, and its example."""
    first, *rest = _paragraphs(command)
    example = next((one.removeprefix("Example: ") for one in rest if one.startswith("Example: ")), "")
    return first, example


def _more(command: Any) -> list[str]:
    return [one for one in _paragraphs(command)[1:] if not one.startswith("Example: ")]


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(one.split()) for one in inspect.cleandoc(command.help).split("\n\n")]


def _spelled(argument: Any) -> str:
    name = argument.metavar or argument.name.upper() + ("..." if argument.nargs == -1 else "")
    name = "|".join(_type(argument)) if isinstance(_type(argument), EnumType) else name
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _option(option: Any) -> str:
    """Return how an option is written: --jobs N."""
    value = option.metavar or {int: "N", float: "X", bool: ""}.get(_type(option), "TEXT")
    return f"{option.opts[0]} {value}".strip()


def _type(parameter: Any) -> Any:
    return parameter.type_descriptor.annotation


def _value(option: Any) -> str:
    if option.required:
        return "required"
    if option.min is not None and _type(option) is int and option.min > 0:
        return f"`{option.default}`, at least {option.min}"
    shown = option.show_default and not option.is_flag
    return "" if not shown or option.default in (None, "", []) else f"`{option.default}`"
