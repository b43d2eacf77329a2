"""CSV, Parquet and frames become bars: which column is what, which zone, and nothing lost on the way."""

import json
import re
from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from market import store_with
from places import ROOT

from backtest.downloads.downloader import download, plan_download
from backtest.downloads.retry import Persistence
from backtest.errors import BadBars, Conflict, NoBars, NoData, SourceError, UnknownContract, UsageError
from backtest.market.bars import schema
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.base import Source
from backtest.sources.connect import connect
from backtest.sources.files.export import span_of_bars, write_bars
from backtest.sources.files.folder import FileSource
from backtest.sources.files.reading import FileOptions, bars_of, checked_bars
from backtest.store.store import Store

DAILY, MINUTES = Series.parse("AAPL/1day"), Series.parse("AAPL/1min")
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
NEW_YORK = "America/New_York"


def csv_file(folder, head, *rows, name="prices.csv"):
    path = folder / name
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def minute_file(folder, *stamps):
    return csv_file(folder, "time,open,high,low,close", *(f"{stamp},10,12,9,11" for stamp in stamps))


def times(bars):
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in bars["time"].to_pylist()]


# --- columns


@pytest.mark.parametrize(
    "head",
    [
        "date,open,high,low,close,volume",
        "Date;Open;High;Low;Close;Volume",
        "timestamp\t1. open\t2. high\t3. low\t4. close\t5. volume",
        "DATETIME|o|h|l|last|VOL",
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        "t,o,h,l,Price,v",
    ],
)
def test_columns_are_found_by_the_names_that_vendors_give_them(tmp_path, head):
    mark = next(mark for mark in ";\t|," if mark in head)
    path = csv_file(tmp_path, head, mark.join(["2024-01-02", "10", "12", "9", "11", "500"]))

    bars, _ = bars_of(path, DAILY)

    assert bars.to_pylist() == [
        {"time": datetime(2024, 1, 2, tzinfo=UTC), "open": 10, "high": 12, "low": 9, "close": 11, "volume": 500}
        | {"average": None, "trades": None}
    ]


def test_the_mapping_names_every_column_of_the_file_and_an_adjusted_close_is_no_close(tmp_path):
    path = csv_file(tmp_path, ",Date,Open,High,Low,Adj Close,Close,wap,barCount", "0,2024-01-02,10,12,9,5.5,11,10.5,7")

    bars, mapping = bars_of(path, DAILY)

    assert mapping == {
        "": None, "Date": "time", "Open": "open", "High": "high", "Low": "low", "Adj Close": None, "Close": "close",
        "wap": "average", "barCount": "trades",
    }  # fmt: skip
    assert (bars["close"][0].as_py(), bars["average"][0].as_py(), bars["trades"][0].as_py()) == (11, 10.5, 7)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("when,open,high,low,close", "no column for time"),
        ("date,open,high,low,adj close", "no column for close"),
        ("date,open,high,low,last,Price", "close may be 'last' or 'Price'"),
        ("date,open,high,low,close,vol,Volume", "volume may be 'vol' or 'Volume'"),
    ],
)
def test_columns_that_are_missing_or_unclear_are_named(tmp_path, head, said):
    path = csv_file(tmp_path, head, ",".join(["2024-01-02", *(str(10 + n) for n in range(head.count(",")))]))

    with pytest.raises(UsageError, match=said) as error:
        bars_of(path, DAILY)

    assert all(f"'{name}'" in str(error.value) for name in head.split(","))


def test_a_frame_with_its_times_in_the_index_is_taken():
    index = pd.DatetimeIndex(["2024-01-03", "2024-01-02"])
    frame = pd.DataFrame({"Open": [1, 2], "High": [3, 4], "Low": [1, 2], "Close": [2.5, 3.5]}, index=index)

    bars, mapping = bars_of(frame, DAILY)

    assert times(bars) == ["2024-01-02 00:00:00", "2024-01-03 00:00:00"]
    assert bars["close"].to_pylist() == [3.5, 2.5]
    assert mapping["time"] == "time"


