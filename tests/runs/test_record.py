import json
import math
import os
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import AAPL, day, fill, moment, result_of
from matplotlib.figure import Figure

from backtest.api import RunResult
from backtest.errors import BadStore, UsageError
from backtest.market import arrays
from backtest.runs.lines import Lines, lines_table
from backtest.runs.record import FILES
from backtest.runs.round_trips import round_trips
from backtest.runs.spec import RunSpec

TRADE = [fill(0, 2, 10.0, 0.5), fill(2, -2, 16.0, 0.5)]
FAR = pa.array([0, 1, 2**62], pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def trips(*fills):
    return result_of([100.0] * 6, fills).trades_table.to_pylist()


def sizes(*fills):
    return [(trip["size"], trip["entry_price"], trip["exit_price"]) for trip in trips(*fills)]


def test_a_round_trip_by_hand():
    (trip,) = trips(*TRADE)

    assert (trip["entry"], trip["exit"], trip["bars"]) == (moment(0), moment(2), 2)
    assert (trip["gross"], trip["costs"], trip["net"], trip["return"]) == (12.0, 1.0, 11.0, 11 / 20)


def test_an_exit_in_parts_closes_a_round_trip_each_with_its_share_of_the_costs():
    first, second = trips(fill(0, 4, 10.0, 2.0), fill(1, -1, 12.0, 0.25), fill(2, -3, 11.0, 0.75))

    assert (first["size"], first["costs"], first["net"]) == (1, 0.75, 1.25)
    assert (second["size"], second["costs"], second["net"]) == (3, 2.25, 0.75)


def test_the_first_in_is_the_first_out():
    assert sizes(fill(0, 1, 10.0), fill(1, 1, 20.0), fill(2, -1, 30.0)) == [(1, 10.0, 30.0)]


def test_one_exit_closes_several_entries():
    assert sizes(fill(0, 1, 10.0), fill(1, 2, 20.0), fill(2, -3, 30.0)) == [(1, 10.0, 30.0), (2, 20.0, 30.0)]


def test_a_reversal_closes_one_and_opens_the_other():
    reversal = fill(0, 1, 10.0), fill(1, -3, 12.0), fill(2, 2, 9.0)

    assert sizes(*reversal) == [(1, 10.0, 12.0), (-2, 12.0, 9.0)]


def test_a_short_gains_when_the_price_falls():
    (trip,) = trips(fill(0, -2, 10.0, 1.0), fill(1, 2, 7.0, 1.0))

    assert (trip["gross"], trip["net"], trip["return"]) == (6.0, 4.0, 0.2)


def test_what_is_still_open_is_no_round_trip():
    assert sizes(fill(0, 5, 10.0), fill(1, -2, 11.0)) == [(2, 10.0, 11.0)]


def test_fractions_of_shares_that_add_up_leave_nothing_open():
    closed = fill(0, 0.1, 10.0), fill(1, 0.2, 10.0), fill(2, -0.3, 10.0), fill(3, 1, 10.0), fill(4, -1, 11.0)

    assert [size for size, _, _ in sizes(*closed)] == pytest.approx([0.1, 0.2, 1])


def test_series_are_matched_apart():
    other = "MSFT-STK-SMART-USD/1day/TRADES/rth"

    assert sizes(fill(0, 1, 10.0), fill(1, -1, 50.0, series=other)) == []


def test_the_costs_of_round_trips_are_those_of_the_fills_that_they_close():
    fills = [fill(0, 3, 10.0, 0.9), fill(1, -5, 11.0, 1.5), fill(2, 2, 9.0, 0.7)]

    assert sum(trip["costs"] for trip in trips(*fills)) == pytest.approx(0.9 + 1.5 + 0.7)


def test_no_fills_are_no_round_trips():
    nothing = result_of([100.0])

    assert round_trips(nothing.fills_table, nothing.record).num_rows == 0


def test_the_return_of_a_round_trip_that_cost_nothing_is_undefined():
    (trip,) = trips(fill(0, 1, 0.0), fill(1, -1, 5.0))

    assert (trip["net"], math.isnan(trip["return"])) == (5.0, True)


def test_a_saved_run_is_loaded_as_it_was(tmp_path):
    result = result_of([99.5, 105.0, 111.0], TRADE, params={"fast": 5}, manifest={"python": "3.11"})

    loaded = RunResult.load(result.save(tmp_path / "new" / "run"))

    assert loaded == result
    assert loaded.name == result.name
    assert loaded.stats.to_dict() == result.stats.to_dict()


@pytest.mark.parametrize("name", ["benchmark", "flow", "risk_free"])
def test_a_column_that_only_some_runs_have_is_kept(tmp_path, name):
    asked = {"rates": "ab" * 32} if name == "risk_free" else {}
    found = result_of([101.0, 103.0, 102.0], **asked)
    found = replace(found, record=found.record.append_column(name, pa.array([0.001, 0.002, 0.0015])))

    kept = RunResult.load(found.save(tmp_path / "run"))

    assert kept.record.equals(found.record)
    assert kept.stats.to_dict() == found.stats.to_dict()


def test_a_run_that_lacks_the_risk_free_returns_that_it_was_run_with_is_refused(tmp_path):
    folder = result_of([101.0, 103.0], rates="ab" * 32).save(tmp_path / "run")

    with pytest.raises(BadStore, match="lacks the risk-free returns that it was run with"):
        RunResult.load(folder)


def test_saving_by_force_replaces_another_run(tmp_path):
    result_of([100.0, 90.0]).save(tmp_path)
    second = result_of([100.0, 110.0], cash=50.0)

    assert RunResult.load(second.save(tmp_path, force=True)) == second


UNIVERSE = {"name": "u", "sha256": "", "rows": [], "without_bars": {}, "absent": [], "sold": {}}
INTEREST = {"rates": "ib", "sha256": "", "booked": 0.0, "accrued": 0.0}


@pytest.mark.parametrize("name", ["spec.json", "manifest.json", "record.parquet", "trades.parquet"])
def test_a_folder_that_lacks_a_file_holds_no_run(tmp_path, name):
    folder = result_of([100.0]).save(tmp_path)
    (folder / name).unlink()

    with pytest.raises(BadStore, match=f"holds no run.*{name}"):
        RunResult.load(folder)


@pytest.mark.parametrize("name", ["spec.json", "manifest.json", "record.parquet", "fills.parquet"])
def test_a_file_that_was_cut_short_is_said_to_be_unreadable(tmp_path, name):
    path = result_of([100.0, 101.0], TRADE[:1]).save(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(BadStore, match="cannot be read"):
        RunResult.load(tmp_path)


def test_a_single_flipped_bit_in_the_equity_is_noticed(tmp_path):
    path = result_of([100.0 + n for n in range(50)]).save(tmp_path) / "record.parquet"
    equity = pq.read_metadata(path).row_group(0).column(2)
    content = bytearray(path.read_bytes())
    content[equity.data_page_offset + equity.total_compressed_size - 1] ^= 1
    path.write_bytes(content)

    with pytest.raises(BadStore, match="cannot be read"):
        RunResult.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", '{"format": 1}', '{"format": 1, "series": [], "colour": 2}'])
def test_a_spec_that_is_none_is_said_to_be_unreadable(tmp_path, text):
    result_of([100.0]).save(tmp_path)
    (tmp_path / "spec.json").write_text(text)

    with pytest.raises(BadStore, match="cannot be read"):
        RunResult.load(tmp_path)


def test_a_run_of_another_format_is_refused_by_its_number(tmp_path):
    result_of([100.0]).save(tmp_path)
    (tmp_path / "spec.json").write_text('{"format": 9, "colour": 2}')

    with pytest.raises(BadStore, match="format 9"):
        RunResult.load(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match=r"no run can be saved in .*file"):
        result_of([100.0]).save(tmp_path / "file" / "run")


def test_a_parameter_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="parameter"):
        result_of([100.0], params={"model": object()}).save(tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_the_key_of_a_spec_changes_with_what_is_asked_and_with_nothing_else():
    first, again = (RunSpec("a.py:A", (AAPL,), params={"fast": 1, "slow": 2}) for _ in range(2))

    assert first.key == again.key == RunSpec("a.py:A", (AAPL,), params={"slow": 2, "fast": 1}).key
    assert first.key != RunSpec("a.py:A", (AAPL,), params={"fast": 1, "slow": 3}).key


def test_the_name_of_a_run_changes_with_the_bars_it_saw():
    first, second = (result_of([100.0], manifest={"series": {AAPL: digest}}) for digest in "ab")

    assert first.name != second.name
    assert first.name.startswith("Trend-AAPL-1day-")


def test_frames_have_a_utc_index_and_a_column_a_series():
    result = result_of([100.0, 104.0], TRADE[:1])

    assert result.positions["AAPL/1day"].tolist() == [2, 2]
    assert result.closes["AAPL/1day"].tolist() == [100.0, 104.0]
    assert [str(index.tz) for index in (result.equity.index, result.returns.index)] == ["UTC", "UTC"]
    assert result.returns.tolist() == pytest.approx([0.0, 0.04])


def test_frames_say_their_units_and_keep_their_times_in_utc():
    result = result_of([100.0, 104.0, 108.0], TRADE)

    assert result.equity.name == "equity [USD]"
    assert result.positions.columns.name == "position [shares or contracts]"
    assert "Costs [USD]" in result.stats.to_frame().index
    times = [result.fills["time"], *(result.trades[name] for name in ("entry", "exit")), result.closes.index]
    assert {str(one.dtype.tz) for one in times} == {"UTC"}


def test_the_plot_of_a_run_is_a_figure_of_matplotlib_with_units_on_its_axes():
    figure = result_of([100.0, 104.0]).plot()

    assert isinstance(figure, Figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["Equity, USD", "Drawdown, %"]


def test_a_notebook_shows_the_verdict_above_the_numbers():
    shown = result_of([100.0, 104.0])._repr_html_()

    assert "<b>Inconclusive: track record too short.</b><br><small>2 sessions are less than a year" in shown
    assert shown.index("Inconclusive") < shown.index("Total return")


def test_a_printed_run_names_strategy_and_series():
    assert repr(result_of([100.0])).startswith("Trend on AAPL/1day\nTotal return")


def test_sessions_and_tables_keep_their_types(tmp_path):
    loaded = RunResult.load(result_of([100.0, 101.0]).save(tmp_path))

    assert loaded.record["session"].to_pylist() == [day(0), day(1)]
    assert loaded.record.schema.field("time").type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("record", lambda table: table.drop_columns(["cash"]), "the column cash is not there"),
        ("record", lambda table: table.set_column(2, "equity", pa.array(["x"] * 3)), "equity has the type string"),
        ("record", lambda table: table.set_column(2, "equity", pa.array([None, 1.0, 2.0])), "equity lacks 1 values"),
        ("record", lambda table: table.slice(0, 0), "has no row"),
        ("record", lambda table: pa.concat_tables([table.slice(1), table.slice(0, 1)]), "time goes back in time"),
        ("record", lambda table: table.set_column(0, "time", FAR), "time has a time before the year 1 or after 9999"),
        ("trades", lambda table: table.set_column(0, "series", pa.array(["GOOG/1day"])), "which is not in the run"),
        ("orders", lambda table: table.drop_columns(["closed"]), "the column closed is not there"),
    ],
)
def test_a_table_with_other_columns_or_values_is_refused_by_its_name(tmp_path, name, change, said):
    run = result_of([100.0, 101.0, 102.0], TRADE, statuses=["Completed"])
    path = run.save(tmp_path) / f"{name}.parquet"
    pq.write_table(change(pq.read_table(path)), path)

    with pytest.raises(BadStore, match=rf"{name}\.parquet.*{said}"):
        RunResult.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("spec", {"series": "AAPL/1day"}, "series is 'AAPL/1day', not a list"),
        ("spec", {"series": ["AAPL/1fortnight"]}, r"series\[0\]"),
        ("spec", {"cash": "much"}, "cash is 'much', not a number"),
        ("spec", {"cash": -1.0}, "cash is -1.0, not more than 0"),
        ("spec", {"since": "2024-02-30"}, "since and until"),
        ("spec", {"costs": "futures:x"}, "costs"),
        ("spec", {"colour": 1}, "colour is not known"),
        ("manifest", {"market": {"waited": "x"}}, "market.waited is 'x'"),
        ("manifest", {"series": {"AAPL/1day": {"from": "2024-13-01"}}}, "series.AAPL/1day.from"),
        ("manifest", {"splits": {"AAPL/1day": {"from": "nobody", "minimum": 1.0}}}, "splits.AAPL/1day is "),
        ("manifest", {"splits": {"AAPL/1day": "nobody"}}, "splits.AAPL/1day is 'nobody'"),
        ("manifest", {"splits": {"AAPL": {"minimum": 1.0, "cap": 0.01}}}, "a key of splits is no series"),
        ("manifest", {"costs": {"products": {"AAPL/1day": {"standing": "unconfirmed"}}}}, "costs.products.AAPL/1day"),
        ("manifest", {"borrow": {"AAPL": {"days": 1, "taken_from_before": 0, "first": []}}}, "a key of borrow is no"),
        ("manifest", {"universe": {**UNIVERSE, "rows": [["AAPL/1day", "", ""]]}}, r"universe\.rows\[0\] has 3 values"),
        ("manifest", {"universe": {**UNIVERSE, "rows": [["AAPL/1day", "", "x", None]]}}, r"universe\.rows\[0\]\[2\]"),
        ("manifest", {"interest": {**INTEREST, "outside": ["2026-02"]}}, r"interest\.outside is \['2026-02'\]"),
    ],
)
def test_a_document_with_a_wrong_value_is_refused_by_its_key(tmp_path, name, change, said):
    path = result_of([100.0, 101.0]).save(tmp_path) / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(BadStore, match=rf"{name}\.json.*{said}"):
        RunResult.load(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, name):
    folder = result_of([100.0, 101.0]).save(tmp_path)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)

    with pytest.raises(BadStore, match="not a regular file"):
        RunResult.load(tmp_path)


def test_a_run_of_many_rows_is_read_by_column_and_has_the_times_of_its_lines_once(tmp_path, monkeypatch):
    run = result_of([100.0, 101.0, 102.0], TRADE)
    layout = {"plots": [], "clocks": [{"column": "time.0", "rows": 3}], "series": [], "steps": 0}
    folder = replace(run, lines=Lines(lines_table({"time.0": run.record["time"]}, layout))).save(tmp_path)
    few = RunResult.load(folder)
    monkeypatch.setattr(arrays, "MANY", 1)

    many = RunResult.load(folder)

    assert (many.record, many.lines) == (few.record, few.lines)
    assert many.lines.table.schema.metadata == few.lines.table.schema.metadata
    assert np.shares_memory(many.lines.times(0), arrays.numbers(many.record["time"]))
