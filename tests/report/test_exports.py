"""Runs as CSV files and Excel workbooks: nothing is lost on the way, and each time says its zone."""

import csv
import math
from dataclasses import replace
from datetime import UTC, date, datetime

import backtrader as bt
import pyarrow as pa
import pytest
from handmade import fill, result_of
from openpyxl import load_workbook

from backtest import run
from backtest.api import RunResult
from backtest.errors import UsageError
from backtest.metrics.table import METRICS

NAMES = ["trades", "orders", "fills", "equity", "returns", "metrics", "run"]
MINUTE = {"start": "2024-03-08", "end": "2024-03-12", "lines": False}  # clocks in New York go forward on the 10th


class AtTheOpen(bt.Strategy):
    """Buys a share after the first bar of each session, and sells it after the next."""

    def next(self):
        if self.position:
            self.close()
        elif self.data.datetime.date(0) != self.data.datetime.date(-1):
            self.buy(size=1)

    def prenext(self): ...


@pytest.fixture(scope="module")
def daily(sample):
    return run("sma_cross", "AAPL/1day", store=sample, end="2001-12-31", params={"fast": 5}, lines=False)


@pytest.fixture(scope="module")
def minutes(intraday):
    return run(AtTheOpen, ["AAPL/1min"], store=intraday, **MINUTE)


def rows_of(folder, name):
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def sheet_of(path, name):
    """Return the rows of a sheet, its head first."""
    return [list(row) for row in load_workbook(path)[name].iter_rows(values_only=True)]


def test_a_run_leaves_a_file_each_whose_numbers_read_back_the_same(daily, tmp_path):
    paths = daily.to_csv(tmp_path / "new" / "out")

    assert [path.name for path in paths] == [f"{name}.csv" for name in NAMES]
    equity = rows_of(tmp_path / "new" / "out", "equity")
    assert [float(row["equity"]) for row in equity] == daily.record["equity"].to_pylist()
    assert [float(row["position AAPL/1day"]) for row in equity] == daily.positions["AAPL/1day"].tolist()
    trades = rows_of(tmp_path / "new" / "out", "trades")
    assert [float(row["net"]) for row in trades] == daily.trades_table["net"].to_pylist()
    assert len(trades) > 5


def test_the_small_bar_of_a_fill_keeps_its_time_in_a_run_on_days(daily, tmp_path):
    fills = daily.fills_table
    opened = pa.array([datetime(2001, 3, 5, 14, 30, tzinfo=UTC), *[None] * (len(fills) - 1)], pa.timestamp("us", "UTC"))
    asked = replace(daily.spec, brokerage=replace(daily.spec.brokerage, fill_bars="30mins"))
    result = replace(daily, spec=asked, fills_table=fills.append_column("small_bar", opened))

    result.to_csv(tmp_path, tz="America/New_York")
    result.to_excel(tmp_path / "run.xlsx", tz="America/New_York")

    assert rows_of(tmp_path, "fills")[0]["small_bar"] == "2001-03-05T09:30:00-05:00"
    assert rows_of(tmp_path, "fills")[0]["time"] == str(fills["time"][0].as_py().date())
    sheet = load_workbook(tmp_path / "run.xlsx")["fills"]
    named = dict(zip(*([cell.value for cell in row] for row in sheet.iter_rows(max_row=2)), strict=True))
    assert str(named["small_bar [America/New_York]"]) == "2001-03-05 09:30:00"


def test_times_of_daily_bars_are_the_dates_of_sessions(daily, tmp_path):
    daily.to_csv(tmp_path, tz="America/New_York")

    assert rows_of(tmp_path, "equity")[0]["time"] == "2000-03-01"
    assert rows_of(tmp_path, "returns")[0]["session"] == "2000-03-01"
    assert rows_of(tmp_path, "trades")[0]["entry"] == str(daily.trades["entry"][0].date())


def test_metrics_have_their_value_unit_text_and_reason(daily, tmp_path):
    daily.to_csv(tmp_path)
    rows = {row["name"]: row for row in rows_of(tmp_path, "metrics")}

    assert list(rows) == list(METRICS)
    assert float(rows["total_return"]["value"]) == daily.stats["total_return"]
    assert (rows["total_return"]["unit"], rows["costs"]["unit"], rows["sharpe"]["unit"]) == ("fraction", "USD", "")
    assert rows["sharpe"]["shown"] == daily.stats.text("sharpe")


