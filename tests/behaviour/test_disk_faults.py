"""Witnesses of the harnesses in tests/soak about errors of the disk and damaged files."""

import flips
import pytest
from harnesses import LINUX, last_line

pytestmark = pytest.mark.crash


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_an_error_at_any_call_is_one_line_and_leaves_the_store_as_before_or_as_after():
    said = last_line("every_call.py", "--jobs", "1", "--faults", "EIO", "--every", "60")

    assert "19 operations, EIO: 0 failures" in said


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_a_full_disk_loses_nothing_and_the_work_goes_on_when_there_is_room():
    assert last_line("full_disk.py", "--sizes", "1") == "19 disks full in 19 operations: 0 failures"


def test_damage_of_any_file_is_noticed_and_the_file_is_named(tmp_path):
    done, missed = flips.run(tmp_path, every=300, seed=1)

    assert missed == []
    assert done > 100
