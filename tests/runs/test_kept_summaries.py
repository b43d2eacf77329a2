"""The summary beside a saved run: read in place of the run, and made again wherever it may not be that of the run."""

import json
import os
import shutil

import pytest
from handmade import result_of

from backtest.metrics.listing import keep_summary_of, listed
from backtest.runs.kept import kept, read_summary, remove, state_of
from backtest.runs.record import BESIDE, FILES, SUMMARY, RunRecord
from backtest.store.files import TEMPORARY

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes and devices in folders")
RISING = [100.0 + n + n % 3 for n in range(300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of a run that was kept, with its summary; no test changes it."""
    folder = tmp_path_factory.mktemp("runs") / "rising"
    result_of(RISING, params={"fast": 10}).save(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """Return a copy of the run, of which a test may change files; copied with their times."""
    return shutil.copytree(made, tmp_path / "rising")


def total_return(folder):
    (row,) = listed(kept(folder.parent))
    return row.stats["total_return"]


def change(folder, **words):
    """Write other words into a summary, which is of the same state of the run's files."""
    found = json.loads((folder / SUMMARY).read_text()) | words
    (folder / SUMMARY).write_text(json.dumps(found))


def told(folder):
    """Let the summary say another return than the run has, so that one sees which of the two is read."""
    found = json.loads((folder / SUMMARY).read_text())
    change(folder, numbers=found["numbers"] | {"total_return": 77.0})


def test_a_list_shows_what_the_summary_says_and_that_is_what_the_run_says(folder):
    (row,) = listed(kept(folder.parent))
    run = result_of(RISING, params={"fast": 10})

    assert row.stats.to_dict() == run.stats.to_dict()
    assert (row.stats.basis, row.stats.reasons, row.stats.currency) == (
        run.stats.basis, run.stats.reasons, run.stats.currency
    )  # fmt: skip
    assert list(row.stats) == list(run.stats)
    assert list(row.stats.reasons) == [name for name in run.stats.reasons if name in row.stats]
    assert (row.spec.key, row.series, row.kept.name) == (run.spec.key, tuple(run.series), "rising")
    told(folder)
    assert total_return(folder) == 77.0


@pytest.mark.parametrize("file", ["record.parquet", "manifest.json", "spec.json", "fills.parquet"])
def test_a_summary_of_other_files_is_made_again(folder, file):
    before = total_return(folder)
    told(folder)

    os.utime(folder / file, (2000, 2000))

    assert total_return(folder) == before
    assert json.loads((folder / SUMMARY).read_text())["numbers"]["total_return"] == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / SUMMARY).unlink(),
        lambda folder: (folder / SUMMARY).write_bytes(b"{"),
        lambda folder: (folder / SUMMARY).write_bytes(b"\xff\x00"),
        lambda folder: (folder / SUMMARY).write_text("[1]"),
        lambda folder: (folder / SUMMARY).write_text("[" * 100_000),
        lambda folder: change(folder, numbers={"total_return": "much"}),
        lambda folder: change(folder, numbers={"total_return": float("-inf")}),
        lambda folder: change(folder, numbers={"total_return": 10**400}),
        lambda folder: change(folder, numbers=[1]),
        lambda folder: change(folder, series="AAPL/1day"),
        lambda folder: change(folder, spec={}),
        lambda folder: change(folder, words={}),
        lambda folder: change(folder, notes=[1]),
        lambda folder: change(folder, made_by="another version", numbers={"total_return": 77.0}),
    ],
    ids=["lost", "cut", "bytes", "a list", "deep", "a text", "infinite", "huge", "a list of numbers", "series", "spec",
         "words", "notes", "another version"],
)  # fmt: skip
def test_a_summary_that_cannot_be_believed_is_made_again(folder, damage):
    before = total_return(folder)

    damage(folder)

    assert total_return(folder) == before
    assert read_summary(folder, state_of(folder)).numbers["total_return"] == before


def test_a_run_that_is_replaced_takes_its_summary_away(folder):
    other = result_of(RISING[::-1], params={"fast": 9})

    RunRecord.save(other, folder, force=True)  # without its summary

    assert not (folder / SUMMARY).exists()
    assert total_return(folder) == pytest.approx(other.stats["total_return"])


def test_a_run_is_kept_with_its_summary(tmp_path):
    result_of(RISING).save(tmp_path / "run")

    assert read_summary(tmp_path / "run", state_of(tmp_path / "run")).name == result_of(RISING).name


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda path: path.mkdir(), id="folder"),  # in whose place no file is put
        pytest.param(lambda path: os.mkfifo(path), id="pipe", marks=needs_pipes),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="device", marks=needs_pipes),
    ],
)
def test_what_lies_in_the_place_of_a_summary_is_no_summary_and_nothing_is_left_over(folder, place):
    before = total_return(folder)
    (folder / SUMMARY).unlink()

    place(folder / SUMMARY)

    assert total_return(folder) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY)] == []


def test_a_summary_that_a_killed_process_began_is_removed_with_the_next(folder):
    (folder / SUMMARY).unlink()
    left = folder / f"{TEMPORARY}4194304-1-{SUMMARY}"
    left.write_bytes(b"{")

    total_return(folder)

    assert (folder / SUMMARY).is_file()
    assert not left.exists()


def test_a_run_that_was_replaced_before_it_was_summed_up_has_no_summary_of_the_first(folder):
    first, second = result_of(RISING, params={"fast": 10}), result_of(RISING[::-1], params={"fast": 9})
    RunRecord.save(second, folder, force=True)  # by another process, between the two halves of first.save(folder)

    keep_summary_of(first, folder)

    assert total_return(folder) == pytest.approx(second.stats["total_return"])


@pytest.mark.parametrize("name", BESIDE)
def test_a_folder_in_the_place_of_what_lies_beside_stays_and_hinders_nothing(folder, name):
    other = result_of(RISING[::-1], params={"fast": 9})
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()

    other.save(folder, force=True)
    assert RunRecord.load(folder).name == other.name
    remove(folder)

    assert [path.name for path in folder.iterdir()] == [name]


def test_files_that_are_being_replaced_have_no_state(folder):
    (folder / ".new").mkdir()

    assert state_of(folder) == () == state_of(folder / "nothing")
    assert read_summary(folder, ()) is None


def test_the_state_is_of_the_files_of_the_run_alone(folder):
    before = state_of(folder)
    (folder / "notes.txt").write_text("mine")

    assert state_of(folder) == before
    assert {name for name, _, _ in before} < {*FILES}