def test_what_is_not_defined_is_empty_and_says_why(tmp_path):
    result_of([101.0, 102.0]).to_csv(tmp_path / "csv")
    path = result_of([101.0, 102.0]).to_excel(tmp_path / "run.xlsx")

    row = next(row for row in rows_of(tmp_path / "csv", "metrics") if row["name"] == "win_rate")
    cells = next(row for row in sheet_of(path, "metrics") if row[0] == "win_rate")
    assert (row["value"], row["undefined"]) == ("", "no trades")
    assert (cells[2], cells[5]) == (None, "no trades")
    assert rows_of(tmp_path / "csv", "trades") == []


@pytest.mark.slow
def test_times_of_a_csv_file_say_their_zone(minutes, tmp_path):
    minutes.to_csv(tmp_path / "utc")
    minutes.to_csv(tmp_path / "there", tz="exchange")

    orders, there = rows_of(tmp_path / "utc", "orders"), rows_of(tmp_path / "there", "orders")
    # A minute after the open at 09:30 in New York: 14:31 UTC in winter, and 13:31 in summer.
    bought = [row["created"] for row in orders if row["side"] == "buy"]
    assert bought == ["2024-03-08T14:31:00Z", "2024-03-11T13:31:00Z", "2024-03-12T13:31:00Z"]
    bought = [row["created"] for row in there if row["side"] == "buy"]
    assert bought == ["2024-03-08T09:31:00-05:00", "2024-03-11T09:31:00-04:00", "2024-03-12T09:31:00-04:00"]
    assert rows_of(tmp_path / "there", "equity")[0]["time"] == "2024-03-08T09:31:00-05:00"
    assert rows_of(tmp_path / "utc", "equity")[0]["time"] == "2024-03-08T14:31:00Z"


@pytest.mark.slow
def test_times_of_a_workbook_are_those_of_the_zone_at_the_head_of_their_column(minutes, tmp_path):
    utc = sheet_of(minutes.to_excel(tmp_path / "utc.xlsx"), "equity")
    there = sheet_of(minutes.to_excel(tmp_path / "there.xlsx", tz="exchange"), "equity")

    assert (utc[0][0], utc[1][0]) == ("time [UTC]", datetime(2024, 3, 8, 14, 31))  # noqa: DTZ001 - Excel knows no zone
    assert (there[0][0], there[1][0]) == ("time [America/New_York]", datetime(2024, 3, 8, 9, 31))  # noqa: DTZ001
    assert utc[0][1:3] == ["session", "equity"]
    assert utc[1][1] == datetime(2024, 3, 8)  # noqa: DTZ001 - as openpyxl reads a date


@pytest.mark.slow
def test_a_workbook_has_a_sheet_for_each_table_with_the_same_numbers(daily, tmp_path):
    path = daily.to_excel(tmp_path / "new" / "run.xlsx")

    assert load_workbook(path).sheetnames == NAMES
    head, *rows = sheet_of(path, "trades")
    net = daily.trades_table["net"].to_pylist()
    assert [row[head.index("net")] for row in rows] == pytest.approx(net, rel=1e-15)  # openpyxl writes 16 digits
    assert dict(sheet_of(path, "run"))["parameter fast"] == "5"
    assert sheet_of(path, "equity")[1][0] == datetime(2000, 3, 1)  # noqa: DTZ001


def test_a_text_that_begins_like_a_formula_stays_a_text(tmp_path):
    strange = result_of([101.0, 102.0], params={"rule": "=1+1", "bell": "a\x07b"})

    sheet = load_workbook(strange.to_excel(tmp_path / "run.xlsx"))["run"]

    cells = {row[0].value: row[1] for row in sheet.iter_rows()}
    assert (cells["parameter rule"].value, cells["parameter rule"].data_type) == ("=1+1", "s")
    assert cells["parameter bell"].value == "a\ufffdb"


