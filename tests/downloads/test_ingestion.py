"""Frames as others have them go into a store and into a run: pandas, polars, Arrow; times in an index or a column."""

import io
from datetime import UTC, datetime
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import backtest
from backtest.baselines.drift import save_runs
from backtest.errors import BadBars, Conflict, NoBars, UsageError
from backtest.market.bars import extra_of, rows_digest
from backtest.store.store import Store

DAYS = pd.DatetimeIndex([day for day in pd.bdate_range("2024-01-02", "2024-02-16") if f"{day:%m-%d}" != "01-15"])
CLOSES = [100.0 + 3 * (n % 5) for n in range(len(DAYS))]
NEW_YORK = "America/New_York"


class Holds(bt.Strategy):
    """Buys one at once."""

    def next(self):
        if not self.position:
            self.buy(size=1)


def frame(index=DAYS):
    closes = np.array(CLOSES[: len(index)])
    columns = {"Open": closes - 0.5, "High": closes + 1, "Low": closes - 1, "Close": closes, "Volume": 1000}
    return pd.DataFrame(columns, index=index)


def yahoo(*symbols, names=("Price", "Ticker"), **more):
    """Return a frame as yfinance's download gives it: two levels of columns, in the order of the alphabet."""
    parts = {(name, symbol): column for symbol in symbols for name, column in frame().assign(**more).items()}
    found = pd.DataFrame(parts).sort_index(axis=1)
    found.columns = found.columns.set_names(list(names))
    return found.rename_axis("Date")


def by_ticker(*symbols):
    """Return a frame as yfinance's download with group_by="ticker" gives it."""
    return yahoo(*symbols).swaplevel(axis=1).sort_index(axis=1)


def alpaca():
    return (
        frame(DAYS.tz_localize(NEW_YORK))
        .rename_axis("timestamp")
        .assign(symbol="AAPL")
        .set_index("symbol", append=True)
    )