def test_a_frame_with_times_in_index_and_column_is_unclear():
    index = pd.DatetimeIndex(["2024-01-02"], name="date")
    frame = pd.DataFrame({"date": ["2024-01-03"], "o": [1], "h": [1], "l": [1], "c": [1]}, index=index)

    with pytest.raises(UsageError, match="time may be 'date' or 'date'"):
        bars_of(frame, DAILY)


def test_a_frame_that_pandas_wrote_to_parquet_is_taken_with_its_index(tmp_path):
    index = pd.date_range("2024-03-04 09:30", periods=3, freq="min", tz=NEW_YORK)
    pd.DataFrame({"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5}, index=index).to_parquet(tmp_path / "a.parquet")

    bars, _ = bars_of(tmp_path / "a.parquet", MINUTES)

    assert times(bars) == ["2024-03-04 14:30:00", "2024-03-04 14:31:00", "2024-03-04 14:32:00"]


# --- extra columns


def extra_bars(tmp_path, head, *rows, extra):
    """Return the bars of a file whose columns after the close are these, and the mapping."""
    lines = [f"2024-01-{n + 2:02},10,12,9,11,{row}" for n, row in enumerate(rows)]
    return bars_of(csv_file(tmp_path, f"date,open,high,low,close,{head}", *lines), DAILY, extra=extra)


def test_named_columns_are_kept_as_numbers_behind_those_of_every_bar_and_others_are_not(tmp_path):
    bars, mapping = extra_bars(tmp_path, "score,note,signal", "0.25,a,-1", ",b,1", "1e3,c,", extra=["signal", "score"])

    assert bars.column_names[8:] == ["signal", "score"]
    assert bars["signal"].to_pylist() == [-1, 1, None]  # -1 means "does not apply" in IB's own columns only
    assert bars["score"].to_pylist() == [0.25, None, 1000]
    assert (mapping["score"], mapping["note"], mapping["signal"]) == ("score", None, "signal")


def test_no_column_is_kept_that_is_not_named(tmp_path):
    bars, mapping = extra_bars(tmp_path, "signal", "1", extra=())

    assert bars.schema.equals(schema())
    assert mapping["signal"] is None


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("signal", "signal"),
        ("Signal", "signal"),
        ("SIGNAL", "Signal"),
        ("RSI 14", "rsi_14"),
        ("Adj Close", "adj_close"),
        ("size", "size_"),
        ("größe", "größe"),
        ("gro\u0308\u00dfe", "gr\u00f6\u00dfe"),  # as macOS writes it
        (" signal ", "signal"),
        ("vwap", "vwap"),
        ("average", "average_"),
    ],
)
def test_a_name_finds_its_column_whatever_its_capital_letters_blanks_and_marks(tmp_path, column, name):
    bars, mapping = extra_bars(tmp_path, column, "7", extra=[name])

    assert bars.column_names[8:] == [name]
    assert bars[name].to_pylist() == [7]
    assert name in mapping[column.strip()]


