"""Witnesses of the harnesses in tests/soak about kills, power cuts and crowds; `make soak` runs them at full size."""

import pytest
from harnesses import LINUX, last_line

pytestmark = pytest.mark.crash


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_a_kill_at_any_call_leaves_the_store_as_before_or_as_after():
    said = last_line("every_call.py", "--jobs", "1", "--faults", "kill", "--every", "10")

    assert "19 operations, kill: 0 failures" in said


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_what_a_kill_would_leave_of_runs_pages_sweeps_baselines_pins_exports_and_new_folders_is_whole():
    said = last_line("every_call.py", "--jobs", "1", "--outside", "--copies", "--every", "30")

    assert "18 operations, kill: 0 failures" in said


@pytest.mark.soak
@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_nor_does_a_kill_harm_runs_pages_sweeps_baselines_pins_exports_and_new_folders():
    said = last_line("every_call.py", "--jobs", "1", "--outside", "--faults", "kill", "--every", "10")

    assert "18 operations, kill: 0 failures" in said


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_what_is_no_file_is_never_waited_for_and_never_believed():
    said = last_line("doors.py", "--commands", "ls,pin,runs ls,compare,baseline check", "--every", "5")

    assert "5 commands: 0 failures" in said


@pytest.mark.skipif(not LINUX, reason="the tracer knows Linux on x86-64")
def test_nothing_is_acknowledged_before_it_is_synced_and_power_cuts_lose_nothing():
    said = last_line("power_cuts.py", "--jobs", "1", "--cuts", "15", "--every", "28")

    assert said.startswith("19 power cuts: 0 failures")
    assert said.endswith("0 not synced")


def test_kills_at_random_moments_lose_nothing():
    said = last_line("kills.py", "--jobs", "1", "--kills", "30")

    assert int(said.split()[0]) >= 30
    assert said.endswith("0 failures")


def test_writers_and_readers_at_once_end_with_the_exact_union():
    said = last_line("crowd.py", "--writers", "4", "--sessions", "12")

    assert said.startswith("4 writers on 4 series")
    assert said.endswith("0 failures")
    assert " 0 killed" not in said  # how many are depends on who is done before


def test_a_harness_that_fails_is_shown_with_what_it_said():
    with pytest.raises(AssertionError, match="unrecognized arguments: --nothing"):
        last_line("kills.py", "--nothing")