# Name -> frame; each has the same bars
FRAMES = {
    "an index without a name, as of backtesting.py": frame,
    "an index with a name": lambda: frame().rename_axis("Date"),
    "an index of another name": lambda: frame().rename_axis("when"),
    "a column of times": lambda: frame().reset_index(names="date"),
    "a column of texts": lambda: frame().assign(date=[f"{day:%d.%m.%Y}" for day in DAYS]).reset_index(drop=True),
    "an index of texts": lambda: frame(DAYS.strftime("%Y-%m-%d")),
    "an index of dates": lambda: frame(pd.Index(DAYS.date)),
    "an index of periods": lambda: frame(DAYS.to_period("D")),
    "midnights of New York": lambda: frame(DAYS.tz_localize(NEW_YORK)),
    "midnights of UTC": lambda: frame(DAYS.tz_localize("UTC")),
    "openings of New York": lambda: frame((DAYS + pd.Timedelta("9h30min")).tz_localize(NEW_YORK)),
    "small letters": lambda: frame().rename(columns=str.lower),
    "columns in another order": lambda: frame()[["Volume", "Close", "Low", "High", "Open"]],
    "objects": lambda: frame().astype(object),
    "texts of numbers": lambda: frame().map(str),
    "half precision": lambda: frame().astype("float32"),
    "not in order": lambda: frame().sample(frac=1, random_state=3),
    "a bar twice": lambda: pd.concat([frame(), frame().iloc[[3]]]),
    "yfinance, one ticker": lambda: yahoo("AAPL"),
    "yfinance, one ticker, an old version": lambda: yahoo("AAPL", names=(None, None)),
    "yfinance, history": lambda: frame(DAYS.tz_localize(NEW_YORK)).rename_axis("Date").assign(Dividends=0.0),
    "Alpaca's index of two levels": alpaca,
    "categories": lambda: frame().reset_index(names="date").assign(symbol=pd.Categorical(["AAPL"] * len(DAYS))),
    "nullable types": lambda: frame().convert_dtypes(),
    "types of Arrow in pandas": lambda: frame().convert_dtypes(dtype_backend="pyarrow"),
    "a CSV of an index without a name": lambda: pd.read_csv(io.StringIO(frame().to_csv())),
    "names of tuples": lambda: frame().rename(columns=lambda name: f"('{name}', 'AAPL')"),
    "names with the symbol": lambda: frame().add_suffix("_AAPL"),
    "a row without a price": lambda: frame().reindex([*DAYS, pd.Timestamp("2024-02-20")]),
    "a column twice": lambda: pd.concat([frame(), frame()[["Close"]]], axis=1),
    "polars": lambda: pl.from_pandas(frame().reset_index(names="date")),
    "polars, not read yet": lambda: pl.from_pandas(frame().reset_index(names="date")).lazy(),
    "polars, dates": lambda: pl.from_pandas(frame().reset_index(names="date")).cast({"date": pl.Date}),
    "Arrow": lambda: pa.Table.from_pandas(frame().reset_index(names="date")),
    "Arrow, with pandas' index": lambda: pa.Table.from_pandas(frame()),
    "Arrow, a batch": lambda: pa.RecordBatch.from_pandas(frame().reset_index(names="date")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_goes_into_a_store(tmp_path, name):
    report = backtest.ingest(FRAMES[name](), "AAPL/1day", tmp_path)

    bars = Store(tmp_path).read("AAPL/1day")
    assert (report.complete, report.series[0].bars_added) == (True, len(DAYS))
    assert [moment.date() for moment in bars["time"].to_pylist()] == list(DAYS.date)
    assert bars["close"].to_pylist() == CLOSES
    assert bars["high"].to_pylist() == [close + 1 for close in CLOSES]
    assert set(bars["volume"].to_pylist()) == {1000}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_a_run_takes_the_frame_itself(name):
    result = backtest.run(Holds, FRAMES[name]())

    # One is bought at the second open, and held to the end.
    assert result.equity.iloc[-1] == 100_000 - (CLOSES[1] - 0.5) + CLOSES[-1]
    assert (result.series, result.currency) == (["FRAME-STK-FRAME-XXX/1day"], "without a currency")


def test_two_tickers_of_yfinance_are_told_apart_by_the_series(tmp_path):
    both = yahoo("AAPL", "MSFT")
    both[("Close", "MSFT")] += 0.25

    for folder, wanted in (("each", ["MSFT/1day", "AAPL/1day"]), ("all", "*/1day")):
        for shape in (both, both.swaplevel(axis=1).sort_index(axis=1)):
            store = Store(tmp_path / folder / str(shape.columns.names[0]))
            backtest.ingest(shape, wanted, store)
            assert store.read("MSFT/1day")["close"].to_pylist() == [close + 0.25 for close in CLOSES]
            assert store.read("AAPL/1day")["close"].to_pylist() == CLOSES


def test_a_dict_of_frames_is_stored_and_run_on_under_its_names(tmp_path):
    frames = {"AAPL/1day": frame(), "MSFT/1day": pl.from_pandas(frame().reset_index(names="date"))}

    report = backtest.ingest(frames, None, tmp_path)
    result = backtest.run(Holds, {**frames, "SPY/1day": frame()}, benchmark="SPY/1day", costs="none")

    assert [one.series.short for one in report.series] == ["AAPL/1day", "MSFT/1day"]
    assert (result.series, result.currency) == (["AAPL/1day", "MSFT/1day"], "USD")
    assert [key.partition("-")[0] for key in result.manifest["series"]] == ["AAPL", "MSFT", "SPY"]


def test_columns_of_numbers_are_kept_as_lines_and_texts_are_not(tmp_path):
    more = frame().assign(signal=1.5, note="buy", size=2, **{"Stock Splits": 0.0})

    class Reads(bt.Strategy):
        def next(self):
            self.seen = (self.data.signal[0], self.data.size_[0], self.data.Stock_Splits[0])
            assert self.seen == (1.5, 2.0, 0.0)

    backtest.ingest(more, "AAPL/1day", tmp_path / "all")
    backtest.ingest(more, "AAPL/1day", tmp_path / "one", extra=["signal"])
    backtest.run(Reads, more)

    assert extra_of(Store(tmp_path / "all").read("AAPL/1day")) == ("signal", "size_", "Stock_Splits")
    assert extra_of(Store(tmp_path / "one").read("AAPL/1day")) == ("signal",)


def test_the_manifest_of_such_a_run_has_the_digest_that_a_store_would_give(tmp_path):
    backtest.ingest(frame(), "AAPL/1day", tmp_path)

    of_frame = backtest.run(Holds, {"AAPL/1day": frame()})
    of_store = backtest.run(Holds, "AAPL/1day", store=tmp_path)

    (kept,) = of_frame.manifest["series"].values()
    assert kept["rows_sha256"] == rows_digest(Store(tmp_path).read("AAPL/1day"))
    assert of_frame.equity.equals(of_store.equity)
    assert of_frame.manifest["series"] == of_store.manifest["series"]


def test_a_run_on_a_frame_leaves_nothing_behind_and_is_kept_like_others(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    result = backtest.run(Holds, frame())
    inside = list(tmp_path.iterdir())
    result.save(tmp_path / "run")

    assert inside == []
    assert backtest.RunResult.load(tmp_path / "run").equity.equals(result.equity)


def test_a_baseline_of_such_a_run_asks_for_a_store(tmp_path):
    result = backtest.run(Holds, frame())

    with pytest.raises(UsageError, match=r"was made on a frame, .* put them into a store with backtest\.ingest\(frame"):
        save_runs([result], tmp_path / "baselines", Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("periods", "freq", "series"),
    [
        (60, "min", "FRAME-STK-FRAME-XXX/1min"),
        (40, "5min", "FRAME-STK-FRAME-XXX/5mins"),
        (30, "h", "FRAME-CRYPTO-FRAME-XXX/1hour/TRADES"),
        (50, "D", "FRAME-CRYPTO-FRAME-XXX/1day/TRADES"),
        (20, "W-FRI", "FRAME-STK-FRAME-XXX/1week"),
        (20, "ME", "FRAME-STK-FRAME-XXX/1month"),
    ],
)
def test_the_size_of_bars_is_seen_in_the_times_and_weekends_say_that_it_trades_always(periods, freq, series):
    start = pd.Timestamp("2024-03-01 14:30", tz="UTC") if freq in ("min", "5min", "h") else pd.Timestamp("2020-01-03")
    prices = np.arange(100.0, 100.0 + periods)
    bars = pd.DataFrame({"open": prices, "high": prices, "low": prices, "close": prices},
                        index=pd.date_range(start, periods=periods, freq=freq))  # fmt: skip

    assert backtest.run(Holds, bars).series == [series]


MINUTES = frame(pd.date_range("2024-03-28 09:30", periods=len(DAYS), freq="min"))
WRONG = {
    "times without a zone": (MINUTES, "AAPL/1min", {}, UsageError, r'name it with tz="America/New_York", or tz="exch'),
    "no frame": (3, "AAPL/1day", {}, UsageError, "int is not a data frame; write a pandas or polars data frame"),
    "a list": ([1, 2], "AAPL/1day", {}, UsageError, "list is not a data frame"),
    "one column": (frame()["Close"], "AAPL/1day", {}, UsageError, "a pandas Series has one column"),
    "closes alone": (frame()[["Close"]], "AAPL/1day", {}, UsageError, "no column for open, high, low"),
    "no rows": (frame().iloc[:0], "AAPL/1day", {}, NoBars, "the frame holds no bars of AAPL/1day"),
    "no series": (frame(), None, {}, UsageError, 'series is None; write, for example, "AAPL/1day"'),
    "a series of a dict": ({"AAPL/1day": frame()}, "AAPL/1day", {}, UsageError, "the keys of the dict are the series"),
    "a high below": (
        frame().assign(High=1.0),
        "AAPL/1day",
        {},
        BadBars,
        r"row 1 \(2024-01-02\): high 1 is below .* leave_out=\"bad\"",
    ),
    "two values": (pd.concat([frame(), frame().iloc[[3]] * 1.5]), "AAPL/1day", {}, BadBars, "in row 4 and row 34"),
    "another's": (yahoo("MSFT"), "AAPL/1day", {}, UsageError, r'has bars of MSFT, not of AAPL .*symbol="MSFT"'),
    "minutes as days": (
        MINUTES.tz_localize(NEW_YORK).iloc[3:],
        "AAPL/1day",
        {},
        BadBars,
        "as the time of a daily bar, which is not a valid date",
    ),
    "a word": (frame(), "AAPL/1day", {"stamped": "soon"}, UsageError, "write open or close"),
    "what is nothing to leave out": (frame(), "AAPL/1day", {"leave_out": "all"}, UsageError, "write bad or outside"),
    "a split": (
        frame() * np.where(np.arange(len(DAYS)) > 10, 0.1, 1.0)[:, None],
        "AAPL/1day",
        {},
        BadBars,
        "accept_split=True",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_refused_with_what_to_write_in_python(tmp_path, name):
    given, series, options, error, said = WRONG[name]

    with pytest.raises(error, match=said):
        backtest.ingest(given, series, tmp_path / "store", **options)

    assert not (tmp_path / "store").exists()


def test_other_values_are_a_conflict_until_they_are_accepted(tmp_path):
    backtest.ingest(frame(), "AAPL/1day", tmp_path)
    other = frame()
    other.iloc[4, 3] += 0.5

    with pytest.raises(
        Conflict, match=r"row 5 \(2024-01-08\): close 112.0 stored, 112.5 in the file; .* accept_revision=True"
    ):
        backtest.ingest(other, "AAPL/1day", tmp_path)
    report = backtest.ingest(other, "AAPL/1day", tmp_path, accept_revision=True)

    assert report.series[0].bars_added == 0
    assert Store(tmp_path).read("AAPL/1day")["close"][4].as_py() == 112.5


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (MINUTES, {}, r'have no time zone .* name it with tz="America/New_York", or tz="exchange"'),
        (MINUTES, {"tz": "Nowhere"}, "Nowhere"),
        (frame(), {"benchmark": "SPY/1day"}, "the benchmark SPY/1day is not among the frames; give its bars too"),
        ({"AAPL/1day": frame()}, {"benchmark": "SPY/1day"}, "the benchmark SPY/1day is not among the frames"),
        (yahoo("AAPL", "MSFT"), {}, r'of AAPL, MSFT; pass a dict .*: \{"AAPL/1day": frame, "MSFT/1day": frame\}'),
        (frame(), {"store": "data/bars"}, "leave store out, or import the frame"),
        ("AAPL/1day", {}, "store is None; write a store or its folder, such as data/bars, or a frame"),
        ("AAPL/1day", {"store": "data/bars", "tz": "UTC"}, "tz='UTC' is the time zone of a frame"),
    ],
)
def test_a_run_says_what_to_write_where_a_frame_is_not_enough(given, options, said):
    with pytest.raises(UsageError, match=said):
        backtest.run(Holds, given, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"currency": "EUR"},
            "exchange rate from 2023-12-26 to .* is not among the frames; .* of EUR-CASH/1day",
        ),
        ({"dividends": "derived"}, r"AAPL/1day/ADJUSTED_LAST is not among the frames; put .*backtest\.ingest\(frame, "),
        ({"borrow": "stored"}, "AAPL/1day/FEE_RATE is not among the frames; put each frame"),
        ({"slippage": "spread"}, "AAPL/1day/BID is not among the frames; put each frame"),
    ],
)
def test_what_a_run_on_frames_lacks_is_no_folder_that_will_be_gone(options, said):
    with pytest.raises(NoBars, match=said) as error:
        backtest.run(Holds, {"AAPL/1day": frame()}, **options)

    assert "backtest-frame" not in str(error.value)


