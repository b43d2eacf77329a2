"""Files in the styles of vendors: each is imported with the right bars, or refused in a sentence that helps."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from places import SUPPORT

from backtest.market.series import Series
from backtest.store.store import Store

FILES = SUPPORT / "vendor_files"
EXPECTED = (FILES / "EXPECTED.csv").read_text(encoding="utf-8")
ROWS = {row["file"]: row for row in csv.DictReader(EXPECTED.splitlines())}
GOOD = [name for name, row in ROWS.items() if row["outcome"] == "bars"]
BAD = [name for name, row in ROWS.items() if row["outcome"] == "refuse"]
# Without their options, the others of those that have some are refused; the series' symbol serves for this one.
NEEDED = [name for name in GOOD if ROWS[name]["options"] and name != "kaggle_all_stocks.csv"]


def bring(call, name, store, options):
    """Import a file, and return exit code, stdout and stderr."""
    return call("import", FILES / name, ROWS[name]["series"], *shlex.split(options), "--store", store)


def stored(store, name):
    """Return the bars that were stored of a file."""
    wanted = Series.parse(ROWS[name]["series"])
    (series,) = Store(store).series()
    assert (series.instrument, series.size, series.prices) == (wanted.instrument, wanted.size, wanted.prices)
    return series, Store(store).read(series)


def test_every_file_has_its_row():
    assert {path.name for path in FILES.iterdir()} - {"EXPECTED.csv"} == set(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_a_file_gives_its_bars(call, tmp_path, name):
    code, _, said = bring(call, name, tmp_path / "store", ROWS[name]["options"])

    assert code == 0, said
    row, (series, bars) = ROWS[name], stored(tmp_path / "store", name)
    form = "%Y-%m-%d" if series.size.daily else "%Y-%m-%dT%H:%M:%SZ"
    first, last = (bars.slice(n, 1).to_pylist()[0] for n in (0, len(bars) - 1))
    assert [len(bars), f"{first['time']:{form}}", first["close"], f"{last['time']:{form}}", last["close"]] == [
        int(row["bars"]),
        row["first_time_utc"],
        float(row["first_close"]),
        row["last_time_utc"],
        float(row["last_close"]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_right_is_refused_with_the_line_and_what_is_wrong(call, tmp_path, name):
    code, out, said = bring(call, name, tmp_path / "store", ROWS[name]["options"])

    lines = re.findall(r"line \d+", ROWS[name]["note"])[:1] or re.findall(r"lines (\d+)", ROWS[name]["note"])
    values = re.findall(r"\d{4}-\d\d-\d\d", ROWS[name]["note"])[:1]
    assert (code in (2, 3), out) == (True, "")
    assert [words for words in (*lines, *values, FILES.name) if words not in said] == []
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_file_does_not_say_is_asked_for_by_the_option_that_says_it(call, tmp_path, name):
    code, out, said = bring(call, name, tmp_path / "store", "")

    assert (code in (2, 3), out) == (True, "")
    assert shlex.split(ROWS[name]["options"])[0] in said
    assert not (tmp_path / "store").exists()


# What EXPECTED.csv says in words


def numbers(store, name, column):
    return stored(store, name)[1][column].to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column", "first"),
    [
        ("investing_com.csv", "volume", 65_670_000.0),  # 65.67M, newest first
        ("thousands.csv", "volume", 65_672_700.0),
        ("mt5_daily_tab.csv", "volume", 65_672_700.0),  # TICKVOL where VOL is 0
        ("binance_spot_noheader.csv", "volume", 12.5),
        ("cryptodatadownload.csv", "volume", 12.5),  # Volume BTC, not Volume USDT
        ("no_volume.csv", "volume", None),
        ("kibot_noheader.csv", "volume", 1000.0),
        ("ibapi_text.csv", "average", 171.2),
        ("ibapi_text.csv", "trades", 33),
        ("ib_insync_df.csv", "trades", 1234),
        ("alpaca.csv", "average", 171.75),
        ("tradingview_5m_iso.csv", "volume", 1000.0),
        ("european_de.csv", "volume", 65_672_700.0),
    ],
)
def test_volumes_averages_and_counts_come_from_the_right_column(call, tmp_path, name, column, first):
    bring(call, name, tmp_path / "store", ROWS[name]["options"])

    assert numbers(tmp_path / "store", name, column)[0] == first


def test_a_later_file_adds_what_is_new_and_a_correction_is_asked_about(call, tmp_path):
    store = tmp_path / "store"
    bring(call, "yahoo.csv", store, "")

    more, refused = bring(call, "yahoo_more.csv", store, ""), bring(call, "yahoo_revised.csv", store, "")
    bring(call, "yahoo_revised.csv", store, "--accept-revision")

    assert more[1] == "AAPL/1day: 6 bars (1 new), 2024-03-22 to 2024-04-01\n"
    assert refused[0] == 3
    assert "line 2 (2024-03-18): close 171.75 stored, 171.95 in the file" in refused[2]
    assert "--accept-revision" in refused[2]
    assert numbers(store, "yahoo.csv", "close")[0] == 171.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gap.csv", "sessions without a bar: 2024-03-21 to 2024-03-22"),
        ("duplicate_dates.csv", "left out 1 repeated line: line 11"),
        ("cryptodatadownload.csv", "symbol 'BTCUSDT' taken as BTC-CRYPTO-PAXOS-USD"),
        ("european_latin1.csv", "decimal commas"),
        ("binance_spot_noheader.csv", "no header: columns by their content"),
        ("dukascopy.csv", "times in UTC"),
        ("investing_com.csv", "months first; newest first"),
    ],
)
def test_what_was_understood_and_left_out_is_said(call, tmp_path, name, said):
    assert said in bring(call, name, tmp_path / "store", "")[2]


def test_a_dry_run_says_it_all_and_writes_nothing(call, tmp_path):
    code, out, said = bring(call, "yahoo.csv", tmp_path / "store", "--dry-run")

    assert (code, out) == (0, "AAPL/1day: 9 bars (9 would be new), 2024-03-18 to 2024-03-28; nothing is written\n")
    assert "Adj Close = –" in said
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "bars"),
    [("high_below_close.csv", 8), ("zero_price.csv", 8), ("weekend.csv", 9), ("holiday_goodfriday.csv", 9)],
)
def test_bars_that_cannot_be_true_are_kept_out_if_that_is_wanted_and_listed(call, tmp_path, name, bars):
    code, out, said = bring(call, name, tmp_path / "store", "--leave-out bad")

    assert (code, out.split(":")[1].split(",")[0]) == (0, f" {bars} bars ({bars} new)")
    line = re.findall(r"line \d+", ROWS[name]["note"])[0]
    assert re.search(rf"left out 1 of {bars + 1} bars: {line}[: ]", said)
    assert len(stored(tmp_path / "store", name)[1]) == bars


# Many files, many symbols


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three files of bars and one of noise."""
    place = tmp_path / "csv"
    place.mkdir()
    for name, copy in (
        ("yahoo", "AAPL"),
        ("stooq", "msft.us"),
        ("tradingview_5m_iso", "AAPL_5mins"),
        ("binary", "IBM"),
    ):
        shutil.copy(FILES / f"{name}.csv", place / f"{copy}.{'txt' if '.' in copy else 'csv'}")
    return place


