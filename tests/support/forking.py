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

CHECKS = ("pytest", "exchange_calendars", "pyarrow.parquet", "backtest.engine.simulation", "backtest.baselines.causes")
WRITERS = ("exchange_calendars", "pyarrow.parquet", "stores.make_store")  # what those who write into a store import
LINUX = sys.platform == "linux"  # elsewhere libraries may not outlive a fork
LONGEST = 1200  # seconds
PLACES = os.pathsep.join([str(TESTS / "soak"), str(TESTS / "support")])
ALONE = ("-p", "backtest.baselines.pytest_plugin", "--disable-plugin-autoload")  # which takes a fifth of the time


def forked(modules, words, folder="."):
    """
    Run `python WORDS` in a folder and return its exit code and all that it said; where not on Linux, by a start.

    Args:
        modules: names of what the process imports before it makes children, once for all commands that need the same.
        words: a script and its arguments, or -m and a module and its arguments.
    """
    if not LINUX:
        return started(words, folder)
    server = _server(tuple(modules))
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "said")
        command = [[str(word) for word in words], str(Path(folder).resolve()), str(output)]
        print(json.dumps(command), file=server.stdin, flush=True)
        ready, _, _ = select.select([server.stdout], [], [], LONGEST)
        code = int(server.stdout.readline() or 1) if ready else 1
        return code, output.read_text() if output.exists() else f"{words[0]} said nothing in {LONGEST} seconds"


def started(words, folder="."):
    """Run `python WORDS` in a process of its own; return its exit code and all that it said."""
    places = os.pathsep.join([PLACES, *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env={**os.environ, "PYTHONPATH": places},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=LONGEST,
    )  # fmt: skip
    return ran.returncode, ran.stdout


def pytest_with_plugin(folder, *words):
    """Run pytest in a folder with our plugin alone; return its exit code and what it said."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *ALONE, *words]
    return forked(CHECKS, command, folder)


@cache
def _server(modules):
    server = subprocess.Popen(
        [sys.executable, TESTS / "support" / "forked.py", *modules],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": PLACES, "OPENBLAS_NUM_THREADS": "1"},  # threads would be lost by a fork
    )  # fmt: skip
    atexit.register(_end, server)
    return server


def _end(server):
    server.stdin.close()  # the command that it is running, if any, comes to its end
    server.stdout.close()
    server.wait()
