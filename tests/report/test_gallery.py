import json
import re

import numpy as np
import pytest
from handmade import AAPL, fill, result_of

from backtest.errors import UsageError
from backtest.report.gallery import Gallery, sparkline, write_gallery
from backtest.runs.kept import note, tag

FILLS = [fill(0, 2, 10.0), fill(1, -2, 16.0)]


@pytest.fixture
def runs(tmp_path):
    """Return a folder with two runs, of which one has a page, tags and a note."""
    first = result_of([110.0, 121.0], FILLS, params={"fast": 5})
    page = first.save(tmp_path / "runs" / "a" / "first") / "index.html"
    page.write_text("its page")
    tag(tmp_path / "runs" / "a" / "first", ["best"])
    note(tmp_path / "runs" / "a" / "first", "of <Monday>")
    result_of([90.0, 99.0], FILLS, params={"fast": 9}).save(tmp_path / "runs" / "second")
    return tmp_path / "runs"


def rows(page):
    text = page.read_text(encoding="utf-8")
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr data-kind(?:.*?)</tr>", text)]
    return {re.sub(r"<[^>]*>", "", row[0]): row for row in cells}


@pytest.mark.slow
def test_all_runs_are_listed_with_their_numbers_labels_and_pages(runs):
    found = rows(write_gallery(runs))

    assert set(found) == {"a/first", "second"}
    first, second = found["a/first"], found["second"]
    assert first[0] == '<a href="a/first/index.html">a/first</a>'
    assert second[0] == "second"
    assert [row[1] for row in (first, second)] == ["run", "run"]
    assert [row[4] for row in (first, second)] == ["fast=5", "fast=9"]
    assert [row[6].replace("\xa0", " ") for row in (first, second)] == ["21.00 %", "−1.00 %"]
    assert first[11:13] == ["best", "of &lt;Monday&gt;"]
    assert 'aria-label="Equity from 110 to 121"' in first[5]


def test_columns_for_tags_and_notes_are_there_where_a_run_has_them(runs):
    labelled = write_gallery(runs).read_text(encoding="utf-8")
    (runs / "a" / "first" / "labels.json").unlink()
    plain = write_gallery(runs).read_text(encoding="utf-8")

    assert [f"<th>{name}</th>" in labelled for name in ("Tags", "Note")] == [True, True]
    assert [f"<th>{name}</th>" in plain for name in ("Tags", "Note")] == [False, False]
    assert len(rows(runs / "index.html")["second"]) == 12


def test_the_best_run_of_a_sweep_stands_for_it(runs):
    (runs / "grid").mkdir()
    (runs / "second").rename(runs / "grid" / "best")
    (runs / "grid" / "sweep.json").write_text('{"keys": ["a", "b", "c"], "rank": "sharpe"}')

    row = rows(write_gallery(runs))["grid"]

    assert row[0] == "grid"  # it has no page
    assert row[1] == "sweep"
    assert row[4] == "best of 3 trials: fast=9"
    assert row[6].replace("\xa0", " ") == "−1.00 %"


def test_a_walk_forward_has_the_numbers_that_it_was_kept_with(runs):
    kept = {
        "strategy": "Trend", "series": [AAPL], "steps": [{}, {}], "equity": [100, 90, 120],
        "headline": {"total_return": 0.2, "cagr": None, "sharpe": -0.5, "max_drawdown": -0.1},
    }  # fmt: skip
    (runs / "walk").mkdir()
    (runs / "walk" / "walk_forward.json").write_text(json.dumps(kept))
    (runs / "other").mkdir()
    (runs / "other" / "walk_forward.json").write_text("{}")

    page = write_gallery(runs)

    row = [cell.replace("\xa0", " ") for cell in rows(page)["walk"]]
    assert row[1:5] == ["walk-forward", "Trend", "AAPL/1day", "2 steps, out of sample"]
    assert row[6:11] == ["20.00 %", "–", "−0.50", "−10.00 %", "–"]
    assert 'aria-label="Equity from 100 to 120"' in row[5]
    assert re.search(r"other cannot be read: \S+walk_forward.json", page.read_text(encoding="utf-8"))


def test_what_did_not_change_is_not_read_again(runs):
    gallery = Gallery(runs)
    before, lines = gallery.version, {row.name: row.line for row in gallery.rows}
    kept = dict(gallery._known)

    again = gallery.rows
    tag(runs / "second", ["worse"])

    assert {row.name: row.line for row in again} == lines
    assert all(gallery._known[folder] is one for folder, one in kept.items())
    assert gallery.version != before
    assert [row.tags for row in gallery.rows if row.name == "second"] == ["worse"]
    assert gallery._known[runs / "a" / "first"] is kept[runs / "a" / "first"]


@pytest.mark.slow
def test_links_lead_to_the_pages_from_wherever_the_list_is(runs, tmp_path):
    page = write_gallery(runs, tmp_path / "elsewhere")

    (link,) = re.findall(r'<a href="([^"]*)"', page.read_text(encoding="utf-8"))
    assert (page.parent / link).resolve() == (runs / "a" / "first" / "index.html").resolve()


def test_a_run_that_cannot_be_read_is_named(runs):
    (runs / "second" / "spec.json").write_text("no JSON")

    text = write_gallery(runs).read_text(encoding="utf-8")

    assert re.search(r"second cannot be read: the run in \S+second cannot be read", text)


def test_a_folder_without_runs_and_one_that_is_a_run_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="holds no run; make one: backtest run"):
        write_gallery(tmp_path / "none")
    with pytest.raises(UsageError, match="holds a run, whose page"):
        write_gallery(runs, runs / "second")


def test_a_line_has_the_extremes_of_its_values():
    values = np.full(1000, 5.0)
    values[501], values[777] = 9.0, 1.0

    heights = [float(point.split(",")[1]) for point in re.search(r'points="([^"]*)"', sparkline(values))[1].split()]

    assert (min(heights), max(heights)) == (2.0, 26.0)
    assert sparkline(values[:1]) == ""
