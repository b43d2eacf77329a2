"""`report` of a folder of runs, and `show`."""

import json
import os
import re
import signal
import subprocess
import sys
import webbrowser
from pathlib import Path
from urllib.request import urlopen

import pytest
from handmade import fill, result_of

pytestmark = pytest.mark.usefixtures("few_figures")


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Be in a folder with two saved runs and a browser, which writes down what it is to open."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("first", "second")):
        run = result_of([110.0 + number, 121.0], [fill(0, 1, 10.0)], params={"fast": number})
        run.save(tmp_path / "runs" / name)
    browser = tmp_path / "browser"
    browser.write_text(f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'opened')!r}, 'w').write(sys.argv[1])\n")
    browser.chmod(0o755)
    opening = webbrowser.GenericBrowser([sys.executable, str(browser), "%s"])
    webbrowser.register(str(browser), None, opening, preferred=True)
    return tmp_path / "runs"


def test_the_report_of_a_folder_of_runs_is_a_page_of_all(runs, call):
    code, out, _ = call("report", "runs")

    assert (code, Path(out.strip())) == (0, Path("runs/index.html"))
    text = (runs / "index.html").read_text(encoding="utf-8")
    assert "first" in text
    assert "second" in text
    assert json.loads(call("report", "runs", "--out", "all", "--json")[1]) == {"files": ["all/index.html"]}


def test_pictures_are_of_one_run(runs, call):
    code, _, err = call("report", "runs", "--png", "pictures")

    assert code == 2
    assert "--png draws the figures of one run, and runs is a folder of runs" in err


def test_a_page_of_several_runs_is_not_printed_without_a_browser(runs, call, monkeypatch):
    monkeypatch.setenv("PATH", str(runs))

    code, _, err = call("report", "runs", "--pdf", "all.pdf")

    assert code == 2
    assert "install Chromium" in err


@pytest.mark.slow
def test_the_report_of_a_sweep_is_its_page_and_that_of_its_best_run(tmp_path, monkeypatch, call, sample):
    monkeypatch.chdir(tmp_path)
    grid = ["--grid", "fast=5,10", "--since", "2012-01-03", "--store", sample.root]
    assert call("sweep", "sma_cross", "AAPL/1day", *grid, "--out", "runs/grid")[0] == 0

    code, out, _ = call("report", "grid", "--store", sample.root)

    assert (code, out) == (0, "runs/grid/index.html\n")
    assert "Sweep of SmaCross" in (tmp_path / "runs/grid/index.html").read_text(encoding="utf-8")
    assert (tmp_path / "runs/grid/best/index.html").exists()
    walk = ["--walk-forward", "100/50", "--store", sample.root, "--bootstrap", "10"]
    assert "backtest report runs/grid/walk-forward-100-50" in call("validate", "runs/grid", *walk)[2]
    assert call("report", "runs/grid/walk-forward-100-50")[1] == "runs/grid/walk-forward-100-50/index.html\n"
    (tmp_path / "runs/grid/sweep.json").unlink()
    assert call("report", "runs/grid")[1] == "runs/grid/index.html\n"  # of the one run that is there


def test_show_opens_the_table_of_all_runs_in_the_browser(runs, call):
    code, out, _ = call("show")

    assert (code, Path(out.strip())) == (0, Path("runs/index.html"))
    assert (runs.parent / "opened").read_text() == (runs / "index.html").as_uri()


@pytest.mark.slow
def test_show_writes_the_page_of_a_run_and_opens_it(runs, call):
    code, out, _ = call("show", "first")

    assert (code, Path(out.strip())) == (0, Path("runs/first/index.html"))
    assert (runs / "first" / "index.html").exists()
    assert (runs.parent / "opened").read_text() == (runs / "first" / "index.html").as_uri()


def test_show_without_a_run_says_how_to_make_one(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)

    code, _, err = call("show")

    assert code == 2
    assert "runs holds no run; make one: backtest run" in err


@pytest.mark.slow
def test_show_serves_the_pages_until_it_is_stopped(runs):
    command = [sys.executable, "-m", "backtest", "show", "second", "--serve"]
    environment = {**os.environ, "BROWSER": f"{runs.parent / 'browser'} %s"}
    with subprocess.Popen(command, cwd=runs.parent, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        address = re.fullmatch(r"serving runs at (http://127\.0\.0\.1:\d+)\n", said)[1]
        with urlopen(f"{address}/index.html", timeout=60) as answer:
            assert '<a href="/first/index.html">' in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stdout.read()) == (0, "")

    assert (runs.parent / "opened").read_text() == f"{address}/second/index.html"


def test_a_port_is_of_serving(runs, call):
    code, _, err = call("show", "--port", "8080")

    assert code == 2
    assert "--port 8080 only works with --serve" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--grid", "fast=1,2"), "--grid only works with --walk-forward or --cpcv"),
        (("--where", "fast<slow", "--walk-forward", "2/1", "--embargo", "1"), "--embargo only works with --cpcv"),
        (("--purge", "1"), "--purge only works with --walk-forward or --cpcv"),
        (("--anchored", "--cpcv", "4,2"), "--anchored only works with --walk-forward"),
    ],
)
def test_validate_refuses_an_option_that_would_have_no_effect(runs, call, words, said):
    code, _, err = call("validate", "first", *words)

    assert code == 2
    assert said in err
