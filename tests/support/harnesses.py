"""Run the harnesses of tests/soak at a small size."""

import os
import subprocess
import sys

from places import TESTS

SCRIPTS = TESTS / "soak"
LINUX = sys.platform == "linux" and os.uname().machine == "x86_64"


def last_line(script, *words):
    """Run a script, whose exit code is 0 where it found no failure, and return the last line that it printed."""
    ran = subprocess.run(
        [sys.executable, SCRIPTS / script, *words], capture_output=True, text=True, check=False, timeout=1200
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()[-1]
