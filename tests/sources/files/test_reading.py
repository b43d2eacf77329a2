"""Styles of vendors, each in a row: what a file in it gives, or what is asked."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest

from backtest.errors import BacktestError, UsageError
from backtest.market.series import Series
from backtest.sources.files.reading import FileOptions, read_bars, read_table

DAYS = ["2024-03-18", "2024-03-19", "2024-03-20", "2024-03-21", "2024-03-22", "2024-03-25", "2024-03-26", "2024-03-27"]
ROWS = [(171.25 + n, 172.75 + n, 170.0 + n, 171.75 + n, 65_672_700 + n) for n in range(8)]
DAILY = [(day, *row) for day, row in zip(DAYS, ROWS, strict=True)]
MINUTES = [(f"09:{30 + n}", *row) for n, row in enumerate(ROWS)]
NEW_YORK = "America/New_York"
HEAD = "Date,Open,High,Low,Close,Volume"
AAPL, MINUTE, COIN = "AAPL/1day", "AAPL/1min", "BTC-CRYPTO-PAXOS-USD/1min"
EURO = "EUR-CASH-IDEALPRO-USD/1min"


SWISS, PARIS = "AAPL-STK-EBS-CHF/1day", "AIR-STK-SBF-EUR/1day"


def lines(head, rows, mark=","):
    return "\n".join([*([head] if head else []), *(mark.join(map(str, row)) for row in rows)]) + "\n"


def dates(form):
    return [(f"{datetime.fromisoformat(day):{form}}", *rest) for day, *rest in DAILY]


def at(day, clock="00:00"):
    return datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=ZoneInfo(NEW_YORK)).timestamp()


def comma(number):
    return str(number).replace(".", ",")


def investing(names, row):
    return "\ufeff" + "\n".join([names, *(row(*one) for one in reversed(dates("%d.%m.%Y")))])


def zipped(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("AAPL.csv", text)
        archive.writestr("readme.txt", "from a vendor")
    return buffer.getvalue()


def excel(days):
    buffer = io.BytesIO()
    frame = pd.DataFrame(DAILY, columns=HEAD.split(","))
    frame["Date"] = pd.to_datetime(frame["Date"]) if days else frame["Date"]
    frame.to_excel(buffer, index=False)
    return buffer.getvalue()


def times_as_prices():
    buffer = io.BytesIO()
    FRAME.assign(Close=pd.to_datetime(FRAME["Date"])).to_parquet(buffer)
    return buffer.getvalue()


def stream():
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(FRAME)
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def feather():
    buffer = io.BytesIO()
    pd.DataFrame(DAILY, columns=HEAD.split(",")).to_feather(buffer)
    return buffer.getvalue()


FRAME = pd.DataFrame(DAILY, columns=HEAD.split(","))
BID_ASK = [(f"2024-03-28T{m}:00.000000000Z", o, h, lo, c, o + 1, h + 1, lo + 1, c + 1) for m, o, h, lo, c, _ in MINUTES]
USUAL = (171.75, 178.75)
# Name -> content, series, options, and where it is not the usual of eight bars with closes 171.75 to 178.75 from
# 2024-03-18 or the first minute: other closes, and the time of the first.
STYLES = {
    "dollars, close first, newest first": (
        lines(
            "Date,Close/Last,Volume,Open,High,Low",
            [(d, f"${c}", v, f"${o}", f"${h}", f"${lo}") for d, o, h, lo, c, v in reversed(dates("%m/%d/%Y"))],
        ),
        AAPL,
    ),
    "German, decimal commas, millions": (
        investing(
            '"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"',
            lambda d, o, h, lo, c, v: f'"{d}","{comma(c)}","{comma(o)}","{comma(h)}","{comma(lo)}","65,67M","-1,06%"',
        ),
        AAPL,
    ),
    "Spanish": (
        investing(
            '"Fecha","Último","Apertura","Máximo","Mínimo","Vol.","% var."',
            lambda d, o, h, lo, c, v: f'"{d}","{comma(c)}","{comma(o)}","{comma(h)}","{comma(lo)}","65,67M","-1,06%"',
        ),
        AAPL,
    ),
    "Swiss thousands and currency": (
        lines(
            "Datum;Eröffnung;Höchst;Tiefst;Schluss;Volumen",
            [(d, *(f"CHF 1’{price:06.2f}" for price in four), "65’672’700") for d, *four, _ in dates("%d.%m.%Y")],
            ";",
        ),
        SWISS,
        {},
        (1171.75, 1178.75),
    ),
    "Chinese in its own encoding, close second": (
        lines("日期,开盘,收盘,最高,最低,成交量", [(d, o, c, h, lo, v) for d, o, h, lo, c, v in DAILY]).encode(
            "gb18030"
        ),
        AAPL,
    ),
    "Japanese dates": (
        lines("日付,終値,始値,高値,安値", [(d, c, o, h, lo) for d, o, h, lo, c, _ in dates("%Y年%m月%d日")]),
        AAPL,
    ),
    "UTF-16 with tabs": (lines(HEAD.replace(",", "\t"), DAILY, "\t").encode("utf-16"), AAPL),
    "month names": (lines(HEAD, [(f'"{d}"', *r) for d, *r in dates("%B %d, %Y")]), AAPL),
    "days of the week": (lines(HEAD, [(f'"{d}"', *r) for d, *r in dates("%a, %d %b %Y")]), AAPL),
    "two-digit years": (lines(HEAD, dates("%d-%b-%y")), AAPL),
    "two-digit years first": (lines(HEAD, dates("%y-%m-%d")), AAPL),
    "slashes, day first": (lines(HEAD, dates("%d/%m/%Y")), AAPL),
    "days of Excel": (lines(HEAD, [(45369 + n if n < 5 else 45371 + n, *r) for n, (_, *r) in enumerate(DAILY)]), AAPL),
    "stamped at the close": (lines(HEAD, [(f"{d} 16:00:00", *r) for d, *r in DAILY]), AAPL),
    "seconds at the opening": (lines(HEAD, [(int(at(d, "09:30")), *r) for d, *r in DAILY]), AAPL),
    "milliseconds at midnight": (lines(HEAD, [(int(at(d)) * 1000, *r) for d, *r in DAILY]), AAPL),
    "bars": (lines(HEAD.replace(",", "|"), DAILY, "|"), AAPL),
    "blanks": (lines(HEAD.replace(",", "  "), DAILY, "   "), AAPL),
    "sep=": ("sep=;\n" + lines(HEAD.replace(",", ";"), DAILY, ";"), AAPL),
    "whole rows in quotes": ("\n".join(f'"{line}"' for line in lines(HEAD, DAILY).splitlines()), AAPL),
    "single quotes": ("\n".join(",".join(f"'{cell}'" for cell in row) for row in [HEAD.split(","), *DAILY]), AAPL),
    "a preamble": ("Symbol: AAPL\nFrom 2024-03-18 to 2024-03-27\n\n" + lines(HEAD, DAILY), AAPL),
    "a header in a comment": ("# " + lines(HEAD, DAILY), AAPL),
    "units below the header": (f"{HEAD}\n,USD,USD,USD,USD,shares\n" + lines("", DAILY), AAPL),
    "a footer": (lines(HEAD, DAILY) + '\nSource: Vendor Inc.\n"Total rows",8\n', AAPL),
    "two files in one": (lines(HEAD, DAILY[:4]) + lines(HEAD, DAILY[4:]), AAPL),
    "names of R": (
        lines(
            '"","AAPL.Open","AAPL.High","AAPL.Low","AAPL.Close","AAPL.Volume","AAPL.Adjusted"',
            [(f'"{d}"', *r, 1) for d, *r in DAILY],
        ),
        AAPL,
    ),
    "row names of R": (lines('"Open" "High" "Low" "Close" "Volume"', [(f'"{d}"', *r) for d, *r in DAILY], " "), AAPL),
    "columns of two symbols": (
        "Price,Close,Close,High,High,Low,Low,Open,Open\nTicker,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT,AAPL,MSFT\nDate,,,,,,,,\n"
        + lines("", [(d, c, 1, h, 1, lo, 1, o, 1) for d, o, h, lo, c, _ in DAILY]),
        AAPL,
    ),
    "columns by symbol": (
        "Ticker,AAPL,AAPL,AAPL,AAPL,MSFT,MSFT,MSFT,MSFT\nPrice,Open,High,Low,Close,Open,High,Low,Close\nDate,,,,,,,,\n"
        + lines("", [(*r[:5], 1, 1, 1, 1) for r in DAILY]),
        AAPL,
    ),
    "no names but by position": (
        lines("a,b,c,d,e,f", DAILY),
        AAPL,
        {"columns": ("time", "open", "high", "low", "close", "-")},
    ),
    "names that nobody knows": (lines("p,q,r,s,u,w", DAILY), AAPL),
    "Turkish": (
        investing(
            '"Tarih","Şimdi","Açılış","Yüksek","Düşük","Hac.","Fark %"',
            lambda d, o, h, lo, c, v: f'"{d}","{comma(c)}","{comma(o)}","{comma(h)}","{comma(lo)}","65,67M","-1,06%"',
        ),
        AAPL,
    ),
    "Russian in its own encoding": (
        lines("Дата;Открытие;Максимум;Минимум;Закрытие;Объём", dates("%d.%m.%Y"), ";").encode("cp1251"),
        AAPL,
    ),
    "an ISIN in place of a symbol, no header": (lines("", [("US0378331005", *row) for row in DAILY], ";"), AAPL),
    "a symbol before, no header": (lines("", [(who, *row) for who in ("AAPL", "MSFT") for row in DAILY]), AAPL),
    "an adjusted close, no header": (lines("", [(*row[:5], row[4] - 1, row[5]) for row in DAILY]), AAPL),
    "latest first": (
        lines("Time,Open,High,Low,Latest,%Change", [(*row[:5], "+0.3%") for row in reversed(DAILY)])
        + '"Downloaded from a vendor as of 03-29-2024 04:11am CDT"\n',
        AAPL,
    ),
    "a long preamble": (
        'A Vendor\'s Data\n\nDisclaimer: data, as is, for information.\nAttribution: "www.vendor.net".\n\n\n'
        + lines("date,open,high,low,close,volume", DAILY),
        AAPL,
    ),
    "year, month and day": (
        lines("Year,Month,Day,Open,High,Low,Close", [(*d.split("-"), *r[:4]) for d, *r in DAILY]),
        AAPL,
    ),
    "dates of Excel beside times": (
        lines(f"Date,Time{HEAD[4:]}", [("2024-03-28 00:00:00", f"{m}:00", *r) for m, *r in MINUTES]),
        MINUTE,
        {"tz": NEW_YORK},
    ),
    "a stream of Arrow": (stream(), AAPL),
    "numbers of floats": (lines(HEAD, [(*r[:5], "6.56727E+07") for r in DAILY]), AAPL),
    "prices after a split": (
        lines("Date,Open,High,Low,Close,Adj Close", [(*r[:5], r[4] / 2) for r in DAILY]),
        AAPL,
        {"adjusted": True},
        (85.875, 89.375),
    ),
    "packed by bzip2": (bz2.compress(lines(HEAD, DAILY).encode()), AAPL),
    "packed by zip, with a readme": (zipped(lines(HEAD, DAILY)), AAPL),
    "Excel": (excel(True), AAPL),
    "Excel with texts": (excel(False), AAPL),
    "Feather": (feather(), AAPL),
    "JSON, records": (FRAME.to_json(orient="records"), AAPL),
    "JSON, one a line": (FRAME.to_json(orient="records", lines=True), AAPL),
    "JSON, columns": (FRAME.set_index("Date").to_json(), AAPL),
    "JSON, split": (FRAME.set_index("Date").to_json(orient="split"), AAPL),
    "JSON, results below": (
        json.dumps(
            {
                "ticker": "AAPL",
                "results": [
                    {"v": v, "o": o, "c": c, "h": h, "l": lo, "t": int(at(d)) * 1000} for d, o, h, lo, c, v in DAILY
                ],
            }
        ),
        AAPL,
    ),
    "JSON, records by date": (
        json.dumps(
            {
                "Meta Data": {"1. Information": "x", "2. Symbol": "AAPL", "3. Zone": "y", "4. Size": "z"},
                "Time Series (Daily)": {
                    d: {"1. open": str(o), "2. high": str(h), "3. low": str(lo), "4. close": str(c)}
                    for d, o, h, lo, c, _ in reversed(DAILY)
                },
            }
        ),
        AAPL,
    ),
    "JSON, lists below": (
        json.dumps(
            {
                "chart": {
                    "result": [
                        {
                            "meta": {"symbol": "AAPL"},
                            "timestamp": [int(at(d, "09:30")) for d in DAYS],
                            "indicators": {
                                "quote": [
                                    dict(
                                        zip(
                                            ("open", "high", "low", "close", "volume"),
                                            map(list, zip(*ROWS, strict=True)),
                                            strict=True,
                                        )
                                    )
                                ]
                            },
                        }
                    ],
                    "error": None,
                }
            }
        ),
        AAPL,
    ),
    "JSON, rows without names": (
        json.dumps(
            [
                [1711584000000 + 60000 * n, *map(str, r[:4]), "12.5", 1711584059999 + 60000 * n, "1", 3]
                for n, r in enumerate(ROWS)
            ]
        ),
        COIN,
    ),
    "semicolons, no header, the clock without marks": (
        lines("", [(f"20240328 {m.replace(':', '')}00", *r) for m, *r in MINUTES], ";"),
        MINUTE,
        {"tz": NEW_YORK},
    ),
    "an hour without its first 0": (
        lines("", [("20240328", 930 + n, *r) for n, (_, *r) in enumerate(MINUTES)]),
        MINUTE,
        {"tz": NEW_YORK},
    ),
    "the end of bars": (
        lines("", [(f"20240328 09{31 + n}00", *r) for n, (_, *r) in enumerate(MINUTES)], ";"),
        MINUTE,
        {"tz": NEW_YORK, "stamped": "close"},
    ),
    "AM and PM": (
        lines("Date,Time,Open,High,Low,Close,Volume", [("3/28/2024", f"{m.lstrip('0')} AM", *r) for m, *r in MINUTES]),
        MINUTE,
        {"tz": "exchange"},
    ),
    "a zone in the name": (
        lines(f"{HEAD}".replace("Date", "Date (ET)"), [(f"2024-03-28 {m}", *r) for m, *r in MINUTES]),
        MINUTE,
    ),
    "a zone by letters": (lines(HEAD, [(f"2024-03-28 {m}:00 EDT", *r) for m, *r in MINUTES]), MINUTE),
    "a zone by hours": (lines(HEAD, [(f"28.03.2024 {m}:00.000 GMT-0400", *r) for m, *r in MINUTES]), MINUTE),
    "nanoseconds, other columns first": (
        lines(
            "ticker,volume,open,close,high,low,window_start,transactions",
            [("AAPL", v, o, c, h, lo, int(at("2024-03-28", m)) * 10**9, 5) for m, o, h, lo, c, v in MINUTES],
        ),
        MINUTE,
    ),
    "microseconds": (lines("", [(1711584000000000 + 60000000 * n, *r) for n, r in enumerate(ROWS)]), COIN),
    "low and high first, newest first": (
        lines(
            "time,low,high,open,close",
            [(1711584000 + 60 * n, lo, h, o, c) for n, (o, h, lo, c, _) in reversed(list(enumerate(ROWS)))],
        ),
        COIN,
    ),
    "a date beside seconds, and two volumes": (
        lines(
            "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
            [(1711584000 + 60 * n, f"2024-03-28 00:0{n}:00", "BTC/USD", *r[:4], 1.5, 2) for n, r in enumerate(ROWS)],
        ),
        COIN,
    ),
    "opening and end of bars": (
        lines(
            "open_time,open,high,low,close,volume,close_time",
            [(1711584000000 + 60000 * n, *r, 1711584059999 + 60000 * n) for n, r in enumerate(ROWS)],
        ),
        COIN,
    ),
    "French, with its currency": (
        lines("date\touv\thaut\tbas\tclos\tvol\tdevise", [(*r, "EUR") for r in dates("%d/%m/%Y")], "\t"),
        PARIS,
    ),
    "euros, in names and in cells": (
        lines(
            "Date;Open (EUR);High (EUR);Low (EUR);Close (EUR)", [(d, *(f"€{p}" for p in r[:4])) for d, *r in DAILY], ";"
        ),
        PARIS,
    ),
    "days before the first price": (
        "observation_date,open,high,low,close\n2024-03-14,.,.,.,.\n2024-03-15,.,.,.,.\n"
        + lines("", [r[:5] for r in DAILY]),
        AAPL,
    ),
    "bid and ask": (lines("time,bid.o,bid.h,bid.lo,bid.c,ask.o,ask.h,ask.lo,ask.c", BID_ASK), f"{EURO}/BID"),
    "ask and bid": (
        lines("time,bidopen,bidhigh,bidlow,bidclose,askopen,askhigh,asklow,askclose", BID_ASK),
        f"{EURO}/ASK",
        {},
        (172.75, 179.75),
    ),
}
FIRST = {
    PARIS: "2024-03-18 00:00",
    AAPL: "2024-03-18 00:00",
    SWISS: "2024-03-18 00:00",
    MINUTE: "2024-03-28 13:30",
    COIN: "2024-03-28 00:00",
    f"{EURO}/BID": "2024-03-28 09:30",
    f"{EURO}/ASK": "2024-03-28 09:30",
}


def read(folder, content, series, options):
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_bars(read_table(path), Series.parse(series), FileOptions(**options))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_of_vendors_is_read(tmp_path, style):
    content, series, *more = STYLES[style]
    options, closes = (*more, {}, USUAL)[:2] if len(more) != 1 else (more[0], USUAL)

    bars = read(tmp_path, content, series, options).bars

    first = bars.slice(0, 1).to_pylist()[0]
    assert (len(bars), first["close"], bars["close"][-1].as_py()) == (8, *closes)
    assert f"{first['time']:%Y-%m-%d %H:%M}" == FIRST[series]
    if closes == USUAL:
        assert tuple(first[name] for name in ("open", "high", "low", "close")) == ROWS[0][:4]


# What a file leaves open is asked for, and what is wrong has its line
ASKED = {
    "a day or a month first": (
        lines(HEAD, [(f"04/0{n}/2024", *r) for n, r in enumerate(ROWS[:5], 1)]),
        AAPL,
        "--day-first",
    ),
    "decimals or thousands": (
        lines("Date;Open;High;Low;Close", [(d, "1,171", "1,172", "1,170", "1,171") for d in DAYS], ";"),
        AAPL,
        "'1,171' in line 2, which is either 1171 or 1.171; .*--decimal",
    ),
    "both marks before decimals": (
        "Date;Open;High;Low;Close\n2024-03-18;171,25;172,75;170,0;171,75\n2024-03-19;172.25;173.75;171.0;172.75\n",
        AAPL,
        "'172.25' in line 3 and '171,25' in line 2",
    ),
    "the end or the opening": (
        lines("", [(f"20240328 09{31 + n}00", *r) for n, r in enumerate(ROWS)], ";"),
        f"{MINUTE}+tz",
        "the first of a session is at 2024-03-28 09:31 in America/New_York.*--stamped close",
    ),
    "the end by its name": (
        lines("close_time,open,high,low,close", [(1711584060000 + 60000 * n, *r[:4]) for n, r in enumerate(ROWS)]),
        COIN,
        "at which bars end, according to the column name; --stamped close",
    ),
    "weeks from or to a Sunday": (
        lines(HEAD, [(f"2024-02-{d:02}", *r) for d, r in zip((4, 11, 18), ROWS, strict=False)]),
        "AAPL/1week",
        "2024-02-04 in line 2, but a week may begin or end on a Sunday.*--stamped",
    ),
    "another order without names": (lines("", [(d, o, c, h, lo, v) for d, o, h, lo, c, v in DAILY]), AAPL, "--columns"),
    "larger bars": (
        lines("time,open,high,low,close", [(f"2024-03-28T14:{5 * n:02}:00Z", *r[:4]) for n, r in enumerate(ROWS)]),
        MINUTE,
        "5 mins apart, .* name AAPL/5mins",
    ),
    "weeks as days": (
        lines(
            HEAD,
            [
                (f"2024-0{m}-{d:02}", *r)
                for (m, d), r in zip(
                    [(1, 5), (1, 12), (1, 19), (1, 26), (2, 2), (2, 9), (2, 16), (2, 23)], ROWS, strict=True
                )
            ],
        ),
        AAPL,
        "name AAPL/1week",
    ),
    "somebody else's": (
        lines("symbol,date,open,high,low,close", [("MSFT", *r[:5]) for r in DAILY]),
        AAPL,
        "has bars of MSFT, not of AAPL",
    ),
    "columns of others": (
        "Price,Close,High,Low,Open\nTicker,MSFT,MSFT,MSFT,MSFT\nDate,,,,\n" + lines("", [r[:5] for r in DAILY]),
        AAPL,
        "has bars of MSFT, not of AAPL",
    ),
    "a row that is cut off": (lines(HEAD, DAILY) + "2024-03-28,17", AAPL, "2 fields in line 10"),
    "no number": (lines(HEAD, [*DAILY[:5], ("2024-03-25", "17x", 2, 1, 1, 1)]), AAPL, "open in line 7: '17x'"),
    "no day": (lines(HEAD, [*DAILY[:5], ("2024-02-30", 2, 2, 1, 1, 1)]), AAPL, "'2024-02-30' as a time in line 7"),
    "no time": (lines(HEAD, [*DAILY[:5], ("", 2, 2, 1, 1, 1), *DAILY[6:]]), AAPL, "no time in line 7"),
    "a zone of several places": (
        lines(HEAD, [(f"2024-03-28 {m}:00 CST", *r) for m, *r in MINUTES]),
        MINUTE,
        "'2024-03-28 09:30:00 CST' as a time",
    ),
    "a column of currencies": (
        lines(f"{HEAD},Currency", [(*r, "EUR") for r in DAILY]),
        AAPL,
        "prices in EUR .by its column 'Currency'.*USD",
    ),
    "a line of its currency": (
        "Security,AIR FP Equity\nCurrency,EUR\n\n" + lines(HEAD, DAILY),
        AAPL,
        "prices in EUR .by a line above the rows",
    ),
    "a currency in names": (
        lines("date,open_eur,high_eur,low_eur,close_eur", [r[:5] for r in DAILY]),
        AAPL,
        "by its column 'open_eur'.*USD",
    ),
    "another pair": (
        lines("date,USD/JPY open,USD/JPY high,USD/JPY low,USD/JPY close", [r[:5] for r in DAILY]),
        "EUR-CASH-IDEALPRO-USD/1day",
        "prices in JPY .by its column 'USD/JPY open'.*quoted in USD",
    ),
    "a sign": (lines(HEAD, [(d, *(f"€{p}" for p in r)) for d, *r in DAILY]), AAPL, "in EUR .by the prices themselves"),
    "a code in cells": (lines(HEAD, [(d, *(f"CHF {p}" for p in r)) for d, *r in DAILY]), AAPL, "in CHF .by the prices"),
    "dollars of euros": (lines(HEAD, [(d, *(f"${p}" for p in r)) for d, *r in DAILY]), PARIS, "in USD or .* in EUR"),
    "pounds of pence": (
        lines(f"{HEAD},Currency", [(*r, "GBP") for r in DAILY]),
        "VOD-STK-LSE-GBP/1day",
        "in GBX; multiply .* by 100",
    ),
    "bid or ask": (
        lines("time,bid.o,bid.h,bid.lo,bid.c,ask.o,ask.h,ask.lo,ask.c", BID_ASK),
        EURO,
        "open is given for ask and bid",
    ),
    "a page": ("<!DOCTYPE html><html><body><table></table></body></html>", AAPL, "a page of HTML"),
    "an old Excel file": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
        AAPL,
        "an Excel file in the old .xls format",
    ),
    "a pickle": (b"\x80\x04\x95" + b"\0" * 60, AAPL, "a pickle, which is never opened"),
    "a column of times as prices": (times_as_prices(), AAPL, "no plain number as close: its column holds timestamp"),
    "a broken archive": (zipped(lines(HEAD, DAILY))[:60], AAPL, "cannot be unpacked as zip"),
    "broken gzip": (b"\x1f\x8b" + b"\0" * 60, AAPL, "cannot be unpacked by gzip"),
    "JSON without bars": ('{"error": "no such symbol"}', AAPL, "JSON without a list of bars"),
}


@pytest.mark.parametrize(
    ("series", "before"),
    [("EUR-CASH-IDEALPRO-USD", "EUR/USD "), ("USD-CASH-IDEALPRO-JPY", "USD/JPY "), ("EUR-CASH-IDEALPRO-USD", "EUR ")],
)
def test_the_names_of_a_pair_of_currencies_name_what_it_is_quoted_in(tmp_path, series, before):
    head = ",".join(["Date", *(f"{before}{price}" for price in ("Open", "High", "Low", "Close"))])

    assert len(read(tmp_path, lines(head, [r[:5] for r in DAILY]), f"{series}/1day", {}).bars) == 8


def test_prices_in_no_currency_may_come_with_any(tmp_path):
    found = read(tmp_path, lines(f"{HEAD},Currency", [(*r, "EUR") for r in DAILY]), "FRAME-STK-FRAME-XXX/1day", {})

    assert len(found.bars) == 8


@pytest.mark.parametrize(
    ("head", "row", "volume"),
    [
        ("", ("{},{},11500.25,72000"), 11500.25),  # of a coin, and trades: no adjusted close
        ("", ("{},{},171.25,72000"), 72000.0),  # adjusted by a dividend
        ("Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen", "{};{};1234;200000", 1234.0),
        ("Datum;Erster;Hoch;Tief;Schlusskurs;Volumen", "{};{};1234", 1234.0),
        ("Date,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", "{},{},1234", 1234.0),
    ],
)
def test_volume_is_the_number_of_pieces(tmp_path, head, row, volume):
    mark = ";" if ";" in row else ","
    rows = [row.format(d, mark.join(map(str, r[:4]))) for d, *r in DAILY]
    if "11500" in row:
        rows = [one.replace("11500.25", f"{11500.25 * (1 + n / 3)}") for n, one in enumerate(rows)]
    elif "171.25" in row:
        rows = [one.replace("171.25", f"{r[3] * 0.9971:.4f}") for one, (_, *r) in zip(rows, DAILY, strict=True)]

    bars = read(tmp_path, "\n".join([*([head] if head else []), *rows]), AAPL, {}).bars

    assert bars["volume"][0].as_py() == volume


@pytest.mark.parametrize("style", ASKED)
def test_what_a_file_leaves_open_is_asked_with_line_and_option(tmp_path, style):
    content, series, said = ASKED[style]
    series, _, zoned = series.partition("+")

    with pytest.raises(BacktestError, match=said):
        read(tmp_path, content, series, {"tz": NEW_YORK} if zoned else {})


def packed(*names):
    """Return an archive whose files are zeros, which take next to no room in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(80_000_000))
    return buffer.getvalue()


