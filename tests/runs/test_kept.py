"""Saved runs: listed, found by name, shown again, removed; their figures as files."""

import json
import re

import pytest
from handmade import fill, result_of
from rights import HAVE_RIGHTS, shown_by_no_disk, unreadable

from backtest.api import RunResult
from backtest.errors import BadStore, UsageError
from backtest.report.comparison_page import write_comparison
from backtest.report.figures import shown_figures
from backtest.runs.kept import kept, labels_of, locate, note, remove, tag, untag
from backtest.runs.record import BESIDE, FILES, SUMMARY, RunRecord
from backtest.validity.comparison import compare

pytestmark = pytest.mark.usefixtures("few_figures")

LONG = [100.0 + n % 7 + n / 10 for n in range(120)]
FILLS = [fill(0, 2, 10.0), fill(1, -1, 16.0)]


@pytest.fixture
def result():
    return result_of(LONG, FILLS)


@pytest.fixture
def root(tmp_path, result):
    """Return a folder with two runs, one of them in a folder below."""
    result.save(tmp_path / "runs" / "first-a1")
    result.save(tmp_path / "runs" / "demo" / "second-b2")
    return tmp_path / "runs"


@pytest.fixture
def call(call, tmp_path, monkeypatch):
    """Call the command line in the folder that has the runs."""
    monkeypatch.chdir(tmp_path)
    return call


def test_runs_are_found_in_folders_below_too(root):
    assert sorted(run.name for run in kept(root)) == ["demo/second-b2", "first-a1"]


def test_no_folder_keeps_no_runs(tmp_path):
    assert kept(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["first-a1", "fir"])
def test_a_run_is_found_by_its_name_or_the_beginning_of_it(root, name):
    assert locate(root, name) == root / "first-a1"


def test_a_run_is_found_by_its_folder(root, tmp_path):
    assert locate(tmp_path / "elsewhere", str(root / "first-a1")) == root / "first-a1"


def test_a_beginning_of_several_names_is_refused_with_the_names(root, result):
    result.save(root / "first-c3")

    with pytest.raises(UsageError, match="2 runs begin with 'first': first-a1, first-c3"):
        locate(root, "first")


def test_an_unknown_run_is_refused_with_what_comes_near(root):
    with pytest.raises(UsageError, match="did you mean first-a1"):
        locate(root, "frist-a1")