def test_a_week_under_way_is_left_out_and_said(tmp_path):
    mondays = pd.to_datetime(["2024-03-04", "2024-03-11", "2024-03-18"])
    store = Store(tmp_path, clock=lambda: datetime(2024, 3, 20, 15, tzinfo=UTC))

    report = backtest.ingest(frame(mondays), "AAPL/1week", store)

    assert [f"{moment:%m-%d}" for moment in store.read("AAPL/1week")["time"].to_pylist()] == ["03-08", "03-15"]
    assert "left out 1 unfinished week: row 3" in report.series[0].notes


def test_what_takes_series_of_a_store_alone_says_how_a_frame_comes_there(tmp_path):
    with pytest.raises(UsageError, match=r"a data frame is not a series; .* put it into a store with backtest\.ingest"):
        backtest.download(tmp_path, f"csv:{tmp_path}", frame(), ("2024-01-02", "2024-01-31"))


def test_times_without_a_zone_are_in_the_one_that_is_named():
    here = backtest.run(Holds, MINUTES.tz_localize(NEW_YORK))
    named = [backtest.run(Holds, given, tz=NEW_YORK) for given in (MINUTES, {"AAPL/1min": MINUTES})]

    assert here.record["time"][0].as_py() == datetime(2024, 3, 28, 13, 31, tzinfo=UTC)
    assert all(one.record["time"].equals(here.record["time"]) for one in named)
    assert named[0].equity.equals(here.equity)


