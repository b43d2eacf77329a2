import os
import shutil
from pathlib import Path

import pytest
from handmade import result_of

from backtest.errors import UsageError
from backtest.metrics.listing import listed
from backtest.runs.kept import kept, note, tag

RISING = [100.0 + n + n % 3 for n in range(300)]
FALLING = RISING[::-1]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with four runs, made one after the other, the last damaged; no test changes it."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "rising": result_of(RISING, params={"fast": 10}),
        "falling": result_of(FALLING, params={"fast": 9}),
        "other": result_of(RISING[:200], strategy="other.py:Other", params={"slow": 30}),
        "damaged": result_of(RISING),
    }
    for n, (name, run) in enumerate(runs.items()):
        run.save(folder / name)
        os.utime(folder / name / "spec.json", (1000 + n, 1000 + n))
    (folder / "damaged" / "record.parquet").write_bytes(b"no Parquet")
    return folder


@pytest.fixture
def own(root, tmp_path):
    """Return a copy of the folder, for a test that changes it."""
    return Path(shutil.copytree(root, tmp_path / "runs"))


def names(root, *where, sort=""):
    return [row.kept.name for row in listed(kept(root), where, sort)]


def test_runs_are_listed_as_they_come_where_nothing_else_is_asked_for(root):
    assert names(root) == ["damaged", "other", "falling", "rising"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("total_return", ["rising", "other", "falling", "damaged"]),
        ("-total_return", ["falling", "other", "rising", "damaged"]),
        ("Total return", ["rising", "other", "falling", "damaged"]),
        ("run", ["damaged", "falling", "other", "rising"]),
        ("-run", ["rising", "other", "falling", "damaged"]),
        ("saved", ["damaged", "other", "falling", "rising"]),
        ("-saved", ["rising", "falling", "other", "damaged"]),
        ("kept", ["damaged", "other", "falling", "rising"]),
        ("-kept", ["rising", "falling", "other", "damaged"]),
        ("fast", ["rising", "falling", "damaged", "other"]),  # 10 is more than 9
    ],
)
def test_runs_are_sorted_by_numbers_parameters_and_words(root, sort, expected):
    assert names(root, sort=sort) == expected


def test_a_run_without_the_number_comes_last_in_either_order(own):
    result_of([100.0]).save(own / "short")  # one session has no Sharpe ratio

    assert names(own, "run!=damaged", sort="sharpe")[-1] == "short"
    assert names(own, "run!=damaged", sort="-sharpe")[-1] == "short"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["total_return>0"], ["other", "rising"]),
        (["max_drawdown < -0.5"], ["falling"]),
        (["fast>=10"], ["rising"]),
        (["strategy==other"], ["other"]),
        (["strategy != Other"], ["falling", "rising"]),
        (["series==AAPL", "total_return>0"], ["other", "rising"]),
        (["series==AAPL/1day", "fast=9"], ["falling"]),
        (["series==MSFT"], []),
        (["run==rising"], ["rising"]),
    ],
)
def test_conditions_choose_runs(root, where, expected):
    assert names(root, "run!=damaged", *where) == expected


def test_conditions_leave_out_no_run_that_cannot_be_read_but_by_its_name_and_time(root):
    assert names(root, "total_return>0") == ["damaged", "other", "rising"]
    assert names(root, "total_return>0", "kept>=1900", "run!=damaged") == ["other", "rising"]
    assert names(root, "total_return>0", "kept<1900") == []
    assert names(root, "total_return>0", "saved>=1900", "run!=damaged") == ["other", "rising"]
    assert names(root, "total_return>0", "saved<1900") == []


def test_an_unknown_name_is_refused_with_the_names_that_the_list_shows(root):
    with pytest.raises(UsageError, match=r"no run here has 'sharp_'; .*note, saved, ") as refused:
        listed(kept(root), ["sharp_=1"])

    assert "kept" not in str(refused.value)


def test_runs_are_chosen_by_their_tags(own):
    tag(own / "rising", ["best", "trend"])
    tag(own / "other", ["trend"])

    assert names(own, "tag==trend", "run!=damaged") == ["other", "rising"]
    assert names(own, "tag==best", "run!=damaged") == ["rising"]


def test_a_row_has_the_labels_and_what_tells_the_run_apart(own):
    tag(own / "rising", ["best"])
    note(own / "rising", "to be watched")

    row = next(row for row in listed(kept(own)) if row.kept.name == "rising")

    assert (row.labels.tags, row.labels.note, row.difference.words) == (("best",), "to be watched", "fast=10")


@pytest.mark.parametrize("where", ["sharpe", "sharpe>", "sharpe>high", ">1"])
def test_what_is_no_comparison_is_refused_with_an_example(root, where):
    with pytest.raises(UsageError, match="sharpe>1"):
        names(root, where)


@pytest.mark.parametrize(("where", "sort"), [(["sharp>1"], ""), ([], "sharp")])
def test_a_name_that_no_run_has_is_refused_with_the_nearest(root, where, sort):
    with pytest.raises(UsageError, match="did you mean sharpe"):
        names(root, *where, sort=sort)