def test_a_column_that_has_the_name_just_so_goes_before_those_that_nearly_have_it(tmp_path):
    bars, _ = extra_bars(tmp_path, "Signal,signal,sig nal", "1,2,3", extra="signal")

    assert bars["signal"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("head", "extra", "said"),
    [
        ("signal,x", "signl", "no column 'signl' to keep; choose from date, .*; did you mean signal?"),
        ("Signal,SIGNAL", "signal", "may be 'Signal' or 'SIGNAL'"),
        ("signal,signal", "signal", "may be 'signal' or 'signal'"),
        ("RSI 14,x", "rsi_14,rsi14", "are the same column of .*, 'RSI 14'; name it once"),
        ("signal,x", "signal,Signal", "differs from 'signal' by capital letters only"),
        ("signal,x", "signal,signal", "is named twice"),
        ("lines,x", "lines", "write lines_, which finds that column too"),
        ("name,x", "name", "write name_"),
        ("datetime_,x", "datetime", "cannot be a line"),
        ("OpenInterest,x", "openinterest", "write openinterest_"),
        ("tick_close,x", "tick_close", "cannot be a line"),
        ("line_3,x", "line_3", "cannot be a line"),
        ("class,x", "class", "write class_"),
        ("RSI 14,x", "RSI 14", "write RSI_14"),
        ("2y,x", "2y", "rename the column"),
        ("_x,x", "_x", "write x,"),
        ("x,y", "close", "is part of every bar"),
        ("x,y", "average", "or write average_"),
        ("x,y", "x,,y", "has no name"),
        ("x,y", 7, "extra is 7; write names of columns"),
        ("x,y", [7], "extra is 7; write names of columns"),
        ("x,y", {"x", "y"}, "extra is a set, which has no order"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused_with_what_to_write(tmp_path, head, extra, said):
    with pytest.raises(UsageError, match=said):
        extra_bars(tmp_path, head, "1,2", extra=extra)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("buy", "values other than numbers in the extra column signal .*'buy'"),
        ("1.5%", "values other than numbers"),
        ("True", "values other than numbers"),
        ("inf", "signal not finite at 2024-01-02"),
        ("-inf", "signal not finite"),
        ("1e999", "signal"),
    ],
)
def test_values_that_are_no_finite_numbers_are_refused(tmp_path, value, said):
    with pytest.raises(BadBars, match=said):
        extra_bars(tmp_path, "signal", value, extra=["signal"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([1.0, float("nan"), 3.0]),
        pa.array([1.0, None, 3.0], pa.float32()),
        pa.array(["1", " ", "3"]),
        pa.array([1, None, 3], pa.decimal128(5, 2)),
    ],
    ids=lambda column: str(column.type),
)
def test_any_type_of_number_in_parquet_is_kept_as_float64_with_null_where_there_is_none(tmp_path, column):
    frame = pa.table({"date": ["2024-01-02", "2024-01-03", "2024-01-04"], **dict.fromkeys("ohlc", [1.0] * 3)})
    pq.write_table(frame.append_column("signal", column), tmp_path / "a.parquet")

    bars, _ = bars_of(tmp_path / "a.parquet", DAILY, extra=["signal"])

    assert bars["signal"].to_pylist() == [1, None, 3]
    assert bars.schema.equals(schema(["signal"]))


@pytest.mark.parametrize(
    "column", [pa.array([[1], [2], [3]]), pa.array([datetime(2024, 1, 2, tzinfo=UTC)] * 3)], ids=["list", "time"]
)
def test_a_column_of_parquet_that_has_no_numbers_is_refused(tmp_path, column):
    frame = pa.table({"date": ["2024-01-02", "2024-01-03", "2024-01-04"], **dict.fromkeys("ohlc", [1.0] * 3)})
    pq.write_table(frame.append_column("signal", column), tmp_path / "a.parquet")

    with pytest.raises(BadBars, match="values other than numbers in the extra column signal"):
        bars_of(tmp_path / "a.parquet", DAILY, extra=["signal"])


def test_the_columns_of_a_frame_go_with_their_bars_into_the_order_of_time():
    frame = pd.DataFrame({"date": ["2024-01-03", "2024-01-02"], **dict.fromkeys("ohlc", [1.0] * 2), "up": [True, None]})

    bars, _ = bars_of(frame, DAILY, extra=["up"])

    assert bars["up"].to_pylist() == [None, 1]


# --- times


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-03-08T14:30:00Z",
        "2024-03-08 09:30:00-05:00",
        "2024-03-08 09:30:00.000-0500",
        "20240308 09:30:00 US/Eastern",
        "1709908200",
        "1709908200000",
    ],
)
def test_times_with_a_zone_become_utc(tmp_path, stamp):
    bars, _ = bars_of(minute_file(tmp_path, stamp), MINUTES, "Asia/Tokyo")

    assert times(bars) == ["2024-03-08 14:30:00"]


@pytest.mark.parametrize("tz", [NEW_YORK, "exchange"])
def test_times_without_a_zone_are_read_in_the_one_that_is_named_whatever_the_season(tmp_path, tz):
    path = minute_file(tmp_path, "2024-03-08 09:30:00", "2024-03-11 09:30")

    bars, _ = bars_of(path, MINUTES, tz)

    assert times(bars) == ["2024-03-08 14:30:00", "2024-03-11 13:30:00"]


