"""All there is: a download from a source's first bar on, which the source says, or where it does not, can be found."""

import json
import logging
import time
from datetime import UTC, date, datetime

import pytest
from market import store_with

from backtest.downloads.downloader import download, plan_download
from backtest.emulator.faults import Faults
from backtest.emulator.protocol import ACCOUNT
from backtest.emulator.server import Gateway
from backtest.errors import NoBars, UsageError
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.connect import connect
from backtest.sources.ib.shared_state import State
from backtest.store.store import Store

GOOG = Series.parse("GOOG/1day")
FIRST, LAST = datetime(2004, 8, 19, tzinfo=UTC), date(2013, 3, 1)
NO_HEAD = {"when": {"kind": "head", "times": 999}, "do": "error", "code": 162, "text": "No head timestamp"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bars")


def asked(gateway, kind):
    return [record for record in gateway.requests if record.kind == kind]


@pytest.mark.second_client
@pytest.mark.slow
def test_all_there_is_comes_from_the_head_time_stamp_on(sample, store):
    with Gateway(sample) as gateway, connect(gateway.address) as source:
        report = download(store, source, [GOOG, "AAPL/1day"], start="head", end=LAST)
        requests = len(asked(gateway, "bars"))

    assert report.complete
    assert [one.first for one in report.series] == [FIRST, datetime(2000, 3, 1, tzinfo=UTC)]
    assert store.read(GOOG).equals(sample.read(GOOG))
    assert requests == 2
    assert store.manifest(GOOG).answers[0].span.start == FIRST  # nothing before it is taken for asked


@pytest.mark.slow
def test_the_next_night_asks_for_no_head_time_stamp_again(sample, store, tmp_path):
    with Gateway(sample) as gateway:
        for _ in range(2):
            with connect(gateway.address, state=tmp_path / "state") as source:
                report = download(store, source, GOOG, start="head", end=LAST)
        heads = len(asked(gateway, "head"))

    assert report.complete
    assert (report.requests, heads) == (0, 1)


@pytest.mark.slow
def test_a_state_of_another_login_is_not_believed(sample, store, tmp_path):
    """The emulator today and a gateway tomorrow may listen at one port."""
    kept = {"heads": {"0123456789abcdef GOOG-STK-SMART-USD TRADES": [0.0, time.time()]}}
    (tmp_path / "state").mkdir()
    with Gateway(sample) as gateway:
        (tmp_path / "state" / f"gateway-127.0.0.1-{gateway.port}.json").write_text(json.dumps(kept))
        with connect(gateway.address, state=tmp_path / "state") as source:
            head = source.head(GOOG)
        state = json.loads((tmp_path / "state" / f"gateway-127.0.0.1-{gateway.port}.json").read_text())

    assert head.date() == FIRST.date()
    assert len(state["heads"]) == 2
    assert ACCOUNT not in str(state)


@pytest.mark.parametrize("heads", [[], {"x": 1}, {"x": [1]}, {"x": ["2004", 1]}, {"x": [float("inf"), 1]}])
def test_a_damaged_state_has_no_heads(tmp_path, heads):
    (tmp_path / "state.json").write_text(json.dumps({"heads": heads}))

    assert State(tmp_path / "state.json").head("x", 2.0) is None


def test_a_head_is_believed_for_a_month(tmp_path):
    State(tmp_path / "state.json").learn_head("x", -1.0, now=1000.0)

    heads = [State(tmp_path / "state.json").head("x", 1000.0 + days * 86_400) for days in (0, 29, 31, -1)]
    assert heads == [-1.0, -1.0, None, None]


@pytest.mark.slow
def test_an_hour_bar_before_the_head_time_stamp_is_found_too(tmp_path, store):
    upstream = store_with(tmp_path / "market", {"AAPL/1hour": ("2024-01-02", "2024-03-28")})
    late = {"when": {"kind": "head", "times": 9}, "do": "head", "since": "20240318-13:30:00"}
    now = datetime(2024, 4, 15, tzinfo=UTC)
    with (
        Gateway(upstream, clock=lambda: now, faults=Faults.of([late])) as gateway,
        connect(gateway.address, clock=lambda: now) as source,
    ):
        report = download(store, source, "AAPL/1hour", start="head", end=date(2024, 3, 28))

    assert report.complete, report.series[0].errors
    assert store.read("AAPL/1hour").equals(upstream.read("AAPL/1hour"))


@pytest.mark.slow
@pytest.mark.parametrize("since", ["19700101-00:00:00", "20300101-14:30:00"])
def test_a_head_time_stamp_that_stands_for_none_is_done_without(since, sample, store):
    none = {"when": {"kind": "head", "times": 9}, "do": "head", "since": since}
    now = datetime(2013, 3, 2, tzinfo=UTC)
    with (
        Gateway(sample, clock=lambda: now, faults=Faults.of([none])) as gateway,
        connect(gateway.address, clock=lambda: now) as source,
    ):
        report = download(store, source, GOOG, start="head", end=LAST)

    assert (report.complete, report.series[0].first) == (True, FIRST)


@pytest.mark.slow
def test_a_head_time_stamp_that_is_too_late_is_found_out_by_an_answer_that_reaches_further_back(sample, store):
    late = {"when": {"kind": "head", "times": 9}, "do": "head", "since": "20100503-13:30:00"}
    with Gateway(sample, faults=Faults.of([late])) as gateway, connect(gateway.address) as source:
        report = download(store, source, GOOG, start="head", end=LAST)

    assert (report.complete, report.series[0].first, report.series[0].bars) == (True, FIRST, len(sample.read(GOOG)))
    assert report.series[0].bars_added == report.series[0].bars
    assert store.read(GOOG).equals(sample.read(GOOG))


@pytest.mark.slow
def test_where_the_gateway_has_no_head_time_stamp_the_first_daily_bar_is_taken(sample, store):
    with Gateway(sample, faults=Faults.of([NO_HEAD])) as gateway, connect(gateway.address) as source:
        report = download(store, source, GOOG, start="head", end=LAST)
        requests = len(asked(gateway, "bars"))

    assert report.complete
    assert report.series[0].first == FIRST
    assert requests == 2  # that for the first bar reaches over all years


def test_bars_of_seconds_begin_where_ib_still_serves_them(tmp_path):
    upstream = store_with(tmp_path / "market", {"AAPL/30secs": ("2024-03-04", "2024-03-05")})
    now = datetime(2024, 7, 15, tzinfo=UTC)

    with Gateway(upstream, clock=lambda: now) as gateway, connect(gateway.address) as source:
        young = source.first(Series.parse("AAPL/30secs"), now)
        old = source.first(Series.parse("AAPL/30secs"), datetime(2025, 7, 15, tzinfo=UTC))

    assert young == datetime(2024, 3, 4, 14, 30, tzinfo=UTC)
    assert old == datetime(2025, 1, 14, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    """Return the address of a folder with two bars of AAPL, and a file of IBM without any."""
    (tmp_path / "csv").mkdir()
    rows = "Date,Open,High,Low,Close\n2024-01-03,1,1,1,1\n2024-01-04,1,1,1,1\n"
    (tmp_path / "csv" / "AAPL_1day.csv").write_text(rows)
    (tmp_path / "csv" / "IBM_1day.csv").write_text(rows.partition("\n")[0] + "\n")
    return f"csv:{tmp_path / 'csv'}"


def test_a_file_is_read_from_its_first_bar_on(store, folder):
    report = download(store, folder, "AAPL/1day", start="head", end="2024-01-04")

    assert report.complete
    assert store.manifest("AAPL/1day").answers[0].span == Span.of_dates("2024-01-03", "2024-01-04")


def test_a_source_that_does_not_say_where_bars_begin_asks_for_a_date(store, folder):
    report = download(store, folder, ["IBM/1day", "AAPL/1day"], start="head", end="2024-01-04")

    ibm, aapl = report.series
    assert (ibm.status, ibm.exit_code, ibm.reason) == ("failed", NoBars.exit_code, NoBars.brief)
    assert "name the first session, such as 2010-01-04" in ibm.errors[0]
    assert aapl.status == "complete"


def test_what_is_stored_says_where_bars_begin_if_the_source_does_not(store, folder, tmp_path):
    download(store, folder, "AAPL/1day", start="2024-01-03", end="2024-01-04")
    source = connect(folder)
    source.first = lambda series, now: None

    report = download(store, source, "AAPL/1day", start="head", end="2024-01-04")

    assert report.complete
    assert report.requests == 0


def test_a_series_that_begins_after_the_last_session_is_told_so(store, folder):
    (one,) = download(store, folder, "AAPL/1day", start="head", end="2023-12-29").series

    assert one.errors == ("the bars of AAPL/1day begin on 2024-01-03, after 2023-12-29; name a later last session",)


def test_a_plan_of_all_there_is_has_its_windows_or_its_error(store, folder):
    aapl, ibm = plan_download(store, folder, ["AAPL/1day", "IBM/1day"], start="HEAD", end="2024-01-04")

    assert aapl.windows == (Span.of_dates("2024-01-03", "2024-01-04"),)
    assert "does not say when" in ibm.error


def test_all_there_is_and_a_span_are_not_asked_for_at_once(store, folder):
    with pytest.raises(UsageError, match="both given"):
        download(store, folder, "AAPL/1day", ("2024-01-03", None), start="head")


@pytest.mark.parametrize("word", ["head", "Head"])
def test_the_command_takes_head_for_all_there_is(call, folder, tmp_path, word):
    words = ("--since", word, "--until", "2024-01-04", "--source", folder, "--store", tmp_path / "bars")

    code, out, _ = call("download", "AAPL/1day", *words)

    assert code == 0
    assert out == "AAPL/1day: complete, 2 bars (2 new), 2024-01-03 to 2024-01-04, 1 request\n"


def test_a_stop_before_a_series_began_says_that_of_it(store, folder, caplog):
    """An error that ends all comes first; with one worker the others have not asked for their first bar."""

    class Away(type(connect(folder))):
        def first(self, series, now):
            from backtest.errors import NoConnection

            raise NoConnection("nothing is listening")

    source = Away(folder.partition(":")[2])

    with caplog.at_level(logging.WARNING):
        report = download(store, source, ["AAPL/1day", "IBM/1day"], start="head", end="2024-01-04", workers=1)

    assert [one.reason for one in report.series] == ["gateway unreachable", "stopped"]
    assert report.exit_code == 4
