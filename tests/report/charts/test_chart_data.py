import numpy as np
import pyarrow as pa
import pytest
from handmade import AAPL, day, moment, result_of

from backtest.market import arrays
from backtest.market.bars import rows_digest, schema
from backtest.market.series import Series
from backtest.report.charts.chart_data import bars_by_row, coarser, drawdowns_by_row, offsets, plots_of, rows_at
from backtest.runs.lines import Lines, lines_table
from backtest.store.reader import HeldReader

NAN = np.nan


def bars(closes, numbers=None):
    rows = [
        {"time": moment(n), "open": close - 1, "high": close + 2, "low": close - 2, "close": close, "volume": 7.0}
        for n, close in zip(numbers or range(len(closes)), closes, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema())


def run_on(table, closes):
    seen = {"rows_sha256": rows_digest(table), "bars": len(table), "from": moment(0).isoformat(),
            "to": table["time"][-1].as_py().isoformat()}  # fmt: skip
    return result_of(closes, closes=closes, manifest={"series": {AAPL: seen}})


def reader(table):
    return HeldReader("memory", {Series.parse(AAPL): table})


def test_bars_are_those_that_the_run_saw():
    table = bars([10.0, 11.0, 12.0])

    found = bars_by_row(run_on(table, [10.0, 11.0, 12.0]), 0, [reader(table)])

    assert found.why_closes == ""
    assert found.columns["open"].tolist() == [9.0, 10.0, 11.0]
    assert found.columns["volume"].tolist() == [7.0, 7.0, 7.0]


def test_later_bars_of_a_store_are_left_out():
    table = bars([10.0, 11.0])

    found = bars_by_row(run_on(table, [10.0, 11.0]), 0, [reader(bars([10.0, 11.0, 12.0]))])

    assert found.columns["close"].tolist() == [10.0, 11.0]
    assert found.why_closes == ""


def test_bars_of_another_digest_are_not_shown():
    found = bars_by_row(run_on(bars([10.0, 11.0]), [10.0, 11.0]), 0, [reader(bars([10.0, 11.5]))])

    assert list(found.columns) == ["close"]
    assert found.columns["close"].tolist() == [10.0, 11.0]
    assert found.why_closes == "the bars of the run were not found"


def test_a_row_without_a_bar_of_the_series_is_a_gap():
    table = bars([10.0, 12.0], [0, 2])

    found = bars_by_row(run_on(table, [10.0, 10.0, 12.0]), 0, [reader(table)])

    np.testing.assert_array_equal(found.columns["close"], [10.0, NAN, 12.0])


def test_bars_that_do_not_fit_the_record_are_not_shown():
    table = bars([10.0, 11.0])

    found = bars_by_row(run_on(table, [10.0, 99.0]), 0, [reader(table)])

    assert found.why_closes == "the bars found do not match the closes that the run saved"


def test_a_run_without_a_manifest_has_closes():
    found = bars_by_row(result_of([1.0, 2.0]), 0, [])

    assert found.columns["close"].tolist() == [1.0, 2.0]
    assert found.why_closes == "the run did not save which bars it used"


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        ("first", [1.0, 4.0, NAN]),
        ("last", [3.0, 2.0, NAN]),
        ("lowest", [1.0, 2.0, NAN]),
        ("highest", [3.0, 4.0, NAN]),
        ("sum", [4.0, 6.0, NAN]),
    ],
)
@pytest.mark.parametrize("block", [3, arrays.BLOCK])
def test_several_rows_become_one(monkeypatch, choose, expected, block):
    monkeypatch.setattr(arrays, "BLOCK", block)
    values = np.array([1.0, NAN, 3.0, NAN, 4.0, 2.0, NAN])

    np.testing.assert_array_equal(coarser(values, 3, choose), expected)


def test_prices_of_bars_can_stand_for_several_rows_before_more_become_one():
    table = bars([10.0, 11.0, 9.0, 12.0, 8.0, 7.0, 6.0])
    by_row, by_two = (bars_by_row(run_on(table, table["close"].to_pylist()), 0, [reader(table)], step)
                      for step in (1, 2))  # fmt: skip

    assert by_two.columns["high"].tolist() == [13.0, 14.0, 10.0, 8.0]
    assert by_two.columns["volume"].tolist() == [7.0] * 7
    assert {name: values.tolist() for name, values in by_two.at(4).items()} == {
        "open": [9.0, 7.0], "high": [14.0, 10.0], "low": [7.0, 4.0], "close": [12.0, 6.0], "volume": [28.0, 21.0],
    }  # fmt: skip
    np.testing.assert_equal(by_row.at(4), by_two.at(4))


