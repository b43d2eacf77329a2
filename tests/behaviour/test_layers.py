"""A run in three layers: its record, the numbers about it, and the result that people get."""

import json
import pickle
import subprocess
import sys

import pytest
from handmade import fill, result_of
from places import ROOT

from backtest.api import RunResult
from backtest.metrics.measurement import Measured, measure
from backtest.report.run_page import write_report
from backtest.runs.record import RunRecord
from backtest.validity.comparison import compare
from backtest.validity.regimes import regimes
from backtest.validity.validation import validate

FILLS = [fill(0, 2, 10.0, 0.5), fill(2, -1, 16.0, 0.5)]
LAYERS = (RunRecord, Measured, RunResult)
LOADED = """
print(json.dumps([sorted({name.split(".")[1] for name in sys.modules if name.startswith("backtest.")}),
                  sorted({"backtrader", "matplotlib", "pandas"} & {*sys.modules})]))
"""


@pytest.fixture
def result():
    return result_of([99.5, 89.55, 111.0], FILLS, costs="futures:0.25:50:90", manifest={"python": "3.11"})


@pytest.fixture
def folder(tmp_path, result):
    return result.save(tmp_path / "run")


def loaded_by(job, *words):
    """Return the rooms and the heavy packages that a job in a process of its own loaded, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{job}\n{LOADED}", *map(str, words)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    *told, loaded = done.stdout.splitlines()
    rooms, heavy = json.loads(loaded)
    return {*rooms}, heavy, told


@pytest.mark.slow
def test_a_kept_record_is_loaded_and_saved_by_what_knows_runs_alone(folder, tmp_path):
    job = "from backtest.runs.record import RunRecord\nRunRecord.load(sys.argv[1]).save(sys.argv[2])"

    rooms, heavy, _ = loaded_by(job, folder, tmp_path / "again")

    assert rooms <= {"runs", "store", "market", "errors", "_arguments", "_suggest", "_garbage", "_notebook", "_system"}
    assert not heavy
    assert RunResult.load(tmp_path / "again") == RunResult.load(folder)


@pytest.mark.slow
def test_a_kept_record_is_measured_without_engine_validity_and_report(folder, result):
    job = """
from backtest.metrics.measurement import Measured, measure
from backtest.runs.record import RunRecord
print(repr(measure(RunRecord.load(sys.argv[1]))["cagr"]))
print(repr(Measured.load(sys.argv[1]).stats["cagr"]))
"""

    rooms, heavy, told = loaded_by(job, folder)

    assert rooms <= {
        "metrics",
        "runs",
        "store",
        "market",
        "errors",
        "_arguments",
        "_suggest",
        "_garbage",
        "_notebook",
        "_system",
    }
    assert not heavy
    assert told == [repr(result.stats["cagr"])] * 2


@pytest.mark.slow
def test_a_kept_result_is_loaded_and_printed_without_backtrader_and_matplotlib(folder, result):
    rooms, heavy, told = loaded_by("from backtest import RunResult\nprint(RunResult.load(sys.argv[1]))", folder)

    assert not {"engine", "validity", "report"} & rooms
    assert not heavy
    assert told == str(result).splitlines()


@pytest.mark.slow
def test_the_engine_knows_nothing_of_numbers_and_a_run_loads_nothing_for_options_that_are_not_set():
    job = """
import backtrader, pyarrow.parquet
print(*sys.modules)
from backtest.engine.account.commissions import costs_of
from backtest.engine.simulation import simulate
from backtest.engine.code.strategy import load_strategy, parameters
from backtest.runs.spec import RunSpec
from backtest.store.store import Store
strategy = load_strategy("buy_and_hold")
spec = RunSpec(strategy.name, ("AAPL-STK-SMART-USD/1day/TRADES/rth",), params=parameters(strategy, {}))
record = simulate(strategy, spec, Store("data/sample"), None, costs_of(spec.brokerage.costs))
print(type(record).__name__, len(record.fills_table))
print(*sys.modules)
from backtest import run
print(run("buy_and_hold", "AAPL/1day", store="data/sample").stats["exposure"] > 0.9)
print(*sys.modules)
"""

    rooms, heavy, (by_libraries, record, by_engine, measured, by_run) = loaded_by(job)

    assert (record, measured) == ("RunRecord 1", "True")
    assert not {f"backtest.{name}" for name in ("metrics", "validity", "report", "api")} & {*by_engine.split()}
    assert heavy == ["backtrader"]
    assert not {"validity", "report", "downloads", "sources"} & rooms
    account = ["bookings", "borrowing", "currencies", "dividends", "interest", "payouts", "margin.tables"]
    markets = {"backtest.engine.markets.membership", "backtest.engine.markets.small_bars", "backtest.market.universe"}
    others = {"backtest.metrics.combination", "backtest.runs.cost_table", "backtest.engine.compiled.runs"}
    others |= {"backtest.engine.code.parameters", "backtest.engine.lean.queues", "backtest.engine.lean.equivalence"}
    of_python = {"decimal", "fractions", "logging", "statistics", "sysconfig", "zoneinfo"} - {*by_libraries.split()}
    found = {*by_run.split()}
    assert not ({f"backtest.engine.account.{name}" for name in account} | markets | others | of_python) & found


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_loads_what_any_saved(layer, folder):
    loaded = layer.load(folder)

    assert type(loaded) is layer
    assert loaded.save(folder) == folder
    assert layer.load(folder) == loaded


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_comes_through_a_pickle_as_it_was(layer, folder):
    loaded = layer.load(folder)
    first = repr(loaded)  # with the numbers computed, where there are some

    again = pickle.loads(pickle.dumps(loaded))

    assert type(again) is layer
    assert (again, repr(again)) == (loaded, first)


def test_a_result_is_taken_for_what_it_is_and_a_record_is_made_one(result, folder):
    record = RunRecord.load(folder)

    assert Measured.of(result) is result
    assert type(RunResult.of(record)) is RunResult
    assert RunResult.of(record) == result
    assert repr(measure(record)) == repr(measure(result)) == repr(result.stats)


def test_what_asks_for_numbers_takes_a_record_too(result, folder):
    record = RunRecord.load(folder)

    assert validate(record, samples=120).to_dict() == validate(result, samples=120).to_dict()
    assert regimes(record).to_dict() == regimes(result).to_dict()
    assert str(compare([record, folder])) == str(compare([result, result]))


def test_the_numbers_are_computed_once(result):
    assert result.account is result.account
    assert result.stats is result.stats
    assert result.validity is result.validity


def test_returns_that_are_written_into_change_no_number(result):
    returns = result.returns
    expected = returns.tolist()

    returns.iloc[0] = 9.0

    assert result.returns.tolist() == expected
    assert result.account.returns.tolist() == expected


@pytest.mark.slow
def test_the_page_needs_no_more_than_a_measured_record(folder, tmp_path):
    theirs = RunResult.load(folder).report(tmp_path / "result")

    ours = write_report(Measured.load(folder), tmp_path / "measured")

    for file in theirs.parent.iterdir():
        assert file.read_bytes() == (ours.parent / file.name).read_bytes()


@pytest.mark.slow
def test_the_page_shows_the_validity_that_it_is_given(tmp_path, result):
    known = validate(result, samples=120, seed=7)

    document = json.loads((write_report(result, tmp_path, known).parent / "metrics.json").read_text(encoding="utf-8"))

    assert document["validity"] == known.to_dict()
    assert document["validity"]["intervals"]["samples"] == 120