def test_times_without_a_zone_are_refused_where_none_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"have no time zone \(the first is 2024-03-08 09:30:00\); name it with --tz"):
        bars_of(minute_file(tmp_path, "2024-03-08 09:30:00"), MINUTES)


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        ("2024-03-10 02:30:00", "2024-03-10 02:30:00, which does not exist in America/New_York"),
        ("2024-11-03 01:30:00", "2024-11-03 01:30:00, which is there twice in America/New_York"),
    ],
)
def test_a_time_that_the_change_of_the_clock_skips_or_repeats_is_refused(tmp_path, stamp, said):
    with pytest.raises(BadBars, match=said):
        bars_of(minute_file(tmp_path, "2024-03-08 09:30:00", stamp), MINUTES, NEW_YORK)


def test_a_date_beside_a_time_of_day_is_one_time(tmp_path):
    path = csv_file(tmp_path, "Time,Date,Open,High,Low,Close", "14:31,2024.03.08,1,2,1,2", "14:30,2024.03.08,1,2,1,2")

    bars, mapping = bars_of(path, MINUTES, "UTC")

    assert times(bars) == ["2024-03-08 14:30:00", "2024-03-08 14:31:00"]
    assert (mapping["Time"], mapping["Date"]) == ("time", "time")


@pytest.mark.parametrize(
    ("stamps", "tz"),
    [
        (["2024-01-02", "2024-01-03"], None),
        (["20240102", "20240103"], None),
        (["01/02/2024", "01/03/2024", "01/31/2024"], None),
        (["02.01.2024", "03.01.2024"], None),
        (["2024-01-02 00:00:00-05:00", "2024-01-03 00:00:00-05:00"], None),
        (["1704171600", "1704258000"], "exchange"),  # midnights in New York
    ],
)
def test_daily_bars_are_stamped_with_their_dates(tmp_path, stamps, tz):
    bars, _ = bars_of(minute_file(tmp_path, *stamps), DAILY, tz)

    assert times(bars)[:2] == ["2024-01-02 00:00:00", "2024-01-03 00:00:00"]


@pytest.mark.parametrize(
    ("series", "stamps", "error", "said"),
    [
        (DAILY, ["03/04/2024", "05/06/2024"], UsageError, "day or month first"),
        (DAILY, ["2024-01-02 15:00:00"], BadBars, "is not a valid date"),
        (DAILY, ["2024-02-30"], BadBars, "'2024-02-30' as a time"),
        (DAILY, ["2024-01-02", ""], BadBars, "no time in line 3"),
        (DAILY, ["soon"], BadBars, "'soon' as a time"),
        (MINUTES, ["2024-01-02", "2024-01-03"], BadBars, "dates without times of day"),
        (MINUTES, ["94668480000000000000000"], BadBars, "neither YYYYMMDD nor seconds, milliseconds"),
        (MINUTES, ["2024-01-02 09:30:00 Mars/Base"], BadBars, "Mars/Base"),
    ],
)
def test_times_that_are_no_stamps_of_bars_are_refused(tmp_path, series, stamps, error, said):
    with pytest.raises(error, match=said):
        bars_of(minute_file(tmp_path, *stamps), series, NEW_YORK)


@pytest.mark.parametrize(("close", "error"), [("11", None), ("12", BadBars)])
def test_of_two_rows_that_are_the_same_one_is_left_out_and_others_are_refused(tmp_path, close, error):
    path = csv_file(tmp_path, "date,open,high,low,close", "2024-01-02,10,12,9,11", f"2024-01-02,10,12,9,{close}")

    if error is None:
        read = checked_bars(path, DAILY, FileOptions())
        assert len(read.bars) == 1
        assert "newest first" not in read.how
    else:
        said = "1 bars with the time of another, the first 2024-01-02 .* in line 2 and line 3, with close 11.0 and 12.0"
        with pytest.raises(error, match=said):
            bars_of(path, DAILY)


