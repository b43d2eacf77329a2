"""Run the harnesses of tests/soak at a small size."""

import os
import subprocess
import sys

from forking import LONGEST, forked
from places import TESTS

SCRIPTS = TESTS / "soak"
LINUX = sys.platform == "linux" and os.uname().machine == "x86_64"


def last_line(script, *words):
    """Run a script, whose exit code is 0 where it found no failure, and return the last line that it printed."""
    command = [str(SCRIPTS / script), *words]
    code, said = forked(["operations", "writers"], command) if LINUX else started(command)
    assert code == 0, said
    return said.splitlines()[-1]


def started(words):
    """Run a script in a process of its own; return its exit code and all that it said."""
    ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=LONGEST)
    return ran.returncode, ran.stderr + ran.stdout
