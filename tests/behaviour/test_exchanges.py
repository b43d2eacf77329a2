"""Made-up daily bars of 1985 to 2027 of each exchange, through the door: checked, imported and downloaded."""

import json
from datetime import UTC, date, datetime
from functools import lru_cache
from html import unescape

import exchange_calendars
import numpy as np
import pytest
from market import store_with
from places import ROOT

from backtest.api import run
from backtest.downloads.downloader import download
from backtest.emulator.server import Gateway
from backtest.errors import BadBars
from backtest.market.bars import table_of
from backtest.market.checks import check_answer
from backtest.market.hours import EXCHANGES, hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.report.run_page import page
from backtest.sources.connect import connect
from backtest.sources.files.export import write_bars
from backtest.store.audit.listing import list_series
from backtest.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:DatetimeIndex.weekday is deprecated")

# Those of the table of 0.1.0 and others, by their calendar in exchange_calendars; TASE has a week of its own.
NAMES = {
    "XNYS": "SMART NYSE NASDAQ ARCA AMEX BATS ISLAND IEX PINK CBOE MEMX PEARL LTSE BYX EDGEA DRCTEDGE BEX PSX CHX "
    "NYSENAT VALUE",
    "CMES": "CME GLOBEX CBOT ECBOT NYMEX COMEX CFE",
    "IEPA": "ICEUS NYBOT IPE",
    "XLON": "LSE LSEETF", "XETR": "IBIS IBIS2", "XFRA": "FWB FWB2", "XPAR": "SBF", "XAMS": "AEB FTA", "XSWX": "EBS",
    "XMIL": "BVME", "XMAD": "BM", "XTSE": "TSE VENTURE", "XHKG": "SEHK", "XTKS": "TSEJ SMART-JPY", "XASX": "ASX",
    "XSES": "SGX", "XEUR": "EUREX DTB", "XBRU": "ENEXT.BE BELFOX", "XLIS": "BVL", "XDUB": "ISED", "XWBO": "VSE",
    "XWAR": "WSE", "XPRA": "PRA", "XBUD": "BUX", "XSTO": "SFB OMS", "XHEL": "HEX", "XCSE": "CPH", "XOSL": "OSE",
    "XJSE": "JSE", "XBOM": "NSE", "XKRX": "KSE", "XTAI": "TWSE", "XMEX": "MEXI", "XSHG": "SEHKNTL SEHKSZSE",
    "XSTU": "SWB",
    "": "TASE OSE.JPN SNFE HKFE ICEEU ICEEUSOFT IDEM MEFFRV MONEP CDE GETTEX OVERNIGHT XETRA FOOBAR",
}  # fmt: skip
EVERY = [(name, calendar) for calendar, names in NAMES.items() for name in names.split()]
# From when on, and until when, exchange_calendars knows the holidays.
SINCE = {"XNYS": "1970-01-01", "XTKS": "1997-01-01", "XBOM": "1997-01-01", "XSHG": "1990-12-03", "XKRX": "1998-12-07"}
UNTIL = {"XBOM": "2026-12-31", "XSES": "2026-12-31", "XSHG": "2026-12-31"}
YEARS = date(1985, 1, 1), date(2027, 12, 31)
TURNS = (date(1985, 12, 9), date(1986, 1, 31)), (date(2026, 11, 30), date(2027, 1, 29))  # with holidays everywhere


def series_of(name):
    exchange, _, currency = name.partition("-")
    return Series.parse(f"ANY-STK-{exchange}-{currency or 'USD'}/1day")


def days_of(name, calendar, since=YEARS[0], until=YEARS[1]):
    """Return the dates of sessions: of exchange_calendars where it knows holidays, else those of the week."""
    every = np.arange(np.datetime64(since), np.datetime64(until) + 1)
    weekday = np.is_busday(every)
    if name == "TASE":
        return every[np.where(every < np.datetime64("2026-01-05"), np.is_busday(every, "1111001"), weekday)]
    if not calendar:
        return every[weekday]
    first, last = SINCE.get(calendar, "1990-01-01"), UNTIL.get(calendar, "2039-12-31")
    known = (every >= np.datetime64(first)) & (every <= np.datetime64(last))
    sessions = exchange_calendars.get_calendar(calendar, start=first, end=last).sessions
    return every[np.where(known, np.isin(every, sessions.to_numpy().astype("datetime64[D]")), weekday)]