def test_dates_alone_are_no_minutes_and_the_daily_series_is_named_in_short(tmp_path):
    path = csv_file(tmp_path, "date,open,high,low,close", "2024-01-02,10,12,9,11", "2024-01-03,10,12,9,11")

    with pytest.raises(BadBars, match=f"name a daily series, such as {DAILY.short}$"):
        bars_of(path, MINUTES, NEW_YORK)


def test_a_zone_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown time zone 'Mars/Base'"):
        bars_of(minute_file(tmp_path, "2024-03-08 09:30:00"), MINUTES, "Mars/Base")


# --- numbers


def test_an_empty_volume_and_minus_one_are_null_and_a_price_keeps_its_digits(tmp_path):
    rows = ("2024-01-02,0.1,0.30000000000000004,0.1,0.1,,-1", "2024-01-03,1,1,1,1, 7 ,3")
    path = csv_file(tmp_path, "date,open,high,low,close,volume,trades", *rows)

    bars, _ = bars_of(path, DAILY)

    assert bars["high"][0].as_py() == 0.1 + 0.2
    assert bars["volume"].to_pylist() == [None, 7]
    assert bars["trades"].to_pylist() == [None, 3]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2024-01-02,10,12,9,", "close missing"),
        ("2024-01-02,10,12,9,n/a", "close missing"),
        ("2024-01-02,10,12,9,eleven", "no plain number as close in line 2: 'eleven'"),
        ('2024-01-02,10,"1,20.5",9,11', "no plain number as high in line 2: '1,20.5'"),
        ("2024-01-02,10,8,9,11", "high below another price"),
    ],
)
def test_prices_that_are_none_are_refused(tmp_path, row, said):
    with pytest.raises(BadBars, match=said):
        bars_of(csv_file(tmp_path, "date,open,high,low,close", row), DAILY)


@pytest.mark.parametrize("row", ["2024-01-02,10,12,9", "2024-01-02,10,12,9,11,12"])
def test_a_row_with_other_fields_than_the_head_is_refused(tmp_path, row):
    with pytest.raises(UsageError, match="the same number of fields"):
        bars_of(csv_file(tmp_path, "date,open,high,low,close", "2024-01-01,1,1,1,1", row), DAILY)


# --- there and back


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("key", "dates"),
    [
        ("AAPL/1day", ("2024-01-02", "2024-06-28")),
        ("AAPL/1min", ("2024-03-08", "2024-03-11")),  # the clock is put forward between them
        ("EUR-CASH/5mins", ("2024-10-31", "2024-11-05")),  # ... and back, while forex is closed
    ],
)
def test_what_was_exported_and_imported_is_the_same(tmp_path, ending, key, dates):
    series, path = Series.parse(key), tmp_path / f"bars.{ending}"
    before, after = store_with(tmp_path / "before", {key: dates}), Store(tmp_path / "after")

    write_bars(before.read(series), path, series)
    bars, _ = bars_of(path, series)
    after.write(series, span_of_bars(bars, series), bars)

    assert after.manifest(series).content == before.manifest(series).content
    assert after.read(series).equals(before.read(series))


def test_a_file_is_replaced_only_where_that_is_wanted(tmp_path, sample):
    path, bars = csv_file(tmp_path, "mine"), sample.read(DAILY)

    with pytest.raises(UsageError, match="exists"):
        write_bars(bars, path, DAILY)
    kept = path.read_text()
    write_bars(bars, path, DAILY, overwrite=True)

    assert kept == "mine\n"
    assert path.read_text().splitlines()[0] == "time,open,high,low,close,volume,average,trades"
    assert [each.name for each in tmp_path.iterdir()] == ["prices.csv"]


def test_a_file_that_disagrees_with_the_store_changes_nothing(tmp_path, sample):
    store = store_with(tmp_path / "store", {"AAPL/1day": ("2024-01-02", "2024-01-05")})
    before = store.manifest(DAILY)
    bars, _ = bars_of(csv_file(tmp_path, "date,open,high,low,close", "2024-01-03,1,1,1,1"), DAILY)

    with pytest.raises(Conflict):
        store.write(DAILY, span_of_bars(bars, DAILY), bars)

    assert store.manifest(DAILY) == before


