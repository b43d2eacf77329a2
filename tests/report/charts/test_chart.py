import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from handmade import AAPL, day, fill, result_of
from places import ROOT
from unpacked import chart_in, unpacked

from backtest import run
from backtest.api import RunResult
from backtest.market.bars import schema
from backtest.report.charts.chart import chart_of, scripts
from backtest.report.run_page import page
from backtest.runs.spec import spec_of
from backtest.store.store import Store

FILLS = [fill(0, 2, 10.0, 0.5), fill(2, -2, 16.0, 0.5)]
MINUTE = "AAPL-STK-SMART-USD/1min/TRADES/rth"


@pytest.fixture(scope="module")
def result():
    return run(ROOT / "strategies" / "sma_cross.py", ["AAPL/1day", "MSFT/1day"], store=ROOT / "data" / "sample")


@pytest.fixture(scope="module")
def chart(result):
    return chart_of(result, result.bars_from)


@pytest.fixture(scope="module")
def columns(chart):
    return unpacked(chart.about["columns"], chart.columns)


@pytest.mark.slow
def test_prices_are_the_bars_of_the_store_to_the_last_bit(columns):
    for number, series in enumerate(("AAPL/1day", "MSFT/1day")):
        bars = Store(ROOT / "data" / "sample").read(series)

        for name in ("open", "high", "low", "close", "volume"):
            np.testing.assert_array_equal(columns[f"{name}.{number}"], bars[name].to_numpy())


@pytest.mark.slow
def test_money_is_that_of_the_run_to_the_cent(columns, result):
    np.testing.assert_allclose(columns["equity"], result.equity, rtol=0, atol=0.005001)
    assert columns["drawdown"].min() == pytest.approx(result.stats["max_drawdown"], abs=1e-6)
    for number in range(2):
        np.testing.assert_array_equal(columns[f"position.{number}"], result.positions.iloc[:, number])


@pytest.mark.slow
def test_trades_stand_at_the_bars_of_their_fills(columns, result):
    trades, times = result.trades, result.equity.index

    assert list(times[columns["trade.entry"].astype(int)]) == list(trades["entry"])
    assert list(times[columns["trade.exit"].astype(int)]) == list(trades["exit"])
    np.testing.assert_array_equal(columns["trade.exit_price"], trades["exit_price"])
    assert columns["trade.net"].sum() == pytest.approx(trades["net"].sum(), abs=0.005 * len(trades))


@pytest.mark.slow
def test_orders_stand_at_the_bars_of_their_fills(columns, chart, result):
    orders, times = result.orders, result.equity.index
    statuses = [chart.about["statuses"][int(n)] for n in columns["order.status"]]

    assert statuses == list(orders["status"])
    filled = orders["closed"].notna()
    assert list(times[columns["order.row"].astype(int)[filled]]) == list(orders["closed"][filled])


@pytest.mark.slow
def test_the_lines_of_the_strategy_are_those_of_the_run(columns, chart, result):
    frame = result.lines.to_frame()
    plot = next(plot for plot in chart.about["plots"] if plot["series"] == 0 and plot["pane"] == -1)

    values = columns[f"line.{plot['number']}.0"]

    known = frame[plot["label"]].iloc[:, 0].to_numpy()
    np.testing.assert_allclose(values, known, rtol=1e-6)


def test_a_small_run_is_shown_without_its_bars_and_says_so():
    chart = chart_of(result_of([100.0, 96.0, 112.0], FILLS))

    columns = unpacked(chart.about["columns"], chart.columns)

    assert columns["close.0"].tolist() == [100.0, 96.0, 112.0]
    assert "open.0" not in columns
    assert columns["trade.net"].tolist() == [11.0]  # 2 * (16 - 10) - 1
    assert chart.about["series"] == [{"name": "AAPL/1day", "bars": False}]
    assert "because the run did not save which bars it used" in chart.notes[0]


def test_dividends_of_a_trade_are_on_the_chart_where_there_are_any():
    result = result_of([100.0, 96.0, 112.0], FILLS)
    paid = replace(result, trades_table=result.trades_table.append_column("dividends", pa.array([0.68])))

    columns = [unpacked(chart.about["columns"], chart.columns) for chart in (chart_of(result), chart_of(paid))]

    assert "trade.dividends" not in columns[0]
    assert columns[1]["trade.dividends"].tolist() == [0.68]


