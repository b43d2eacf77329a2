"""The scripts of tests/reliability about errors of the disk and damaged files, at the size of CI."""

import flips
import pytest
from test_crashes import LINUX, last_line


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_an_error_at_any_call_is_one_line_and_leaves_the_store_as_before_or_as_after():
    assert "15 operations, EIO: 0 failures" in last_line("every_call.py", "--faults", "EIO")


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_a_full_disk_loses_nothing_and_the_work_goes_on_when_there_is_room():
    assert last_line("full_disk.py", "--sizes", "3") == "45 disks full in 15 operations: 0 failures"


def test_damage_of_any_file_is_noticed_and_the_file_is_named(tmp_path):
    done, missed = flips.run(tmp_path, every=15, seed=1)

    assert missed == []
    assert done > 2000