def test_the_span_of_bars_ends_with_the_last_of_them(tmp_path):
    bars, _ = bars_of(minute_file(tmp_path, "2024-03-08 14:30Z", "2024-03-08 14:33Z"), MINUTES)

    span = span_of_bars(bars, MINUTES)

    assert span == Span(datetime(2024, 3, 8, 14, 30, tzinfo=UTC), datetime(2024, 3, 8, 14, 34, tzinfo=UTC))


def test_a_file_without_rows_has_no_span(tmp_path):
    bars, _ = bars_of(csv_file(tmp_path, "date,open,high,low,close"), DAILY)

    with pytest.raises(NoBars, match="holds no bars"):
        span_of_bars(bars, DAILY)


# --- the commands


def test_import_says_what_it_took_for_what_and_how_many_bars_are_new(call, tmp_path):
    path = csv_file(tmp_path, "Date,Open,High,Low,Close,Adj Close", "2024-01-02,1,1,1,1,1", "2024-01-03,1,1,1,1,1")
    words = ("import", path, "AAPL/1day", "--store", tmp_path / "store")

    first, again = call(*words), call(*words, "--json")

    assert first[:2] == (0, "AAPL/1day: 2 bars (2 new), 2024-01-02 to 2024-01-03\n")
    assert "Date = time, Open = open, High = high, Low = low, Close = close, Adj Close = –" in first[2]
    assert json.loads(again[1])["series"][str(DAILY)]["bars_added"] == 0


def test_import_of_bars_that_disagree_with_the_store_ends_with_3(call, tmp_path):
    store_with(tmp_path / "store", {"AAPL/1day": ("2024-01-02", "2024-01-05")})
    path = csv_file(tmp_path, "date,open,high,low,close", "2024-01-03,1,1,1,1")

    code, out, err = call("import", path, "AAPL/1day", "--store", tmp_path / "store")

    assert (code, out) == (3, "")
    assert "the stored bars were kept" in err


def test_import_of_times_without_a_zone_says_how_to_name_it(call, tmp_path):
    words = ("import", minute_file(tmp_path, "2024-03-08 09:30"), "AAPL/1min", "--store", tmp_path / "store")

    refused, taken = call(*words), call(*words, "--tz", "exchange")

    assert refused[0] == 2
    assert "--tz exchange" in refused[2]
    assert taken[0] == 0


def test_export_writes_the_sessions_that_are_asked_for(call, tmp_path, sample):
    words = ("export", "AAPL/1day", tmp_path / "a.csv", "--store", sample.root)

    codes = [
        call(*words, "--since", "2013-02-28")[0],
        call(*words)[0],
        call(*words, "--until", "2000-03-01", "--force")[0],
    ]

    assert codes == [0, 2, 0]
    assert [line[:10] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]] == ["2000-03-01"]


# --- a folder as a source


def test_a_download_from_a_folder_fills_a_store(tmp_path, sample):
    write_bars(sample.read(DAILY), tmp_path / "AAPL_1day.csv", DAILY)
    store = Store(tmp_path / "store")

    with connect(f"csv:{tmp_path}") as source:
        report = download(store, source, DAILY, (date(2000, 3, 1), date(2013, 3, 1)))

    assert report.complete
    assert store.manifest(DAILY).content == sample.manifest(DAILY).content


@pytest.mark.parametrize(
    "text",
    ["AAPL/1secs", "EUR-CASH/1day/TRADES", "SPY-OPT-SMART-USD-20241218-500-C/1day", "ES-FUT-CME-USD-202309/1day"],
)
def test_what_ib_never_serves_is_taken_from_a_folder(tmp_path, text):
    series = Series.parse(text)
    stamp = "2024-01-03" if series.size.daily else "2024-01-03T14:30:00Z"
    csv_file(tmp_path, "time,open,high,low,close", f"{stamp},10,12,9,11", name=f"{series.short.replace('/', '_')}.csv")
    store = Store(tmp_path / "store")

    with connect(f"csv:{tmp_path}") as source:
        report = download(store, source, series, (date(2024, 1, 3), date(2024, 1, 3)))

    assert report.series[0].errors == ()
    assert store.read(series)["close"].to_pylist() == [11]


