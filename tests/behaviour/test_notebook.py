"""What a notebook shows: strategies of its cells everywhere, progress bars, and tables for what a cell ends with."""

import re
import sys
from types import SimpleNamespace

import backtrader as bt
import nbformat
import pytest
from nbclient import NotebookClient
from places import ROOT

import backtest
from backtest._notebook import progress_bar
from backtest.research.search.sweeps import SweepProgress
from backtest.validity.regimes import regimes

SAMPLE = str(ROOT / "data" / "sample")
ASKED = {"store": SAMPLE, "start": "2003-01-02", "end": "2003-12-31"}
CELLS = [
    f"""
import backtrader as bt
from backtest import compare, run, run_each, sweep, walk_forward
SIZE = 5
asked = {ASKED!r}
grid = {{"fast": [3, 6], "slow": [12, 20]}}
""",
    """
class Cross(bt.Strategy):
    params = (("fast", 5), ("slow", 12))
    def __init__(self):
        super().__init__()
        self.up = bt.ind.CrossOver(bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow))
    def next(self):
        if self.up > 0: self.buy(size=SIZE)
        if self.up < 0: self.close()
""",
    """
class Hold(bt.Strategy):
    def next(self):
        if not self.position: self.buy(size=SIZE)
""",
    'found = sweep(Cross, "AAPL/1day", grid, jobs=2, folder="jobs", **asked)\nfound',
    """
from distributed import Client
with Client(n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
    there = sweep(Cross, "AAPL/1day", grid, executor=client.get_executor(), folder="dask", **asked)
[repr(one.metrics) for one in there.trials] == [repr(one.metrics) for one in found.trials]
""",
    'walk_forward(Cross, "AAPL/1day", grid, train=80, test=40, jobs=2, folder="walk", **asked)',
    'first, second = (run(one, "AAPL/1day", **asked) for one in (Cross, Hold))\ncompare([first, second], samples=20)',
    'run_each(Hold, ["AAPL/1day", "IBM/1day"], folder="each", **asked)',
    'first.report("page")',
    "first.validity",
]