def arrow(table, write, *more):
    buffer = io.BytesIO()
    write(table, buffer, *more)
    return buffer.getvalue()


def streamed(table, sink):
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)


MEGABYTE = bytes(1_000_000)
WIDE = pa.table({f"column {n}": pa.array(np.zeros(100_000)) for n in range(70)})
MANY = "unpacks to more than 200 bytes for each of its own"
BOMBS = {
    "gzip": (lambda: 100 * gzip.compress(MEGABYTE), MANY),
    "bzip2": (lambda: 60 * bz2.compress(MEGABYTE), MANY),
    "xz": (lambda: 60 * lzma.compress(MEGABYTE), MANY),
    "zip": (lambda: packed("AAPL.csv"), MANY),
    "a workbook": (lambda: packed("xl/workbook.xml"), MANY),
    "Feather": (lambda: arrow(WIDE, pyarrow.feather.write_feather, "zstd"), MANY),
    "a stream of Arrow": (lambda: arrow(WIDE, streamed), MANY),
    "rows without bytes": (
        lambda: arrow(pa.table({"time": pa.nulls(5_000_000)}), pyarrow.feather.write_feather),
        "bytes are 5,000,000 rows, which is impossible for bars",
    ),
    "nested archives": (
        lambda: gzip.compress(gzip.compress(gzip.compress(gzip.compress(lines(HEAD, DAILY).encode())))),
        "contains nested archives",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_an_archive_is_not_unpacked_beyond_what_bars_ever_are(tmp_path, kind):
    make, said = BOMBS[kind]

    with pytest.raises(UsageError, match=said):
        read(tmp_path, make(), AAPL, {})


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_of_several_parts_is_read_whole(tmp_path, pack):
    text = lines(HEAD, DAILY).encode()

    assert len(read(tmp_path, pack(text[:100]) + pack(text[100:]), AAPL, {}).bars) == len(DAILY)


@pytest.mark.parametrize(
    ("style", "options", "count"),
    [
        ("a day or a month first", {"day_first": False}, 5),
        ("decimals or thousands", {"decimal": ","}, 8),
        ("the end by its name", {"stamped": "close"}, 8),
        ("weeks from or to a Sunday", {"stamped": "open"}, 3),
        ("another order without names", {"columns": ("time", "open", "close", "high", "low", "volume")}, 8),
        ("somebody else's", {"symbol": "MSFT"}, 8),
        ("columns of others", {"symbol": "msft"}, 8),
    ],
)
def test_the_option_that_is_named_answers(tmp_path, style, options, count):
    content, series, _ = ASKED[style]

    assert len(read(tmp_path, content, series, options).bars) == count


# Weeks, months, and the ends of bars (a bar is known when it is over, and not before)


def stamps(folder, series, days, **options):
    rows = [(day, *ROWS[n % 8]) for n, day in enumerate(days)]
    found = read(folder, lines(HEAD, rows), series, options)
    return [f"{moment:%Y-%m-%d}" for moment in found.bars["time"].to_pylist()], found.how


@pytest.mark.parametrize(
    ("series", "days", "options", "moved"),
    [
        ("AAPL/1week", "2024-03-11 2024-03-18 2024-03-25", {}, "2024-03-15 2024-03-22 2024-03-28"),  # Good Friday
        ("AAPL/1week", "2024-03-15 2024-03-22 2024-03-28", {}, "2024-03-15 2024-03-22 2024-03-28"),
        ("AAPL/1week", "2024-03-15 2024-03-22 2024-03-29", {}, "2024-03-15 2024-03-22 2024-03-28"),
        ("AAPL/1week", "2024-03-10 2024-03-17 2024-03-24", {"stamped": "open"}, "2024-03-15 2024-03-22 2024-03-28"),
        ("AAPL/1week", "2024-03-17 2024-03-24 2024-03-31", {"stamped": "close"}, "2024-03-15 2024-03-22 2024-03-28"),
        ("AAPL/1month", "2024-01-01 2024-02-01 2024-03-01", {}, "2024-01-31 2024-02-29 2024-03-28"),
        ("AAPL/1month", "2024-01-31 2024-02-29 2024-03-31", {}, "2024-01-31 2024-02-29 2024-03-28"),
        ("BTC-CRYPTO-PAXOS-USD/1week", "2024-03-11 2024-03-18 2024-03-25", {}, "2024-03-17 2024-03-24 2024-03-31"),
        ("EUR-CASH-IDEALPRO-USD/1week", "2024-03-11 2024-03-18", {}, "2024-03-15 2024-03-22"),
        ("AAPL/1week", "2024-W11 2024-W12 2024-W13", {}, "2024-03-15 2024-03-22 2024-03-28"),
        ("AAPL/1month", "2024-01 2024-02 2024-03", {}, "2024-01-31 2024-02-29 2024-03-28"),
    ],
)
def test_weeks_and_months_are_dated_by_their_last_session_and_that_is_said(tmp_path, series, days, options, moved):
    found, how = stamps(tmp_path, series, days.split(), **options)

    assert found == moved.split()
    assert any("moved to their last session" in word for word in how) == (days != moved)


@pytest.mark.parametrize(("rule", "options"), [("W-MON", {}), ("W", {"stamped": "open"}), ("MS", {})])
def test_no_week_or_month_that_pandas_labels_left_is_known_before_it_is_over(tmp_path, rule, options):
    days = pd.bdate_range("2023-01-02", "2023-12-29")
    prices = pd.Series(range(100, 100 + len(days)), days, dtype=float)
    closed = "left" if rule == "W-MON" else None
    grouped = prices.resample(rule, label="left", closed=closed)
    frame = pd.DataFrame(
        {"open": grouped.first(), "high": grouped.max(), "low": grouped.min(), "close": grouped.last()}
    )
    last = grouped.apply(lambda part: part.index[-1])
    series = Series.parse("AAPL/1month" if rule == "MS" else "AAPL/1week")

    found = read_bars(read_table(frame), series, FileOptions(**options)).bars

    over = [moment.replace(tzinfo=None) for moment in found["time"].to_pylist()]
    late = [(one, other) for one, other in zip(over, last, strict=True) if (other - pd.Timestamp(one)).days > 0]
    assert len(found) > 11
    assert [pair for pair in late if pair[1].date().isoformat() not in CLOSED] == []


CLOSED = ("2023-04-07", "2023-12-29")  # a weekday without a session, and the last of the year


@pytest.mark.parametrize(
    ("series", "ends", "opens"),
    [
        ("AAPL/1min", "09:31 09:32 16:00", "13:30 13:31 19:59"),
        ("AAPL/5mins", "09:35 09:40 16:00", "13:30 13:35 19:55"),
        ("AAPL/1hour", "10:30 11:30 15:30 16:00", "13:30 14:30 18:30 19:30"),  # the close cuts the last
        ("AAPL/1hour", "10:00 11:00 16:00", "13:30 14:00 19:00"),  # IB's hours: the opening cuts the first
    ],
)
def test_bars_that_are_stamped_with_their_end_are_moved_to_their_opening(tmp_path, series, ends, opens):
    content = lines(HEAD, [(f"2024-03-28 {end}", *ROWS[n]) for n, end in enumerate(ends.split())])

    with pytest.raises(BacktestError, match="--stamped close"):
        read(tmp_path, content, series, {"tz": NEW_YORK})
    found = read(tmp_path, content, series, {"tz": NEW_YORK, "stamped": "close"}).bars["time"].to_pylist()
    as_they_are = read(tmp_path, content, series, {"tz": NEW_YORK, "stamped": "open"}).bars["time"].to_pylist()

    assert [f"{moment:%H:%M}" for moment in found] == opens.split()
    assert as_they_are[0] == datetime(2024, 3, 28, int(ends[:2]) + 4, int(ends[3:5]), tzinfo=UTC)


def test_rows_without_a_price_are_left_out_and_counted(tmp_path):
    text = lines(HEAD, [*DAILY[:3], ("2024-03-21", *["null"] * 5), ("2024-03-22", "0.24 Dividend", "", "", "", "")])

    found = read(tmp_path, text, AAPL, {})

    assert len(found.bars) == 3
    assert [str(note) for note in found.notes] == ["left out 2 lines without a price: line 5, line 6"]