def bars_on(days):
    return _bars_on(tuple(days.tolist()))


@lru_cache(maxsize=4)
def _bars_on(days):
    rows = ((100.0 + n % 7, 108.0, 99.0, 101.0 + n % 5, 10.0 + n, None, None) for n in range(len(days)))
    stamps = (datetime.combine(day, datetime.min.time(), UTC) for day in days)
    return table_of([(stamp, *row) for stamp, row in zip(stamps, rows, strict=True)])


def test_every_exchange_of_the_table_is_walked():
    assert {name.partition("-")[0] for name, _ in EVERY} >= {*EXCHANGES} - {"TADAWUL"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "calendar"), [("SMART-JPY", "XTKS"), ("TASE", ""), ("FOOBAR", "")])
def test_bars_of_1985_to_2027_are_taken(name, calendar):
    series = series_of(name)

    check_answer(bars_on(days_of(name, calendar)), series, hours_of(series.instrument))


def with_marks(calendars):
    """Yield the calendars; of those of stocks that are known for all years four in five are left to soak."""
    alike = [name for name in calendars if name not in {*SINCE, *UNTIL, "CMES", "IEPA", ""}]
    for name in calendars:
        yield pytest.param(name, marks=pytest.mark.soak if name in alike and alike.index(name) % 5 else ())


@pytest.mark.slow
@pytest.mark.parametrize("calendar", [*with_marks(NAMES)])
def test_bars_of_1985_to_2027_are_taken_of_every_exchange(calendar):
    for name in NAMES[calendar].split():
        series = series_of(name)

        check_answer(bars_on(days_of(name, calendar)), series, hours_of(series.instrument))


@pytest.mark.slow
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_bars_of_each_calendar_are_imported_and_downloaded_over_turns_of_years(tmp_path, call, every):
    full, imported, loaded = (Store(tmp_path / folder) for folder in ("full", "imported", "loaded"))
    names = [*NAMES[""].split(), *(names.split()[-1] for calendar, names in NAMES.items() if calendar)][::every]
    wanted = {series_of(name): [days_of(name, dict(EVERY)[name], *turn) for turn in TURNS] for name in names}
    for series, days in wanted.items():
        for turn, one in zip(TURNS, days, strict=True):
            full.write(series, Span.of_dates(*turn), bars_on(one), source="made up", contract=None)
        write_bars(bars_on(np.concatenate(days)), tmp_path / "bars.csv", series, overwrite=True)
        code, _, problem = call("import", tmp_path / "bars.csv", series, "--store", tmp_path / "imported")
        assert code == 0, problem

    with Gateway(full, clock=lambda: datetime(2028, 2, 1, tzinfo=UTC)) as gateway, connect(gateway.address) as source:
        reports = [download(loaded, source, list(wanted), turn) for turn in TURNS]

    assert [one.errors for report in reports for one in report.series if one.exit_code] == []
    for series, days in wanted.items():
        rows = sum(map(len, days))
        assert (series, imported.manifest(series).rows, loaded.manifest(series).rows) == (series, rows, rows)


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("FOOBAR", "2024-03-02"),  # Saturdays
        ("XETRA", "1985-03-02"),
        ("TASE", "2025-03-01"),
        ("TASE", "2025-02-28"),  # a Friday
        ("TASE", "2026-02-01"),  # a Sunday
        ("TSEJ", "1990-03-03"),
        ("SEHKNTL", "2027-03-06"),
        ("NYSE", "1985-03-02"),
        ("NYSE", "1985-07-04"),
    ],
)
def test_a_bar_of_a_day_on_which_the_exchange_is_closed_is_refused(name, day):
    series = series_of(name)

    with pytest.raises(BadBars, match="outside of the exchange's sessions"):
        check_answer(bars_on(np.array([day], "datetime64[D]")), series, hours_of(series.instrument))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("TSEJ", "1988-03-05"),  # Saturdays
        ("KSE", "1995-03-04"),
        ("TWSE", "2018-03-31"),
        ("NSE", "2024-01-20"),
        ("TASE", "2025-03-02"),  # a Sunday
        ("TASE", "2026-01-09"),  # a Friday
    ],
)
def test_a_bar_of_a_weekend_on_which_the_exchange_was_open_is_taken(name, day):
    series = series_of(name)

    check_answer(bars_on(np.array([day], "datetime64[D]")), series, hours_of(series.instrument))


