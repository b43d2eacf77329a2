"""Universes as files and tables: who belonged, from which session to which."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.cli.parse import parse_series
from backtest.errors import UsageError
from backtest.market.universe import Universe, is_digest, universe_of

TABLE = """symbol,from,to,delisting_return
AAPL,2001-01-02,,
ENRN,2000-01-03,2001-11-28,-0.98
MSFT,2000-01-03,2000-12-29,
MSFT,2002-01-02,2002-06-28,
"""
MATRIX = "date,AAPL,MSFT\n2000-01-03,0,1\n2001-01-02,1,0.25\n2002-01-02,true,\n"


def stretches(universe):
    return [(one.series.short, str(one.first or ""), str(one.last or "")) for one in universe.rows]


@pytest.fixture
def written(tmp_path):
    def write(text, name="index.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_table_has_a_row_for_each_stretch(written):
    found = universe_of(written(TABLE))

    assert stretches(found) == [
        ("AAPL/1day", "2001-01-02", ""),
        ("ENRN/1day", "2000-01-03", "2001-11-28"),
        ("MSFT/1day", "2000-01-03", "2000-12-29"),
        ("MSFT/1day", "2002-01-02", "2002-06-28"),
    ]
    assert [one.delisting_return for one in found.rows] == [None, -0.98, None, None]
    assert found.name == "index.csv"


def test_a_matrix_says_from_each_date_on_who_belongs(written):
    found = universe_of(written(MATRIX))

    assert stretches(found) == [("AAPL/1day", "2001-01-02", ""), ("MSFT/1day", "2000-01-03", "2002-01-01")]


def test_the_same_universe_has_one_digest_however_it_is_written(written, tmp_path):
    frame = pd.read_csv(written(TABLE), parse_dates=["from", "to"])
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "index.parquet")
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    semicolons = written(TABLE.replace(",", ";").replace("symbol", "Series"), "other.csv")
    every = [universe_of(one) for one in (written(TABLE), frame, tmp_path / "index.parquet", rows, semicolons)]

    assert len({one.digest for one in every}) == 1
    assert is_digest(every[0].text)
    assert Universe.read(every[0].document) == every[0]
    assert universe_of(written(TABLE.replace("-0.98", "-0.97"))).digest != every[0].digest


def test_a_matrix_of_pandas_has_its_dates_as_index(written):
    frame = pd.read_csv(written(MATRIX.replace("true", "1")), index_col="date", parse_dates=True)

    assert universe_of(frame).digest == universe_of(written(MATRIX)).digest
    assert universe_of(frame.rename_axis(None)).digest == universe_of(written(MATRIX)).digest


SAME = [("AAPL/1day", "2001-01-02", ""), ("MSFT/1day", "2000-01-03", "2001-01-01")]


@pytest.mark.parametrize(
    "text",
    [
        "symbol,from,to\nAAPL,2001-01-02 00:00:00,NaT\nMSFT,2000-01-03T00:00:00Z,2001-01-01\n",
        "symbol|from|to\nAAPL|20010102|None\nMSFT|2000-01-03|2001-01-01 00:00:00+00:00\n",
        ",symbol,from,to\n0,AAPL,2001-01-02,\n1,MSFT,2000-01-03,2001-01-01\n",  # an index, as pandas writes it
        "symbol,from,to,,\nAAPL,2001-01-02,,,\n,,,,\nMSFT,2000-01-03,2001-01-01,,\n,,,,\n",  # of a spreadsheet
        "date,AAPL,MSFT,\n2000-01-03,NaN,1.0,\n2001-01-02,TRUE,null,\n,,,\n",
        ",AAPL,MSFT\n2000-01-03,no,yes\n2001-01-02,1e0,\n",
        "time,AAPL/1day,MSFT/1day\n2000-01-03 00:00:00+00:00,False,True\n2001-01-02 00:00:00+00:00,True,False\n",
        ",date,AAPL,MSFT\n1,2000-01-03,0,1\n7,2001-01-02,1,0\n",
    ],
)
def test_a_file_is_read_as_others_write_it(written, text):
    assert stretches(universe_of(written(text))) == SAME
    assert [one.short for one in parse_series([f"@{written(text)}"])] == ["AAPL/1day", "MSFT/1day"]


@pytest.mark.parametrize(
    "made",
    [
        {"symbol": [b"AAPL", b"MSFT"], "from": [20010102, 20000103], "to": [None, 20010101.0]},
        {
            "symbol": pa.array(["AAPL", "MSFT"]).dictionary_encode(),
            "from": pa.array(["2001-01-02", "2000-01-03"]).dictionary_encode(),
            "to": [None, date(2001, 1, 1)],
            "delisting_return": pa.array([Decimal("-0.50"), None]),
        },
        {"date": [date(2000, 1, 3), date(2001, 1, 2)], "AAPL": [None, 1.0], "MSFT": [Decimal("0.5"), Decimal("0")],
         "__index_level_0__": [3, 8]},
    ],
)  # fmt: skip
def test_a_table_is_read_whatever_its_types(made):
    assert stretches(universe_of(pa.table(made))) == SAME


def test_a_frame_may_have_months_and_the_times_of_a_panel():
    months = pd.DataFrame({"AAPL": [0, 1], "TIME": [1, 0]}, index=pd.PeriodIndex(["2000-01", "2001-01"], freq="M"))
    panel = pd.DataFrame({"AAPL/1day": [9.0, 11.0]}, index=pd.DatetimeIndex(["2000-01-03", "2001-01-02"], tz="UTC"))

    assert stretches(universe_of(months)) == [
        ("AAPL/1day", "2001-01-01", ""),
        ("TIME/1day", "2000-01-01", "2000-12-31"),
    ]
    assert stretches(universe_of(panel.rename_axis("time") > 10)) == [("AAPL/1day", "2001-01-02", "")]
    with pytest.raises(UsageError, match="columns have 2 levels"):
        universe_of(pd.concat({"member": months}, axis=1))


def test_a_symbol_may_name_an_instrument_or_a_series():
    found = universe_of([("VOD-STK-LSE-GBP", None, date(2020, 1, 2)), ("ES-FUT-CME-USD-202612/5mins", "", "")])

    assert [one.short for one in found.series] == ["ES-FUT-CME-USD-202612/5mins", "VOD-STK-LSE-GBP/1day"]


def test_the_command_line_takes_the_series_of_a_universe(written, tmp_path):
    pq.write_table(pa.table({"symbol": ["IBM"], "from": ["2000-01-03"], "to": [""]}), tmp_path / "index.parquet")

    assert [one.short for one in parse_series([f"@{written(TABLE)}"])] == ["AAPL/1day", "ENRN/1day", "MSFT/1day"]
    assert [one.short for one in parse_series([f"@{written('# mine' + chr(10) + MATRIX)}"])] == [
        "AAPL/1day",
        "MSFT/1day",
    ]
    assert [one.short for one in parse_series([f"@{tmp_path / 'index.parquet'}"])] == ["IBM/1day"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("symbol,from\nAAPL,2000-01-03\n", "has the columns symbol, from"),
        ("symbol,from,to,weight\nAAPL,,,1\n", "has the columns weight"),
        ("symbol,from,to,to\nAAPL,,,\n", "the column to twice"),
        ("symbol,from,to\n", "has no members"),
        ("symbol,from,to\nAAPL,2000-01-03,1999-01-03\n", "from 2000-01-03 to 1999-01-03 in row 1"),
        ("symbol,from,to\nAAPL,03.01.2000,\n", "'from' in row 1 of the universe is '03.01.2000'"),
        (
            "symbol,from,to\nAAPL,2000-01-03,\nAAPL,2001-01-03,\n",
            "AAPL/1day has overlapping memberships from 2001-01-03 on",
        ),
        ("symbol,from,to\n,2000-01-03,\n", "row 1 of the universe"),
        ("symbol,from,to\nAAPL,2000-01-03,,x\n", "a row of 4 cells"),
        ("symbol,from,to,delisting_return\nAAPL,,,-98\n", "delisting_return in row 1 of the universe is '-98'"),
        ("symbol,from,to\nAAPL,2000-01-03 09:30:00,\n", "sessions have no time of day"),
        (
            "symbol,from,to\nAAPL,2000-01-03,\nAAPL,2001-01-03,NaT\n",
            "AAPL/1day has overlapping memberships from 2001-01-03 on",
        ),
        ("date,symbol\n2000-01-03,AAPL\n2000-01-03,IBM\n", "one row per date and member"),
        ("date,AAPL\n2001-01-03,1\n2000-01-03,1\n", "do not increase"),
        ("date,AAPL\n,1\n", "row 1 of the universe has no date"),
        ("date,AAPL\n2000-01-03,maybe\n", "AAPL in the universe on 2000-01-03 is 'maybe'"),
        ("date,AAPL\n2000-01-03,-1\n", "AAPL in the universe on 2000-01-03 is '-1'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(written, text, says):
    with pytest.raises(UsageError) as caught:
        universe_of(written(text))

    assert says in str(caught.value)


@pytest.mark.parametrize("given", ["nowhere.csv", 7, [("AAPL",)], [7], "nowhere.parquet", pd.DataFrame()])
def test_what_is_no_universe_is_refused(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError):
        universe_of(given)


def test_a_file_that_is_no_parquet_is_refused(written):
    with pytest.raises(UsageError, match=r"cannot be read .*not a parquet file"):
        universe_of(written(TABLE, "index.parquet"))
