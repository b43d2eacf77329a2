"""Witnesses of the harnesses in tests/soak that throw noise and storms at the program."""

import pytest
from harnesses import LINUX, last_line

pytestmark = pytest.mark.crash


def test_no_input_ends_in_a_traceback_a_hang_or_a_signal():
    said = last_line("fuzz.py", "--jobs", "1", "--inputs", "60", "--seconds", "60")

    assert said == "60 inputs at 10 doors: 0 failures"


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_faults_kills_and_disk_errors_at_once_end_in_the_same_digest_or_a_clear_error():
    assert last_line("storms.py", "--jobs", "1", "--seeds", "4").endswith("0 failures")