def store_of_rocks(folder):
    """Return the series of a stock on an exchange that nobody knows, its nine bars in a store in the folder."""
    series = series_of("FOOBAR")
    days = np.array([f"2024-03-{day:02}" for day in (1, 4, 5, 6, 7, 11, 12, 13, 14)], "datetime64[D]")
    span = Span.of_dates(days[0].item(), days[-1].item())
    Store(folder).write(series, span, bars_on(days), source="made up", contract=None)
    return series


def test_the_rule_of_an_exchange_without_a_calendar_is_said_in_ls(tmp_path, call):
    series = store_of_rocks(tmp_path)

    code, out, _ = call("ls", "--store", tmp_path)
    _, document, _ = call("ls", "--store", tmp_path, "--json")

    entry = json.loads(document)["series"][str(series)]
    assert code == 0
    assert f"{series.short}: sessions are assumed: weekdays; no holidays known for" in " ".join(out.split())
    assert entry["rule"] == f"weekdays; no holidays known for the exchange 'FOOBAR' of {series.instrument}"
    assert (entry["sessions_expected"], entry["sessions_missing"]) == (10, 1)


def test_the_rule_of_an_exchange_without_a_calendar_is_said_in_verify(tmp_path, call):
    series = store_of_rocks(tmp_path)

    code, _, _ = call("verify", "--store", tmp_path)
    _, document, _ = call("verify", "--store", tmp_path, "--json")

    found = [
        (one["check"], one["level"], one["text"]) for one in json.loads(document)["series"][str(series)]["findings"]
    ]
    assert code == 0
    assert found == [
        (
            "calendar",
            "note",
            f"sessions are assumed: weekdays; no holidays known for the exchange 'FOOBAR' of {series.instrument}",
        ),
        ("sessions", "warn", "1 session has no bar, 2024-03-08: not confirmed empty by the source"),
    ]


@pytest.mark.slow
def test_the_rule_of_an_exchange_without_a_calendar_is_said_on_the_page(tmp_path):
    series = store_of_rocks(tmp_path)

    result = run(ROOT / "strategies" / "buy_and_hold.py", series, store=tmp_path)

    rule = f"sessions of {series.short} are assumed: weekdays; no holidays known for the exchange 'FOOBAR'"
    assert rule in result.stats.basis
    assert rule in unescape(page(result))


def test_what_is_known_is_said_by_no_rule(sample):
    assert {entry.rule for entry in list_series(sample)} == {""}


def test_ib_is_never_made_to_say_our_rule(tmp_path):
    series = store_of_rocks(tmp_path)

    with Gateway(Store(tmp_path)) as gateway, connect(gateway.address) as source:
        details = source.qualify(series.instrument)

    assert (details.trading_hours, details.liquid_hours) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["ANY-STK-FOOBAR-USD/1hour", "ANY-FUT-OSE.JPN-JPY-202712/1hour"])
def test_hours_of_an_exchange_without_a_calendar_are_downloaded(tmp_path, text):
    series, turn = Series.parse(text), (date(2027, 1, 4), date(2027, 1, 8))
    full, loaded = store_with(tmp_path / "full", {text: ("2027-01-04", "2027-01-08")}), Store(tmp_path / "loaded")

    with Gateway(full, clock=lambda: datetime(2027, 2, 1, tzinfo=UTC)) as gateway, connect(gateway.address) as source:
        report = download(loaded, source, series, turn)

    assert report.complete
    assert loaded.read(series).equals(full.read(series))