@pytest.mark.slow
def test_a_table_that_is_too_long_for_a_sheet_is_refused(tmp_path):
    result = result_of([101.0, 102.0], [fill(0, 1, 1.0)])
    long = replace(result, fills_table=result.fills_table.take(pa.array([0] * 1_048_576)))

    with pytest.raises(UsageError, match=r"fills has 1,048,576 rows, but an Excel sheet holds 1,048,575.*write CSV"):
        long.to_excel(tmp_path / "run.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_dates_before_excels_first_are_texts(tmp_path):
    result = result_of([101.0, 102.0], days=[date(1899, 12, 29), date(1900, 1, 2)])

    sessions = [row[0] for row in sheet_of(result.to_excel(tmp_path / "run.xlsx"), "returns")[1:]]

    assert sessions == ["1899-12-29", datetime(1900, 1, 2)]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"file": "run.xls"}, "does not end in .xlsx"),
        ({"file": "folder.xlsx"}, "cannot be exported"),
        ({"file": "run.xlsx", "tz": "Mars/Base"}, "unknown time zone 'Mars/Base'; write UTC, exchange"),
        ({"file": "run.xlsx", "tz": ".."}, "unknown time zone"),
        ({"file": "run.xlsx", "tz": None}, "write UTC, exchange"),
        ({"file": "there.xlsx", "overwrite": False}, "there.xlsx exists; name another place"),
        ({"file": ""}, "write the path of a file"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch, asked, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.xlsx").mkdir()
    (tmp_path / "there.xlsx").write_text("mine")

    with pytest.raises(UsageError, match=said):
        result_of([101.0, 102.0]).to_excel(**asked)

    assert (tmp_path / "there.xlsx").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.xlsx", "there.xlsx"]


def test_files_that_are_there_are_replaced_unless_that_is_forbidden(tmp_path):
    result_of([101.0, 102.0]).to_csv(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UsageError, match=r"trades\.csv exists"):
        result_of([101.0, 103.0]).to_csv(tmp_path, overwrite=False)
    assert rows_of(tmp_path, "equity")[1]["equity"] == "102.0"
    result_of([101.0, 103.0]).to_csv(tmp_path)

    assert rows_of(tmp_path, "equity")[1]["equity"] == "103.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(f"{name}.csv" for name in NAMES), "mine.txt"])


@pytest.mark.slow
def test_a_kept_run_is_exported_by_its_name(sample, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    call("run", "sma_cross", "AAPL/1day", "--until", "2000-12-29", "--store", sample.root, "--out", "runs/first")

    code, out, _ = call("runs", "export", "first")
    again, _, said = call("runs", "export", "first")
    forced, _, _ = call("runs", "export", "first", "--force")
    book, line, _ = call("runs", "export", "first", "--out", "book.xlsx", "--tz", "exchange")

    assert (code, again, forced, book) == (0, 2, 0, 0)
    assert out.splitlines() == [f"exports/first/{name}.csv" for name in NAMES]
    assert "exports/first/trades.csv exists; name another place, or add --force to replace it" in said
    assert line == "book.xlsx\n"
    record = RunResult.load("runs/first").record
    assert [float(row["equity"]) for row in rows_of(tmp_path / "exports/first", "equity")] == record[
        "equity"
    ].to_pylist()
    assert len(sheet_of("book.xlsx", "equity")) == len(record) + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export"], "no run to export"),
        (["export", "nothing"], "no run 'nothing'"),
        (["ls", "--out", "x"], "--out, --tz and --force only apply to export"),
        (["export", "a", "b", "--out", "x.xlsx"], "2 runs are named, and --out is one file"),
    ],
)
def test_a_wrong_export_is_refused(sample, tmp_path, monkeypatch, call, words, said):
    monkeypatch.chdir(tmp_path)

    code, _, err = call("runs", *words)

    assert code == 2
    assert said in err


def test_infinite_numbers_are_empty(tmp_path):
    table = result_of([101.0, 102.0])
    odd = replace(table, record=table.record.set_column(3, "cash", pa.array([math.inf, math.nan])))

    odd.to_csv(tmp_path)

    assert [row["cash"] for row in rows_of(tmp_path, "equity")] == ["", ""]
    assert datetime.fromisoformat(rows_of(tmp_path, "equity")[0]["time"]).replace(tzinfo=UTC).year == 2024


@pytest.mark.parametrize("name", ["x.xls", "x.CSV", "tables/x.parquet"])
def test_an_export_to_another_kind_of_file_is_refused_and_makes_no_folder(tmp_path, monkeypatch, call, name):
    monkeypatch.chdir(tmp_path)
    result_of([101.0, 102.0]).save("runs/first")

    code, _, said = call("runs", "export", "first", "--out", name)

    assert (code, [path.name for path in tmp_path.iterdir()]) == (2, ["runs"])
    assert f"--out {name} names a file, but only .xlsx files are written" in " ".join(said.split())


def test_a_folder_of_an_export_may_have_a_dot_in_its_name(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    result_of([101.0, 102.0]).save("runs/first")

    assert call("runs", "export", "first", "--out", "v1.2")[0] == 0
    assert (tmp_path / "v1.2" / "fills.csv").exists()
