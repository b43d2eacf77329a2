"""Run the harnesses of tests/soak at a small size."""

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

SCRIPTS = TESTS / "soak"
LINUX = sys.platform == "linux" and os.uname().machine == "x86_64"
LONGEST = 1200  # seconds


def last_line(script, *words):
    """Run a script, whose exit code is 0 where it found no failure, and return the last line that it printed."""
    code, said = forked(script, *words) if LINUX else started(script, *words)
    assert code == 0, said
    return said.splitlines()[-1]


def started(script, *words):
    """Run a script in a process of its own; return its exit code and all that it said."""
    ran = subprocess.run(
        [sys.executable, SCRIPTS / script, *words], capture_output=True, text=True, check=False, timeout=LONGEST
    )
    return ran.returncode, ran.stderr + ran.stdout


def forked(script, *words):
    """Run a script in a child of a process that has imported all; return its exit code and all that it said."""
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "said")
        print(json.dumps([[str(SCRIPTS / script), *words], str(output)]), file=server.stdin, flush=True)
        ready, _, _ = select.select([server.stdout], [], [], LONGEST)
        code = int(server.stdout.readline() or 1) if ready else 1
        return code, output.read_text() if output.exists() else f"{script} said nothing in {LONGEST} seconds"


@cache
def _server():
    places = os.pathsep.join([str(SCRIPTS), str(TESTS / "support")])
    server = subprocess.Popen(
        [sys.executable, TESTS / "support" / "forked.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"},  # threads would be lost by a fork
    )  # fmt: skip
    atexit.register(_end, server)
    return server


def _end(server):
    server.stdin.close()  # the script that it is running, if any, comes to its end
    server.stdout.close()
    server.wait()