@pytest.mark.slow
def test_removing_a_run_leaves_what_is_not_of_it(root, result):
    result.report(root / "first-a1")
    (root / "first-a1" / "notes.txt").write_text("mine")

    remove(root / "first-a1")

    assert [path.name for path in (root / "first-a1").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_that_cannot_be_looked_at_is_not_taken_for_absent_and_left_behind(root, result, name):
    folder = root / "first-a1"
    for one in BESIDE:
        (folder / one).write_text("{}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    with shown_by_no_disk(name):
        with pytest.raises(OSError, match=name):
            remove(folder)
        with pytest.raises(UsageError, match="no run can be saved in"):
            result_of(LONG, params={"fast": 3}).save(folder, force=True)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["lines.parquet", "extremes.parquet", "cost_cases.json"])
def test_a_run_is_not_read_without_a_table_that_cannot_be_looked_at(root, name):
    assert name in FILES

    with shown_by_no_disk(name), pytest.raises(BadStore, match="cannot be read"):
        RunRecord.load(root / "first-a1")


def stamps(folder):
    """Return what changes when a file of a run is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir() if path.name in FILES}


@pytest.mark.slow
def test_a_report_does_not_write_the_run_that_it_reads(root, call):
    before = stamps(root / "first-a1")

    assert call("report", "first-a1")[0] == 0
    RunResult.load(root / "first-a1").report(root / "first-a1")

    assert stamps(root / "first-a1") == before
    assert (root / "first-a1" / "index.html").exists()


@pytest.mark.slow
def test_a_report_elsewhere_takes_the_run_along(root, call):
    assert call("report", "first-a1", "--out", "page")[0] == 0

    assert RunResult.load("page").stats.to_dict() == RunResult.load(root / "first-a1").stats.to_dict()


def half_removed(folder):
    """Leave a run as a process does that is killed while it removes it."""
    (folder / ".new").mkdir()
    for name in FILES:
        (folder / ".new" / f"{name}.gone").touch()
    (folder / "manifest.json").unlink()


def test_a_removal_that_was_killed_counts_and_is_finished_the_next_time(root, call):
    half_removed(root / "first-a1")

    assert [run.name for run in kept(root)] == ["demo/second-b2"]
    assert call("runs", "rm", "first-a1")[:2] == (0, "")
    assert sorted(path.name for path in root.iterdir()) == ["demo"]


def test_an_empty_folder_elsewhere_is_no_run_that_was_removed_halfway(root, call, tmp_path):
    (tmp_path / "mine").mkdir()

    assert call("runs", "rm", "mine")[0] == 3
    assert (tmp_path / "mine").exists()


def test_a_run_that_counts_is_listed_and_loaded_before_its_files_are_moved_up(root, result):
    (root / "first-a1").rename(root / "moved")
    (root / "first-a1").mkdir()
    (root / "moved").rename(root / "first-a1" / ".new")
    (root / "first-a1" / ".new" / "trades.parquet").rename(root / "first-a1" / "trades.parquet")

    assert sorted(run.name for run in kept(root)) == ["demo/second-b2", "first-a1"]
    assert RunResult.load(root / "first-a1") == result


def test_what_a_killed_run_has_begun_is_not_listed(root):
    (root / "first-a1").rename(root / "moved")
    (root / "first-a1").mkdir()
    (root / "moved").rename(root / "first-a1" / ".tmp-new")

    assert [run.name for run in kept(root)] == ["demo/second-b2"]


def test_removing_the_whole_of_a_run_removes_its_folder(root):
    remove(root / "demo" / "second-b2")

    assert not (root / "demo" / "second-b2").exists()


def test_what_is_no_run_is_not_removed(tmp_path):
    (tmp_path / "index.html").write_text("my page")

    with pytest.raises(BadStore):
        remove(tmp_path)

    assert (tmp_path / "index.html").exists()


def test_the_list_has_the_numbers_of_each_run_and_names_a_damaged_one(root, call, result):
    (root / "first-a1" / "record.parquet").write_bytes(b"no Parquet")

    code, out, _ = call("runs", "ls")
    listed = json.loads(call("runs", "ls", "--json")[1])["runs"]

    assert code == 3
    assert "damaged" in next(line for line in out.splitlines() if line.startswith("first-a1"))
    assert listed["demo/second-b2"]["stats"] == result.stats.to_dict()
    assert "cannot be read" in listed["first-a1"]["error"]


@HAVE_RIGHTS
@pytest.mark.parametrize("rights", [0o000, 0o444])
def test_a_folder_without_rights_is_listed_as_damaged_and_not_left_out(root, call, rights):
    with unreadable(root / "first-a1", rights):
        code, out, _ = call("runs", "ls", "--where", "sharpe>-1000", "--json")
        told = call("runs", "show", "first-a1")[2]

    listed = json.loads(out)["runs"]
    assert code == 3
    assert "stats" in listed["demo/second-b2"]
    assert "first-a1" in listed["first-a1"]["error"]
    assert "cannot be read" in told


@HAVE_RIGHTS
def test_a_folder_of_runs_without_rights_is_not_an_empty_one(root, call):
    with unreadable(root):
        code, out, _ = call("runs", "ls", "--json")

    assert code == 3
    assert "cannot be read" in json.loads(out)["runs"]["."]["error"]


def test_a_run_is_shown_with_the_same_numbers_again(root, call, result):
    assert call("runs", "show", "first")[1].strip() == repr(result)
    assert json.loads(call("runs", "show", "first", "--json")[1])["stats"] == result.stats.to_dict()


@pytest.mark.slow
def test_a_removed_run_is_gone_from_the_list(root, call):
    code, _, err = call("runs", "rm", "first-a1", "demo/second-b2")

    assert code == 0
    assert err.count("Removed") == 2
    assert "No saved runs yet" in call("runs", "ls")[2]


def test_a_command_on_runs_without_a_name_says_where_names_are(root, call):
    code, out, err = call("runs", "rm")

    assert (code, out) == (2, "")
    assert "backtest runs ls" in err


@pytest.mark.slow
def test_a_report_writes_figures_as_files_when_asked_for(root, call, tmp_path, result, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # where no browser prints the page

    code, out, err = call("report", "first-a1", "--png", "figures", "--pdf", "run.pdf")

    pictures = sorted((tmp_path / "figures").iterdir())
    assert code == 0
    assert [path.stem for path in pictures] == sorted(figure.name for figure in shown_figures(result))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert "the PDF has metrics and figures instead of the page" in err
    sheets = re.findall(rb"/MediaBox \[ ([^]]*) \]", (tmp_path / "run.pdf").read_bytes())
    assert len(sheets) == 1 + len(pictures)
    assert [round(float(size) / 72, 2) for size in sheets[0].split()[2:]] == [11.69, 8.27]  # of A4
    assert len(set(sheets)) == 1
    assert len(out.splitlines()) == 2 + len(pictures)


@pytest.mark.slow
def test_figures_that_cannot_be_written_are_a_sentence(root, call, tmp_path):
    (tmp_path / "taken").write_text("")

    code, _, err = call("report", "first-a1", "--png", "taken")

    assert code == 2
    assert "taken" in err


def test_a_run_measured_again_needs_no_bars(root, result):
    assert RunResult.load(root / "first-a1").stats.to_dict() == result.stats.to_dict()


def test_a_loaded_run_is_called_as_its_folder_seen_from_runs(root, result):
    loaded = [RunResult.load(root / name) for name in ("first-a1", "demo/second-b2")]

    assert [run.label for run in loaded] == ["first-a1", "demo/second-b2"]
    assert [run.name for run in loaded] == [result.name, result.name]
    assert result.label == result.name


def test_tags_are_added_once_and_taken_off_again(root, result):
    tag(root / "first-a1", ["best", "trend"])
    tag(root / "first-a1", ["trend", "2024"])

    assert labels_of(result, root / "first-a1").tags == ("best", "trend", "2024")
    assert untag(root / "first-a1", ["trend"]).tags == ("best", "2024")


def test_labels_stay_where_the_run_is_saved_again_and_go_where_another_takes_its_place(root, result):
    tag(root / "first-a1", ["best"])

    result.save(root / "first-a1")
    same = labels_of(result, root / "first-a1")
    other = result_of(LONG, params={"fast": 3})
    other.save(root / "first-a1", force=True)

    assert same.tags == ("best",)
    assert labels_of(other, root / "first-a1").tags == ()


def test_a_removed_run_leaves_no_labels(root):
    note(root / "demo" / "second-b2", "an idea")

    remove(root / "demo" / "second-b2")

    assert not (root / "demo" / "second-b2").exists()


def test_labels_that_cannot_be_read_are_a_sentence(root, call):
    (root / "first-a1" / "labels.json").write_text("[1]")

    code, _, err = call("runs", "show", "first-a1")

    assert code == 3
    assert "labels.json cannot be read" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tag", "first-a1"), "tag needs a text for first-a1; write: backtest runs tag first-a1 WORD"),
        (("note", "first-a1"), "note needs a text for first-a1; write: backtest runs note first-a1 TEXT"),
        (("tag", "first-a1", "two words"), "'two words' is not a valid tag"),
        (("tag", "first-a1", "a,b"), "'a,b' is not a valid tag"),
        (("tag", "first-a1", ""), "'' is not a valid tag"),
        (("untag", "first-a1", "best"), "has no tag 'best'; it has no tags"),
        (("tag", "first-b1", "best"), "did you mean first-a1"),
        (("show", "first-a1", "--sort", "sharpe"), "--where and --sort only apply to ls"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(root, call, words, said):
    code, _, err = call("runs", *words)

    assert code == 2
    assert said in err


@pytest.mark.slow
def test_tags_and_notes_are_shown_in_the_list_and_with_the_run(root, call):
    call("runs", "tag", "first-a1", "best", "trend")
    call("runs", "note", "first-a1", "watch", "the costs")

    listed, shown = call("runs", "ls")[1], call("runs", "show", "first-a1")[1]

    row = next(line for line in listed.splitlines() if line.startswith("first-a1"))
    assert row.rstrip().endswith("best, trend watch the costs")
    assert shown.splitlines()[-2:] == ["Tags: best, trend", "watch the costs"]
    assert json.loads(call("runs", "show", "first-a1", "--json")[1])["tags"] == ["best", "trend"]


def test_the_list_is_chosen_by_the_beginnings_of_names(root, call):
    out = call("runs", "ls", "demo/")[1]

    assert "demo/second-b2" in out
    assert "first-a1" not in out
    assert "No saved run matches" in call("runs", "ls", "--where", "sharpe>1000")[2]


@pytest.mark.slow
def test_another_run_in_a_folder_is_replaced_only_by_force_and_takes_its_page_and_labels_along(tmp_path, result):
    folder, other = tmp_path / "run", result_of(LONG, params={"fast": 3})
    other.report(folder)
    tag(folder, ["best"])

    for refused in (result.save, result.report, RunRecord.of(result).save):
        with pytest.raises(
            UsageError, match=r"holds another run, .*replace that run with --force, in Python force=True"
        ):
            refused(folder)
    before = RunResult.load(folder)
    result.save(folder, force=True)

    assert before.name == other.name
    assert RunResult.load(folder).name == result.name
    assert {path.name for path in folder.iterdir()} <= {*FILES, SUMMARY}


@pytest.mark.slow
def test_the_same_run_is_saved_again_without_asking_and_keeps_its_page_and_labels(tmp_path, result):
    page = result.report(tmp_path / "run")
    tag(tmp_path / "run", ["best"])

    result.save(tmp_path / "run")
    result.report(tmp_path / "run")

    assert page.exists()
    assert labels_of(result, tmp_path / "run").tags == ("best",)


@pytest.mark.slow
def test_a_page_of_another_run_is_written_by_force_and_the_labels_are_gone(tmp_path, result):
    result_of(LONG, params={"fast": 3}).save(tmp_path / "run")
    tag(tmp_path / "run", ["best"])

    page = result.report(tmp_path / "run", force=True)

    assert page.exists()
    assert RunResult.load(tmp_path / "run").name == result.name
    assert not (tmp_path / "run" / "labels.json").exists()


@pytest.mark.slow
def test_a_comparison_is_not_written_over_the_page_of_a_run(tmp_path, result):
    result.report(tmp_path / "run")
    found = compare([result, result_of(LONG, FILLS[:1])], samples=10)

    with pytest.raises(UsageError, match=r"holds another run, .*replace its page with --force"):
        write_comparison(found, tmp_path / "run")

    assert write_comparison(found, tmp_path / "run", force=True).exists()