def test_the_command_downloads_seconds_that_are_years_old_from_a_folder(tmp_path, call):
    csv_file(tmp_path, "time,open,high,low,close", "2024-01-03T14:30:00Z,10,12,9,11", name="AAPL_1secs.csv")
    words = ("AAPL/1secs", "--since", "2024-01-03", "--until", "2024-01-03", "--source", f"csv:{tmp_path}")

    code, _, said = call("download", *words, "--store", str(tmp_path / "store"))

    assert "older than" not in said
    assert len(Store(tmp_path / "store").read(Series.parse("AAPL/1secs"))) == 1
    assert code == 0


def test_a_download_from_a_folder_is_planned_without_waiting_for_a_budget(tmp_path):
    with connect(f"csv:{tmp_path}") as source:
        (plan,) = plan_download(
            Store(tmp_path / "store"), source, Series.parse("AAPL/1secs"), (date(2024, 1, 3), date(2024, 6, 28))
        )

    assert (plan.error, len(plan.windows), plan.seconds) == ("", 1, 0.0)


def test_a_file_that_breaks_the_rules_of_a_bar_fails_its_series_and_no_other(tmp_path):
    csv_file(tmp_path, "date,open,high,low,close", "2024-01-03,10,9,11,10", name="AAPL.csv")
    csv_file(tmp_path, "date,open,high,low,close", "2024-01-03,1,1,1,1", name="IBM.csv")

    with connect(f"csv:{tmp_path}") as source:
        report = download(
            Store(tmp_path / "store"), source, [DAILY, Series.parse("IBM/1day")], (date(2024, 1, 3), date(2024, 1, 3))
        )

    assert [one.status for one in report.series] == ["failed", "complete"]
    assert "high below another price" in report.series[0].errors[0]
    assert (report.exit_code, report.ended_by) == (3, None)


class Closed(SourceError):
    """An error of a vendor's own, which ends whatever is under way."""

    scope = "all"


class Busy(SourceError):
    """An error of a vendor's own, after which to ask again."""

    retry = True


class Failing(FileSource):
    """Files of which each request fails."""

    def __init__(self, folder, error):
        super().__init__(folder)
        self.error = error

    def fetch(self, series, window):
        self.requests += 1
        raise self.error("as asked for")


@pytest.mark.parametrize(("error", "requests", "ended"), [(Closed, 1, True), (Busy, 6, False), (SourceError, 2, False)])
def test_an_error_says_whether_to_ask_again_and_what_it_ends(tmp_path, error, requests, ended):
    wanted, day = [DAILY, Series.parse("IBM/1day")], (date(2024, 1, 3), date(2024, 1, 3))
    persistence = Persistence(tries=3, pause=0.001)

    report = download(
        Store(tmp_path / "store"), Failing(tmp_path, error), wanted, day, persistence=persistence, workers=1
    )

    assert report.requests == requests
    assert isinstance(report.ended_by, error) == ended


def test_a_folder_says_in_which_zone_its_times_are(tmp_path):
    minute_file(tmp_path, "2024-03-08 09:30:00").rename(tmp_path / "AAPL.csv")
    day = Span.of_dates(date(2024, 3, 8), date(2024, 3, 8))

    with connect(f"csv:{tmp_path}?tz={NEW_YORK}") as source:
        bars = source.fetch(MINUTES, day)

    assert times(bars) == ["2024-03-08 14:30:00"]


def test_a_series_own_file_is_preferred_and_bars_outside_the_window_are_left(tmp_path):
    csv_file(tmp_path, "date,open,high,low,close", "2024-01-02,1,1,1,1", name="AAPL.csv")
    csv_file(tmp_path, "date,open,high,low,close", "2024-01-02,2,2,2,2", "2024-01-03,3,3,3,3", name="AAPL_1day.csv")

    bars = FileSource(tmp_path).fetch(DAILY, Span.of_dates(date(2024, 1, 2), date(2024, 1, 2)))

    assert bars["close"].to_pylist() == [2]