def test_records_and_columns_without_names_are_taken_into_a_store(tmp_path):
    rows = frame().reset_index(names="date")
    unnamed = frame().set_axis(range(5), axis=1)

    for number, given in enumerate(
        [rows.to_dict("records"), rows.to_records(index=False), rows.to_dict("list"), unnamed]
    ):
        backtest.ingest(
            given, "AAPL/1day", tmp_path / str(number), columns="open,high,low,close,volume" * (number == 3)
        )
        assert Store(tmp_path / str(number)).read("AAPL/1day")["close"].to_pylist() == CLOSES


def test_a_file_may_stand_for_a_frame(tmp_path):
    frame().to_csv(tmp_path / "a.csv")

    backtest.ingest(Path(tmp_path / "a.csv"), "AAPL/1day", tmp_path / "store")

    assert Store(tmp_path / "store").read("AAPL/1day")["close"].to_pylist() == CLOSES


def test_bars_of_later_days_are_added_to_those_that_are_stored(tmp_path):
    store = Store(tmp_path)
    days = pd.date_range("2024-01-02", periods=8, freq="B", tz="UTC")
    frame = pd.DataFrame({name: [100.0 + n for n in range(8)] for name in ("open", "high", "low", "close")}, index=days)

    for part in (frame[:3], frame[3:]):
        backtest.ingest(part, "AAPL/1day", store)

    assert store.read("AAPL/1day")["close"].to_pylist() == frame["close"].tolist()