def test_orders_that_were_refused_are_on_the_chart():
    chart = chart_of(result_of([100.0, 96.0], statuses=["Margin"]))

    columns = unpacked(chart.about["columns"], chart.columns)

    assert chart.about["statuses"] == ["Margin"]
    assert columns["order.row"].tolist() == [0]


def test_words_of_others_cannot_end_a_script():
    chart = chart_of(result_of([100.0, 96.0], strategy="x.py:</script><script>alert(1)"))

    assert "<" not in chart.document
    assert json.loads(chart.document)["name"].endswith("</script><script>alert(1)")
    assert not any("</script" in script for script in scripts())


def minutes(count):
    times = np.datetime64("2020-01-01") + np.arange(count).astype("timedelta64[m]")
    equity = 100.0 + np.arange(count) % 7
    record = pa.table({
        "time": pa.array(times.astype("datetime64[us]"), pa.timestamp("us", tz="UTC")),
        "session": pa.array(times.astype("datetime64[D]"), pa.date32()),
        **dict.fromkeys(("equity", "cash", "close.0"), pa.array(equity)), "position.0": pa.array(np.zeros(count)),
    })  # fmt: skip
    empty = result_of([1.0])
    spec = spec_of({"strategy": "x.py:X", "series": (MINUTE,), "cash": 100.0})
    return RunResult(spec, record, empty.orders_table, empty.fills_table, empty.trades_table, {})


@pytest.mark.slow
def test_beyond_half_a_million_bars_several_are_one_and_it_is_said():
    whole, coarse = chart_of(minutes(500_000)), chart_of(minutes(500_001))

    assert (whole.about["rows"], whole.about["step"]) == (500_000, 1)
    assert (coarse.about["rows"], coarse.about["step"]) == (250_001, 2)
    assert any("500,001 bars, too many for a page: each bar on the chart combines 2." in note for note in coarse.notes)
    columns = unpacked(coarse.about["columns"], coarse.columns)
    assert columns["equity"][:3].tolist() == [101.0, 103.0, 105.0]  # the last of each two


@pytest.mark.slow
def test_more_orders_than_there_is_room_for_leave_some_to_the_bars():
    few, count = minutes(500_001), 260_000
    kinds = few.orders_table.schema
    prices = pa.array(np.random.default_rng(1).random(count))
    rows = {field.name: pa.nulls(count, field.type) for field in kinds}
    rows |= dict.fromkeys(("price", "costs", "size", "filled"), prices)
    rows |= dict.fromkeys(("created", "closed"), few.record["time"].combine_chunks()[:count])
    rows |= {"ref": pa.array(np.arange(count)), "series": pa.array([MINUTE]).take(pa.array(np.zeros(count, int)))}
    orders = pa.table([rows[field.name].cast(field.type) for field in kinds], schema=kinds)

    chart = chart_of(replace(few, orders_table=orders))

    assert chart.about["step"] == 2
    assert len(chart.columns) > 4_500_000


def test_intraday_bars_are_on_the_clocks_of_the_exchange():
    about = chart_of(minutes(3)).about

    assert (about["daily"], about["zone"], about["offsets"]) == (False, "America/New_York", [(0, -18000)])


@pytest.mark.slow
def test_a_page_has_the_chart_of_its_run():
    about, shown = chart_in(page(result_of([100.0, 96.0, 112.0], FILLS)))

    assert about["rows"] == 3
    assert shown["equity"].tolist() == [100.0, 96.0, 112.0]


@pytest.mark.slow
def test_a_loaded_run_finds_its_bars_where_they_are_named(tmp_path):
    bars = pa.Table.from_pylist(
        [{"time": datetime(2024, 1, 2 + n, tzinfo=UTC), "open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0}
         for n in range(3)], schema()
    )  # fmt: skip
    kept = run(ROOT / "strategies" / "buy_and_hold.py", {AAPL: bars.select(["time", "open", "high", "low", "close"])})
    loaded = RunResult.load(kept.save(tmp_path / "run"))

    found = [
        chart_of(one, reader) for one, reader in ((kept, kept.bars_from), (loaded, None), (loaded, kept.bars_from))
    ]

    assert [one.about["series"][0]["bars"] for one in found] == [True, False, True]
    assert "name the store: backtest report RUN --store FOLDER" in found[1].notes[0]


def test_days_of_a_run_are_dates():
    about = chart_of(result_of([100.0, 96.0], days=[day(0), day(1)])).about

    assert (about["daily"], about["zone"]) == (True, "UTC")