def test_the_drawdown_of_a_row_is_that_of_the_last_session_that_ended():
    days = [day(0), day(0), day(1), day(1)]
    result = result_of([110.0, 120.0, 90.0, 60.0], days=days)  # ends: 120, 60

    assert drawdowns_by_row(result).tolist() == [0.0, 0.0, 0.0, -0.5]


def test_clocks_of_an_exchange_change_in_spring():
    times = np.array(["2024-03-08T15", "2024-03-11T14", "2024-03-11T15"], "datetime64[us]")

    assert offsets(times, "America/New_York") == [(0, -5 * 3600), (1, -4 * 3600)]
    assert offsets(times, "UTC") == [(0, 0)]


def test_rows_are_found_by_their_times():
    clock = np.array([10, 20, 30])

    rows, there = rows_at(clock, np.array([20, 25, 99]))

    assert there.tolist() == [True, False, False]
    assert rows[0] == 1


# --- lines


def lines_of(plots, values):
    columns = {"time.0": pa.array([moment(n) for n in range(3)], pa.timestamp("us", tz="UTC"))}
    columns |= {name: pa.array(numbers, pa.float64()) for name, numbers in values.items()}
    series = [{"key": AAPL, "clock": 0, "plotinfo": {}, "on_series": None}]
    return Lines(lines_table(columns, {"plots": plots, "clocks": [{"column": "time.0", "rows": 3}], "series": series,
                                       "steps": 0}))  # fmt: skip


def plot(number, pane, on_series=None, on_plot=None, style=None, info=None):
    return {"kind": "indicator", "name": "SMA", "module": "x", "label": f"SMA ({number})", "params": {}, "clock": 0,
            "pane": pane, "on_series": on_series, "on_plot": on_plot, "plotinfo": info or {},
            "lines": [{"alias": "sma", "column": f"{number}.sma", "style": style or {}}]}  # fmt: skip


def shown(*plots):
    values = {f"{n}.sma": [None, 1.5, 2.5] for n in range(len(plots))}
    result = result_of([1.0, 2.0, 3.0])
    object.__setattr__(result, "lines", lines_of(list(plots), values))
    return plots_of(result)


def test_an_overlay_is_on_the_prices_of_its_series_and_another_plot_in_a_pane():
    first, second, third = shown(
        plot(0, "overlay", on_series=0), plot(1, "below", on_series=0), plot(2, "overlay", on_plot=1)
    )

    assert (first.series, first.pane) == (0, -1)
    assert (second.series, second.pane) == (0, 1)
    assert (third.series, third.pane) == (0, 1)  # where the one that it lies on is
    np.testing.assert_array_equal(first.lines[0].values, [NAN, 1.5, 2.5])


def test_a_plot_below_an_overlay_has_a_pane_of_its_own():
    _, below = shown(plot(0, "overlay", on_series=0), plot(1, "below", on_plot=0))

    assert (below.series, below.pane) == (0, 1)


def test_a_line_is_drawn_as_its_plotlines_say():
    styles = (
        {"color": "r", "ls": "--", "linewidth": 2.0}, {"_method": "bar"}, {"marker": "^", "ls": ""},
        {"color": "no such"},
    )  # fmt: skip

    found = [
        one.lines[0] for one in shown(*(plot(n, "below", on_series=0, style=style) for n, style in enumerate(styles)))
    ]

    assert [(line.kind, line.colour, line.width, line.dash) for line in found] == [
        ("line", "#ff0000", 2, 2), ("bars", "", 1, 0), ("points", "", 1, 0), ("line", "", 1, 0)
    ]  # fmt: skip


def test_what_plotlines_skip_is_not_drawn_and_levels_are():
    skipped, levelled = (
        plot(0, "below", 0, style={"_plotskip": True}),
        plot(1, "below", 0, info={"plotyhlines": [30, 70.0]}),
    )

    (found,) = shown(skipped, levelled)

    assert (found.number, found.levels) == (1, (30.0, 70.0))
