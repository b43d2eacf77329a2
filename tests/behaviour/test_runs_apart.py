"""Runs that can be told apart: in lists, in comparisons, on pages, and by the names of their folders."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from handmade import result_of
from places import ROOT

pytestmark = pytest.mark.usefixtures("few_figures")

SAMPLE = str(ROOT / "data" / "sample")
DATES = ("--since", "2003-01-02", "--until", "2004-12-31")
RISING = [100.0 * 1.004**n for n in range(245)]  # to 100 · 1.004^244 = 264.87


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ran(here, call):
    """Return a function that runs the crossing of two averages on the sample."""

    def run(*words, fast=10):
        asked = ("sma_cross", "AAPL/1day", "--set", f"fast={fast}", "--set", "slow=50", *DATES, "--store", SAMPLE)
        return call("run", *asked, *words)

    return run


def on_fifty_series(equity):
    """Return a run whose spec and record name fifty series, and which held none of them."""
    result = result_of(equity)
    record, series = result.record, [f"S{n:02}-STK-SMART-USD/1day/TRADES/rth" for n in range(50)]
    for n in range(1, 50):
        for name, values in ((f"position.{n}", [0.0] * len(equity)), (f"close.{n}", equity)):
            record = record.append_column(name, pa.array(values, pa.float64()))
    return replace(result, spec=replace(result.spec, series=tuple(series)), record=record)


@pytest.mark.slow
def test_five_runs_of_a_strategy_are_told_apart_by_their_parameters(ran, call):
    for fast in (5, 10, 15, 20, 25):
        assert ran(fast=fast)[0] == 0

    lines = call("runs", "ls", "--sort", "fast")[1].splitlines()

    assert [f"fast={fast}" in line for fast, line in zip((25, 20, 15, 10, 5), lines[2:], strict=True)] == [True] * 5
    assert all("SmaCross" in line and "AAPL/1day" in line for line in lines[2:])
    assert "slow" not in "".join(lines)  # which does not differ
    assert lines[0].split() == [
        "run",
        "strategy",
        "series",
        "settings",
        "return",
        "CAGR",
        "Sharpe",
        "drawdown",
        "saved",
    ]


@pytest.mark.slow
def test_a_comparison_has_the_names_of_folders_and_the_parameters_that_differ(ran, call):
    ran("--out", "runs/quick", fast=5)
    ran("--out", "runs/slow-and-steady", fast=20)

    out = call("compare", "quick", "runs/slow-and-steady", "--bootstrap", 20, "--out", "page")[1]
    document = json.loads(call("compare", "quick", "slow", "--bootstrap", 20, "--json")[1])

    assert out.splitlines()[:2] == [
        "quick: SmaCross on AAPL/1day, fast=5",
        "slow-and-steady: SmaCross on AAPL/1day, fast=20",
    ]
    assert {line.split()[0] for line in out.splitlines()[3:7]} >= {"quick", "slow-and-steady"}
    assert "slow-and-steady: Sharpe difference from quick" in " ".join(out.split())
    assert [(row["run"], row["differs"]) for row in document["runs"]] == [
        ("quick", {"fast": 5}),
        ("slow-and-steady", {"fast": 20}),
    ]
    page = " ".join(Path("page/index.html").read_text("utf-8").split())
    assert '<th scope="row">fast</th><td>5</td><td>20</td>' in page


@pytest.mark.slow
def test_a_named_folder_is_the_runs_name_everywhere(ran, call):
    first = json.loads(ran("--out", "runs/mine", "--json")[1])

    shown = [
        json.loads(call(*words, "--json")[1])["label"]
        for words in (("runs", "show", "mine"), ("report", "mine"), ("validate", "mine", "--bootstrap", 10))
    ]

    assert first["label"] == "mine"
    assert shown == ["mine"] * 3
    assert call("reproduce", "mine", "--store", SAMPLE)[1].startswith("mine: results are equal")
    assert "Saved as mine." in Path("runs/mine/index.html").read_text("utf-8")


@pytest.mark.slow
def test_the_page_has_the_parameters_in_its_head(ran, call):
    ran("--out", "runs/mine", fast=7)
    call("report", "mine")

    page = Path("runs/mine/index.html").read_text("utf-8")

    assert "With fast=7, invest=0.95, slow=50." in page[page.index("<header>") : page.index("</header>")]


def test_a_run_on_fifty_series_is_one_readable_row(here, call):
    on_fifty_series(RISING).save("runs/fifty")
    result_of(RISING, strategy="other.py:Other").save("runs/one")

    out = call("runs", "ls", "--sort", "run")[1]

    (row,) = [line for line in out.splitlines() if line.startswith("fifty")]
    assert row.split()[:7] == ["fifty", "Trend", "S00/1day,", "S01/1day", "and", "48", "more"]
    assert "164.87 %" in row  # 1.004^244 = 2.6487
    assert len(out.splitlines()) == 4


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_numbers_are_never_cut_on_a_narrow_terminal(columns, monkeypatch, capsys):
    from backtest.cli import terminal

    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    row = [
        "a-name-of-many-letters-that-is-folded",
        "S00/1day and many more than fit",
        "164.46 %",
        "-33.72 %",
        "2024-03-28",
    ]

    terminal.give_table(("run", "series", "return", "drawdown", "kept"), [row])

    first = capsys.readouterr().out.splitlines()[2]
    assert all(number in first for number in row[2:])


@pytest.mark.slow
def test_a_folder_that_holds_another_run_asks_for_force(ran, call):
    assert ran("--out", "runs/mine", fast=5)[0] == 0
    call("runs", "tag", "mine", "best")

    again, (code, _, err) = ran("--out", "runs/mine", fast=5), ran("--out", "runs/mine", fast=6)
    kept = json.loads(call("runs", "show", "mine", "--json")[1])
    forced = ran("--out", "runs/mine", "--force", fast=6)
    now = json.loads(call("runs", "show", "mine", "--json")[1])

    assert again[0] == 0  # the same run is no other one
    assert (code, "holds another run" in err, "--force" in err) == (2, True, True)
    assert kept["tags"] == ["best"]
    assert forced[0] == 0
    assert (now["run"] != kept["run"], now["tags"]) == (True, [])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "compare"])
def test_pages_do_not_take_the_place_of_another_run_unasked(ran, call, command):
    ran("--out", "runs/mine", fast=5)
    ran("--out", "runs/other", fast=6)
    before = json.loads(call("runs", "show", "other", "--json")[1])["stats"]
    words = ("report", "mine") if command == "report" else ("compare", "mine", "other", "--bootstrap", 20)

    code, _, err = call(*words, "--out", "runs/other")

    assert (code, "holds another run" in err) == (2, True)
    assert json.loads(call("runs", "show", "other", "--json")[1])["stats"] == before


def test_what_all_runs_have_in_common_is_told_once_where_the_terminal_is_narrow(here, call, monkeypatch):
    from backtest.cli import run_tables

    for fast in (5, 6):
        result_of(RISING, params={"fast": fast}).save(f"runs/fast-{fast}")
    monkeypatch.setattr(run_tables, "wide", lambda: 70)

    lines = call("runs", "ls", "--sort", "run")[1].splitlines()

    assert lines[0] == "All: strategy Trend, series AAPL/1day"
    assert [line.split()[:2] for line in lines[3:]] == [["fast-5", "fast=5"], ["fast-6", "fast=6"]]
