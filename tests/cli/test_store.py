"""What `backtest download` says at its end: the sum of a night, in a line and as JSON, whatever happens."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from backtest.cli.store_tables import give_download
from backtest.downloads.downloader import DownloadReport
from backtest.downloads.report import SeriesReport, counted_words, reason_of, summary_of
from backtest.errors import (
    BrokenPin,
    DataError,
    NoPermission,
    Refused,
    SourceError,
    Unanswered,
    UnknownContract,
)
from backtest.market.series import Series
from backtest.store.store import Store

ROWS = "Date,Open,High,Low,Close\n2024-01-02,1,1,1,1\n2024-01-03,1,1,1,1\n"
DATES = ("--since", "2024-01-02", "--until", "2024-01-03")


@pytest.fixture
def folder(tmp_path):
    """Return the address of a folder with AAPL and MSFT, and with IBM that lacks its second session."""
    (tmp_path / "csv").mkdir()
    for symbol in ("AAPL", "MSFT"):
        (tmp_path / "csv" / f"{symbol}_1day.csv").write_text(ROWS)
    (tmp_path / "csv" / "IBM_1day.csv").write_text(ROWS[: -len("2024-01-03,1,1,1,1\n")] + "2024-01-04,1,1,1,1\n")
    return f"csv:{tmp_path / 'csv'}"


@pytest.fixture
def download(call, folder, tmp_path):
    """Return a function that downloads from the folder into a store of its own."""

    def download(*words, dates=DATES, source=folder, store=tmp_path / "bars"):
        return call("download", *words, *dates, "--source", source, "--store", store)

    return download


def report(symbol, status="complete", **words):
    return SeriesReport(Series.parse(f"{symbol}/1day"), status, **words)


# --- the sum of a night


def test_a_night_of_many_series_ends_with_one_line(download):
    code, out, _ = download("AAPL/1day", "MSFT/1day", "NOPE/1day")

    assert code == 3
    assert out.splitlines()[-1] == (
        "3 series: 2 complete, 4 new bars, 0 revised, 0 ended, 1 gap open, 1 failed; no such instrument (1): NOPE/1day"
    )


def test_one_series_is_its_own_sum(download):
    _, out, _ = download("AAPL/1day")

    assert out == "AAPL/1day: complete, 2 bars (2 new), 2024-01-02 to 2024-01-03, 1 request\n"


def test_quiet_leaves_the_sum_and_the_errors(download):
    code, out, err = download("AAPL/1day", "NOPE/1day", "--quiet")

    assert code == 3
    assert len(out.splitlines()) == 1
    assert out.startswith("2 series: 1 complete, 2 new bars")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: NOPE/1day: ")


def test_a_quiet_night_without_news_is_one_line(download):
    download("AAPL/1day")

    code, out, err = download("AAPL/1day", "--quiet")

    assert (code, out, err) == (0, "1 series: 1 complete, 0 new bars, 0 revised, 0 ended, 0 failed\n", "")


def test_the_sum_adds_what_the_reports_count_and_says_why_some_failed():
    moment = Store("x").clock()
    night = [
        report("A", bars_added=1200),
        report("B", bars_added=34, revisions=(moment, moment)),
        report("C", ended=True),
        report("D", "partial", gaps=(None,), reason="sessions missing", exit_code=3),
        *(report(f"F{n}", "failed", reason="no such instrument", exit_code=4) for n in range(5)),
        report("G", "failed", quarantined=2, reason="no market data subscription", exit_code=4),
    ]

    assert str(summary_of(night)) == (
        "10 series: 3 complete, 1,234 new bars, 2 revised, 1 ended, 2 quarantined, 1 gap open, 1 partial, 6 failed; "
        "no such instrument (5): F0/1day, F1/1day, F2/1day and 2 more; sessions missing (1): D/1day; "
        "no market data subscription (1): G/1day"
    )


def test_what_is_counted_is_a_field_of_the_report_each(capsys):
    counts = summary_of([report("A", bars_added=3, ended=True)]).counts

    give_download(DownloadReport((report("A", ended=True),), 1, 0, 0.0), as_json=False)
    assert list(counts) == list(counted_words())
    assert counts == dict.fromkeys(counts, 0) | {"bars_added": 3, "ended": 1}
    assert capsys.readouterr().out.endswith("0 requests, ended\n")


@pytest.mark.parametrize(
    ("one", "error", "reason"),
    [
        (report("A"), None, ""),
        (report("A", "failed", exit_code=4), NoPermission("x", 354), "no market data subscription"),
        (report("A", "failed", exit_code=4), UnknownContract("x", 200), "no such instrument"),
        (report("A", "failed", exit_code=4), Unanswered("x"), "no answer in time"),
        (report("A", "partial", exit_code=4), None, "windows without an answer"),
        (report("A", "partial", exit_code=3, quarantined=1), None, "answers in quarantine"),
        (report("A", "partial", exit_code=3), None, "sessions missing"),
    ],
)
def test_a_series_that_is_not_complete_has_its_reason_in_a_few_words(one, error, reason):
    assert reason_of(one, error) == reason


def test_each_error_that_may_end_a_series_has_few_words_of_its_own():
    kinds = [kind for parent in (SourceError, DataError, Refused) for kind in parent.__subclasses__()]
    ours = [kind for kind in kinds if kind.__module__ == "backtest.errors" and kind is not BrokenPin]
    words = {kind: vars(kind).get("brief", "") for kind in ours}

    assert all(0 < len(brief) < 40 for brief in words.values()), words
    assert len(set(words.values())) == len(words)


def test_the_document_has_the_sum_the_reasons_and_the_exit_code(download):
    code, out, _ = download("AAPL/1day", "NOPE/1day", "--json")

    document = json.loads(out)
    assert document["exit_code"] == code == 3
    assert document["error"] is None
    assert document["summary"] | {"text": ""} == {
        "text": "",
        "series": 2,
        "complete": 1,
        "partial": 0,
        "failed": 1,
        "bars_added": 2,
        "revisions": 0,
        "ended": 0,
        "quarantined": 0,
        "confirmed_empty": 0,
        "gaps": 1,
        "reasons": {"no such instrument": ["NOPE-STK-SMART-USD/1day/TRADES/rth"]},
    }


# --- a document whatever happens


@pytest.mark.slow
def test_a_series_that_cannot_be_read_gives_a_document(download):
    code, out, err = download("AAPL", "--json")

    document = json.loads(out)
    assert (code, document["exit_code"], document["series"]) == (2, 2, {})
    assert err == f"error: {document['error']}\n"


def test_a_bad_file_gives_a_document(download, tmp_path):
    (tmp_path / "series.txt").write_text("AAPL/1day\nAAPL\n")

    code, out, _ = download(f"@{tmp_path / 'series.txt'}", "--json")

    assert code == 2
    assert "series.txt, line 2" in json.loads(out)["error"]


@pytest.mark.slow
def test_a_gateway_that_is_down_gives_a_document(download):
    code, out, _ = download("AAPL/1day", "--json", source="ib://127.0.0.1:1")

    document = json.loads(out)
    assert (code, document["exit_code"]) == (4, 4)
    assert "nothing is listening" in document["error"]
    assert document["summary"]["text"].startswith("the download ended early: connection refused")


def test_a_store_that_cannot_be_written_gives_a_document(download, tmp_path):
    (tmp_path / "file").write_text("")

    code, out, _ = download("AAPL/1day", "--json", store=tmp_path / "file" / "bars")

    document = json.loads(out)
    assert (code, document["exit_code"]) == (1, 1)
    assert "free space" in document["error"]


def test_words_that_typer_refuses_give_a_document(call):
    code, out, err = call("download", "--json", "--sinse", "2024-01-02")

    document = json.loads(out)
    assert (code, document["exit_code"]) == (2, 2)
    assert "No such option" in err


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "AAPL"),
        ("verify", "AAPL"),
        ("prune", "AAPL/1day", "--store", "nowhere"),
        ("pin", "--check", "--lock", "nowhere.lock", "--store", "nowhere"),
        ("import", "nothing.csv", "AAPL/1day"),
        ("publish", "ftp://x"),
        ("compare", "nowhere", "nothing"),
        ("validate", "nowhere"),
        ("doctor", "--source", "tws"),
        ("new", "x", "--template", "nothing"),
    ],
)
def test_each_command_that_fails_gives_a_document_if_one_is_asked_for(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    code, out, _ = call(*words, "--json")

    document = json.loads(out)
    assert document["exit_code"] == code > 0
    assert document["error"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_gives_a_document(tmp_path, number):
    """A gateway that is mute is waited for; the interrupt comes meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ib://127.0.0.1:{server.getsockname()[1]}"
        words = ("download", "AAPL/1day", *DATES, "--source", address, "--store", str(tmp_path / "bars"), "--json")
        started = subprocess.Popen(
            [sys.executable, "-m", "backtest", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.settimeout(60)
        with server.accept()[0] as accepted:
            assert accepted.recv(4) == b"API\0"  # now it waits for the rest of the handshake
            started.send_signal(number)
            out, _ = started.communicate(timeout=60)

    document = json.loads(out)
    assert document["exit_code"] == started.returncode == 130
    assert document["error"].startswith("interrupted")


@pytest.mark.slow
def test_a_document_that_cannot_be_written_is_one_sentence():
    """Stdout leads to a disk that is full."""
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "backtest", "ls", "--store", "data/sample", "--json"]
        ended = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0].startswith("error: No space left on device; free space or choose another place")
    assert "Traceback" not in ended.stderr
