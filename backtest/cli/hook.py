"""`--on-problem`: a command of the user's, run once at the end of a download that needs attention."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from backtest._system import end_family, one_word
from backtest.cli.options import environment
from backtest.cli.terminal import say
from backtest.errors import UsageError

_SECONDS = 60.0  # seconds that the command may take
_LONGEST = 2000  # characters of a text in the environment


def command_of(text: str) -> list[str]:
    """
    Return the words of a command, none for an empty text; it runs directly, without a shell.

    Raises:
        UsageError: it has an unclosed quote.
    """
    try:
        words = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise UsageError(f"--on-problem {text!r} is not a valid command ({error}); quote it as a shell does") from error
    # Windows quotes in its own way, and leaves the quotes to the program.
    return [word.strip('"') for word in words] if os.name == "nt" else words


def check_command(command: list[str]) -> None:
    """Report a missing program at once, not only when a download fails."""
    if command and shutil.which(command[0]) is None:
        say(f"warning: --on-problem: the program {command[0]!r} was not found; the download continues without it")


def run_command(command: list[str], facts: Mapping[str, Any], seconds: float = _SECONDS) -> None:
    """
    Run a command with the details as JSON on stdin and a summary in its environment; report if it fails.

    Names from a vendor or a file become neither its arguments nor input of a shell, so that none of them can run
    anything.
    """
    if not command:
        return
    why = _ran(command, json.dumps(facts, indent=1).encode(), {**environment(), **_variables(facts)}, seconds)
    if why:
        say(f"error: --on-problem {' '.join(map(one_word, command))}: {why}")


def _variables(facts: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        "BACKTEST_EXIT_CODE": facts["exit_code"],
        "BACKTEST_SUMMARY": facts["summary"]["text"],
        "BACKTEST_ERROR": facts["error"] or "",
    }
    return {name: " ".join(str(text).replace("\0", " ").split())[:_LONGEST] for name, text in texts.items()}


def _ran(command: list[str], document: bytes, environment: Mapping[str, str], seconds: float) -> str:
    """Run a command to its end; return what went wrong, "" if nothing did."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=(told := _stderr()),
            stderr=told,
            env=environment,
            start_new_session=True,  # processes that it starts end with it
        )
    except OSError as error:
        return f"cannot be run ({error.strerror or error})"
    try:
        process.communicate(document, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"took longer than {seconds:g} s and was killed"
    finally:
        if process.poll() is None:
            _end(process)
    code = process.returncode
    return "" if not code else f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, and close its stdin."""
    with contextlib.suppress(OSError):
        end_family(process)
    process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _stderr() -> int:
    """Return the stream for the command's output: stderr, or none if that is closed; stdout is for results."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return sys.stderr.fileno()
    return subprocess.DEVNULL
