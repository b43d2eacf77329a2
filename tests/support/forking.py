"""Run Python in a child of a process that has imported what it needs, where a start of its own would take longest."""

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from places import TESTS

LONGEST = 1200  # seconds
ALONE = ("-p", "backtest.baselines.pytest_plugin", "--disable-plugin-autoload")  # which takes a fifth of the time


def forked(modules, words, folder="."):
    """
    Run `python WORDS` in a folder and return its exit code and all that it said; on systems that have forks.

    Args:
        modules: names of what the process imports before it makes children, once for all commands that need the same.
        words: a script and its arguments, or -m and a module and its arguments.
    """
    server = _server(tuple(modules))
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "said")
        command = [[str(word) for word in words], str(Path(folder).resolve()), str(output)]
        print(json.dumps(command), file=server.stdin, flush=True)
        ready, _, _ = select.select([server.stdout], [], [], LONGEST)
        code = int(server.stdout.readline() or 1) if ready else 1
        return code, output.read_text() if output.exists() else f"{words[0]} said nothing in {LONGEST} seconds"


def pytest_with_plugin(folder, *words):
    """Run pytest in a folder with our plugin alone; return its exit code and what it said."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *ALONE, *words]
    if hasattr(os, "fork"):
        return forked(["pytest", "backtest.api", "backtest.baselines.drift"], command, folder)
    ran = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout


@cache
def _server(modules):
    places = os.pathsep.join([str(TESTS / "soak"), str(TESTS / "support")])
    server = subprocess.Popen(
        [sys.executable, TESTS / "support" / "forked.py", *modules],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"},  # threads would be lost by a fork
    )  # fmt: skip
    atexit.register(_end, server)
    return server


def _end(server):
    server.stdin.close()  # the command that it is running, if any, comes to its end
    server.stdout.close()
    server.wait()