@pytest.mark.slow
def test_a_notebook_defines_sweeps_walks_compares_and_reports_with_progress_shown(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()

    *_, swept, on_dask, walked, compared, each, reported, validity = map(shown, notebook.cells)
    assert re.search(r"100%.*4/4 .*trials", swept["bar"])
    assert re.search(r"100%.*4/4 .*trials", on_dask["bar"])
    assert re.search(r"100%.*/\d+ .*trials", walked["bar"])
    assert re.search(r"100%.*2/2 .*runs", each["bar"])
    assert on_dask["text"] == "True"
    assert not any("Traceback" in cell["bar"] for cell in (swept, walked, each))  # of a worker of ours
    assert not any("TqdmWarning" in cell["bar"] for cell in (swept, on_dask, walked, each))
    assert swept["html"].startswith("<table><tr><th>fast</th><th>slow</th><th>Sharpe ratio</th>")
    assert walked["html"].count("<tr>") == 1 + 5
    assert all(word in compared["html"] for word in ("Cross", "Hold", "AAPL/1day", "p "))
    assert "IBM/1day" in each["html"]
    assert "index.html" in reported["text"]
    assert "Sharpe ratio" in validity["html"]
    assert (tmp_path / "page" / "index.html").stat().st_size > 50_000


def shown(cell):
    """Return what a cell shows: its bars, its text and its HTML."""
    said = [output for output in cell.outputs if output.output_type == "stream"]
    bars = "".join(output.text for output in said if output.name == "stderr")
    data = [output.data for output in cell.outputs if output.output_type == "execute_result"]
    last = data[-1] if data else {}
    return {"bar": bars, "text": last.get("text/plain", ""), "html": last.get("text/html", "")}


# --- what a cell ends with


class Turns(bt.Strategy):
    """Buys and sells by turns."""

    params = (("days", 5),)

    def next(self):
        if len(self) % self.p.days == 0:
            self.close() if self.position else self.buy(size=10)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """Return what public calls give, by the name of its class."""
    folder = tmp_path_factory.mktemp("things")
    first, second = (backtest.run(Turns, "AAPL/1day", params={"days": days}, **ASKED) for days in (4, 7))
    points = {"days": [4, 7]}
    found = [
        first, first.stats, first.validity, first.validity.verdict, regimes(first),
        backtest.compare([first, second], 20),
        backtest.sweep(Turns, "AAPL/1day", points, folder=folder / "sweep", rank="total_return", **ASKED),
        backtest.walk_forward(Turns, "AAPL/1day", points, train=80, test=60, folder=folder / "walk", **ASKED),
        backtest.cross_validate(Turns, "AAPL/1day", points, groups=3, tested=1, folder=folder / "groups", **ASKED),
        backtest.run_each(Turns, ["AAPL/1day", "IBM/1day"], folder=folder / "each", **ASKED),
        backtest.next_orders(Turns, "AAPL/1day", **ASKED), backtest.Store(SAMPLE), backtest.Series.parse("AAPL/1day"),
        backtest.download(folder / "bars", f"emulator:{SAMPLE}", "AAPL/1day", start="2003-01-02", end="2003-03-31"),
    ]  # fmt: skip
    return {type(one).__name__: one for one in found}


WORDS = {  # that each shows
    "RunResult": ("Turns on AAPL/1day", "days=4", "Sharpe ratio"),
    "Stats": ("Sharpe ratio",),
    "Validity": ("Sharpe ratio", "Costs", "stationary bootstrap"),
    "Verdict": ("Sharpe ratio of total returns", "95 % CI"),
    "Regimes": ("bull", "bear"),
    "Comparison": ("days=4", "days=7", "Sharpe vs first"),
    "Sweep": ("<th>days</th><th>Total return</th>", "Best of 2 trials"),
    "WalkForward": ("In-sample window", "<th>days</th>", "out of sample"),
    "CrossValidation": ("Tested in", "<th>days</th>", "3 train/test splits"),
    "SeriesRuns": ("AAPL/1day", "IBM/1day", "2 of 2 series ran"),
    "NextOrders": ("Order", "Assumed at the close"),
    "Store": ("series in", SAMPLE, "MSFT/1day"),
    "Series": ("AAPL/1day", "AAPL-STK-SMART-USD/1day/TRADES/rth"),
    "DownloadReport": ("AAPL/1day", "complete", "61"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_what_a_cell_ends_with_is_shown_as_html(things, name):
    text = things[name]._repr_html_()

    assert [word for word in WORDS[name] if word not in text] == []
    assert "nan" not in text
    assert text.count("<table") == text.count("</table>")


# --- progress


class Bars:
    """In the place of tqdm's module: bars that say what was done with them."""

    def __init__(self):
        self.made = []

    def tqdm(self, total, unit, initial):
        bar = SimpleNamespace(total=total, unit=unit, n=initial, closed=False, failed=0)
        bar.update = lambda more: setattr(bar, "n", bar.n + more)
        bar.set_postfix = lambda failed, refresh: setattr(bar, "failed", failed)
        bar.close = lambda: setattr(bar, "closed", True)
        self.made.append(bar)
        return bar


@pytest.fixture
def kernel(monkeypatch):
    """Be in a notebook's kernel, with bars that can be looked at."""
    bars = Bars()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "tqdm.auto", bars)
    return bars


def told(done, total, kept=0, failed=0):
    return SweepProgress(done, total, kept, failed, 1.0, 1.0)


def test_a_notebook_has_a_bar_a_round(kernel):
    with progress_bar(None, "trials") as tell:
        for one in (told(3, 4, kept=2), told(4, 4, kept=2, failed=1), told(1, 5), told(5, 5)):
            tell(one)

    assert [(bar.n, bar.total, bar.failed, bar.closed) for bar in kernel.made] == [(4, 4, 1, True), (5, 5, 0, True)]


@pytest.mark.slow
def test_a_download_is_a_bar_of_series(kernel, tmp_path):
    wanted = ["AAPL/1day", "IBM/1day"]

    backtest.download(tmp_path, f"emulator:{SAMPLE}", wanted, start="2003-01-02", end="2003-03-31")
    backtest.download(tmp_path / "told", f"emulator:{SAMPLE}", wanted, start="2003-01-02", end="2003-03-31", tell=repr)

    assert [(bar.n, bar.total, bar.unit, bar.closed) for bar in kernel.made] == [(2, 2, " series", True)]


def test_nothing_is_drawn_where_nothing_is_done_or_the_caller_shows_it(kernel):
    seen = []
    with progress_bar(None, "trials"):
        pass
    with progress_bar(seen.append, "trials") as tell:
        tell(told(1, 1))

    assert (kernel.made, len(seen)) == ([], 1)


def test_a_script_has_no_bar():
    with progress_bar(None, "trials") as tell:
        assert tell is None