def test_a_window_without_bars_is_no_data_and_a_missing_file_is_not(tmp_path):
    csv_file(tmp_path, "date,open,high,low,close", "2024-01-02,1,1,1,1", name="AAPL.csv")
    source, week = FileSource(tmp_path), Span.of_dates(date(2020, 1, 6), date(2020, 1, 10))

    with pytest.raises(NoData):
        source.fetch(DAILY, week)
    with pytest.raises(UnknownContract, match=r"IBM_1day\.csv"):
        source.fetch(Series.parse("IBM/1day"), week)

    assert source.head(DAILY) == datetime(2024, 1, 2, tzinfo=UTC)


def test_two_files_of_one_series_are_refused(tmp_path, sample):
    for ending in ("csv", "parquet"):
        write_bars(sample.read(DAILY), tmp_path / f"AAPL_1day.{ending}", DAILY)

    with pytest.raises(UsageError, match="both hold AAPL/1day"):
        FileSource(tmp_path).head(DAILY)


@pytest.mark.parametrize("rest", ["{folder}?zone=UTC", "{folder}?tz=", "{folder}/none"])
def test_an_address_of_no_folder_or_of_more_than_a_zone_is_refused(tmp_path, rest):
    with pytest.raises(UsageError, match="csv:FOLDER"):
        connect(f"csv:{rest.format(folder=tmp_path)}")


@pytest.fixture
def acme():
    """Return the class in the contributing guide."""
    (code,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    return names["Acme"]


def test_the_vendor_of_the_contributing_guide_does_what_a_source_must(acme):
    members = {name for name in (*vars(Source), *Source.__annotations__) if not name.startswith("_")}

    assert members - {"refuse", "finished", "seconds_for", "first", "believed"} <= set(vars(acme))


def test_a_vendor_that_lacks_what_a_source_must_do_cannot_be_made(acme):
    with pytest.raises(TypeError, match="fetch"):
        type("Unfinished", (acme,), {"fetch": Source.fetch})(lambda symbol, span: None)


def test_the_vendor_of_the_contributing_guide_fills_a_store(acme, tmp_path):
    answers = pd.DataFrame({"date": ["2024-01-02"], "open": [1], "high": [2], "low": [1], "close": [2]})
    store = Store(tmp_path)

    with acme(lambda symbol, span: answers) as source:
        report = download(store, source, DAILY, (date(2024, 1, 2), date(2024, 1, 2)))

    assert report.complete
    assert store.read(DAILY)["close"].to_pylist() == [2]


# Numbers that stand for none

UNSET = ("2147483647", "9223372036854775807", "170141183460469231731687303715884105727", "1.7976931348623157E308")


@pytest.mark.parametrize("unset", UNSET)
def test_unset_volumes_averages_and_counts_of_a_file_are_missing(tmp_path, unset):
    path = tmp_path / "a.csv"
    path.write_text(f"date,open,high,low,close,volume,vwap,trades\n2024-01-02,10,12,9,11,{unset},{unset},{unset}\n")

    bars, _ = bars_of(path, DAILY)

    assert [bars[name].to_pylist() for name in ("close", "volume", "average", "trades")] == [
        [11.0],
        [None],
        [None],
        [None],
    ]


@pytest.mark.parametrize("unset", [2**31 - 1, 2**63 - 1])
def test_unset_counts_of_a_frame_of_whole_numbers_are_missing(unset):
    frame = pd.DataFrame(
        {"date": ["2024-01-02"], "open": [10], "high": [12], "low": [9], "close": [11], "trades": [unset]}
    )

    bars, _ = bars_of(frame, DAILY)

    assert bars["trades"].to_pylist() == [None]


@pytest.mark.parametrize("unset", UNSET)
@pytest.mark.parametrize("price", ["high", "all"])
def test_unset_prices_of_a_file_are_refused(tmp_path, unset, price):
    row = f"10,{unset},9,11" if price == "high" else ",".join([unset] * 4)
    (tmp_path / "a.csv").write_text(f"date,open,high,low,close\n2024-01-02,{row}\n")

    with pytest.raises(BadBars, match="implausible"):
        bars_of(tmp_path / "a.csv", DAILY)