@pytest.mark.parametrize("words", ["{}", "{}/*", "{}/A*.csv {}/m*.txt {}/IBM.csv"])
def test_the_files_of_a_folder_are_of_the_series_that_they_are_named_after(call, folder, tmp_path, words):
    code, out, said = call("import", *words.replace("{}", str(folder)).split(), "--store", tmp_path / "store")

    assert [one.short for one in Store(tmp_path / "store").series()] == ["AAPL/1day", "AAPL/5mins", "MSFT/1day"]
    assert (code, len(out.splitlines())) == (2, 3)
    assert "IBM.csv is neither text nor a known kind of table" in said
    assert "1 of 4 files were not stored" in said


@pytest.mark.parametrize("words", [["*/1day"], ["AAPL/1day", "--symbol", "all"], []])
def test_each_symbol_of_a_file_is_a_series_of_its_own(call, tmp_path, words):
    code, out, _ = call("import", FILES / "kaggle_all_stocks.csv", *words, "--store", tmp_path / "store")

    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["AAL/1day", "AAPL/1day"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/*.xlsx"], "no file matches"),
        (["{}/none.csv", "AAPL/1day"], "no file"),
        (["{}/AAPL.csv", "AAPL/1dya"], "unknown bar size '1dya'"),
        (["{}/AAPL.csv", "AAPL/1day", "--columns", "time,open"], "--columns names 2 columns"),
        (["{}/AAPL.csv", "AAPL/1day", "--leave-out", "some"], "unknown kind of bars for --leave-out: 'some'; write"),
        (["{}/msft.us.txt", "MSFT/1day", "--adjusted"], "has no adjusted close among its columns 'Date', 'Open'"),
        (["{}/AAPL.csv", "AAPL/1day", "--stamped", "later"], "write open or close"),
        (["{}/AAPL.csv", "AAPL/1day", "--decimal", ";"], "unknown decimal separator ';'"),
        (["{}/AAPL.csv", "AAPL/1day", "--symbol", "MSFT"], "no symbol column in which to find 'MSFT'"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(call, folder, tmp_path, words, said):
    code, out, err = call("import", *(word.replace("{}", str(folder)) for word in words), "--store", tmp_path / "store")

    assert (code, out) == (2, "")
    assert said in err


def test_a_document_has_what_was_understood_and_what_failed(call, folder, tmp_path):
    _, out, _ = call("import", folder, "--store", tmp_path / "store", "--json")

    document = json.loads(out)
    assert document["series"]["MSFT-STK-SMART-USD/1day/TRADES/rth"]["mapping"]["Close"] == "close"
    assert [Path(key).name for key in document["errors"]] == ["IBM.csv"]


def test_left_out_bars_are_all_listed(call, tmp_path):
    rows = [f"2024-03-{day:02},10,12,9,11" for day in range(4, 9)] + [
        f"2024-03-{day},10,9,9,11" for day in range(11, 16)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["Date,Open,High,Low,Close", *rows]))

    _, _, said = call("import", tmp_path / "a.csv", "AAPL/1day", "--leave-out", "bad", "--store", tmp_path / "store")

    assert "left out 5 of 10 bars: " in said
    assert [f"line {n}: high 9 is below" in said for n in range(7, 12)] == [True] * 5
