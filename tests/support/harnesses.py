"""Run the harnesses of tests/soak at a small size."""

import os
import sys

from forking import forked
from places import TESTS

SCRIPTS = TESTS / "soak"
LINUX = sys.platform == "linux" and os.uname().machine == "x86_64"


def last_line(script, *words):
    """Run a script, whose exit code is 0 where it found no failure, and return the last line that it printed."""
    code, said = forked(["operations", "writers"], [SCRIPTS / script, *words])
    assert code == 0, said
    return said.splitlines()[-1]
