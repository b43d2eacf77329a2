import json
import logging
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from places import ROOT, SUPPORT
from stores.make_store import daily, days

from backtest.cli import progress
from backtest.cli.app import COMMANDS, main
from backtest.market.series import Series
from backtest.onboarding import demo
from backtest.research.search.sweeps import SweepProgress
from backtest.store.store import Store

pytestmark = pytest.mark.usefixtures("few_figures")

SAMPLE = str(ROOT / "data" / "sample")
EMULATOR = f"emulator:{SAMPLE}"
SMA = str(ROOT / "strategies" / "sma_cross.py")


def backtest(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "backtest", *words], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.slow
def test_every_command_explains_itself_with_an_example(call):
    for command in COMMANDS:
        code, out, _ = call(command.__name__.rstrip("_"), "--help")
        assert code == 0
        assert "Example: backtest" in out or command.__name__ == "demo"
        assert "…" not in out, command.__name__  # a word that its column cuts cannot be typed


def test_ls_lists_series_and_says_the_same_as_json(call):
    code, out, _ = call("ls", "--store", SAMPLE)
    _, document, _ = call("ls", "--store", SAMPLE, "--json")

    series = json.loads(document)["series"]
    assert code == 0
    assert series["AAPL-STK-SMART-USD/1day/TRADES/rth"]["bars"] == 3270
    assert all(row["series"] in out and f"{row['bars']:,}" in out for row in series.values())
    assert max(map(len, out.splitlines())) <= 80


def test_validate_gives_a_verdict_and_says_the_same_as_json(call, tmp_path):
    call("run", SMA, "IBM/1day", "--store", SAMPLE, "--out", str(tmp_path))

    code, out, _ = call("validate", str(tmp_path), "--bootstrap", "50", "--costs", "0,3")
    _, document, _ = call("validate", str(tmp_path), "--bootstrap", "50", "--costs", "0,3", "--json")

    found = json.loads(document)
    assert code == 0
    assert found["verdict"]["words"] in out.lower()
    assert f"{found['intervals']['intervals']['sharpe'][0]:.2f}" in out
    assert [case["factor"] for case in found["costs"]] == [0, 3]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_cost_cases_are_runs_that_are_kept_and_validate_says_where_they_are_not(call, tmp_path):
    span = ("--since", "2010-01-04", "--until", "2010-12-31", "--slippage", "5bp", "--costs", "none")
    asked = (SMA, "AAPL/1day", "--store", SAMPLE, "--set", "fast=3", "--set", "slow=9", *span)
    code, out, _ = call("run", *asked, "--out", str(tmp_path / "one"), "--cost-cases", "0,2")
    _, double, _ = call(
        "run", "sma_cross", *asked[1:-3], "10bp", "--costs", "none", "--out", str(tmp_path / "two"), "--json"
    )

    document = json.loads((tmp_path / "one" / "cost_cases.json").read_text("utf-8"))
    _, said, _ = call("validate", str(tmp_path / "one"), "--bootstrap", "10", "--cost-cases", "0,2", "--json")
    two = ("validate", str(tmp_path / "two"), "--bootstrap", "10")
    _, plain, unasked = call(*two)
    failed, without, error = call(*two, "--cost-cases", "0,1,2", "--store", str(tmp_path / "none"))

    assert code == 0
    assert [case["factor"] for case in document["cases"]] == [0, 1, 2]
    assert document["cases"][2]["total_return"] == json.loads(double)["stats"]["total_return"]
    assert f"{document['cases'][2]['total_return'] * 100:.2f} %" in out
    assert json.loads(said)["costs"] == [document["cases"][0], document["cases"][2]]
    assert "Approximation: " in plain  # what a saved run names is not run unless that is asked for
    assert "run again" not in unasked
    assert "Approximation: " in without
    assert "error: the run could not be repeated at other costs: AAPL/1day is not in" in error
    assert failed == 3
    assert not (tmp_path / "two" / "cost_cases.json").exists()


@pytest.mark.parametrize("wrong", [("--cost-cases", "x"), ("--cost-cases", "-1"), ("--cost-cases", "1", "--each")])
def test_cost_cases_that_cannot_be_meant_are_a_sentence(call, wrong):
    code, _, error = call("run", SMA, "AAPL/1day", "--store", SAMPLE, *wrong)

    assert code == 2
    assert "--cost-cases" in error


@pytest.mark.slow
def test_validate_ends_with_1_where_a_strategy_knows_the_future(call, tmp_path, monkeypatch):
    monkeypatch.chdir(SUPPORT)
    kept = str(tmp_path / "kept")
    call("run", "honest.py:TodaysClose", "AAPL/1day", "--until", "2000-12-29", "--store", SAMPLE, "--out", kept)

    code, out, _ = call("validate", kept, "--bootstrap", "10", "--lookahead", "--store", SAMPLE)

    assert code == 1
    assert out.startswith("Look-ahead bias.\n- ")


def test_prune_gives_up_old_revisions_and_says_how_much_room_that_makes(call, tmp_path):
    series, store = Series.parse("AAPL/1day"), Store(tmp_path / "bars")
    for close in (11.0, 11.1, 11.2):
        store.write(series, days(2, 5), daily(2, 5, close=close), revise=True)
    (old, _) = (segment.bytes for segment in store.manifest(series).archived)

    code, out, _ = call("prune", "AAPL/1day", "--keep", "1", "--store", str(store.root))
    _, document, _ = call("prune", "AAPL/1day", "--keep", "1", "--store", str(store.root), "--json")

    assert (code, out) == (0, f"AAPL/1day: {old:,} bytes freed, 1 revisions kept\n")
    assert json.loads(document) == {"series": {str(series): {"bytes_freed": 0}}}
    assert store.read(series, revision=2).equals(daily(2, 5, close=11.1))


def test_prune_throws_away_what_was_put_aside_if_it_is_told_to(call, tmp_path):
    series, store = Series.parse("AAPL/1day"), Store(tmp_path / "bars")
    store.write(series, days(2, 5), daily(2, 5))
    size = store.quarantine(series, days(2, 5), daily(2, 5, close=11.7), "they had settled").stat().st_size

    code, out, _ = call("prune", "AAPL/1day", "--quarantine", "--store", str(store.root))

    assert (code, out) == (0, f"AAPL/1day: {size:,} bytes freed, 0 revisions kept\n")
    assert store.manifest(series).aside == ()


@pytest.mark.slow
def test_run_prints_numbers_and_keeps_the_run_that_report_then_shows(call, tmp_path):
    folder = str(tmp_path / "run")

    code, out, err = call("run", SMA, "AAPL/1day", "--store", SAMPLE, "--out", folder)
    reported, page, _ = call("report", folder)

    assert (code, reported) == (0, 0)
    assert "Sharpe" in out
    assert folder in err
    assert Path(page.strip()).read_text().startswith("<!doctype html>")
    assert max(map(len, out.splitlines())) <= 80


def test_run_as_json_is_one_document_with_the_numbers_of_the_run(call, tmp_path):
    code, out, _ = call("run", SMA, "AAPL/1day", "--set", "fast=5", "--store", SAMPLE, "--out", str(tmp_path), "--json")

    document = json.loads(out)
    assert code == 0
    assert {"run", "folder", "stats", "definitions", "manifest"} <= set(document)
    assert document["stats"]["max_drawdown"] < 0
    assert set(document["stats"]) == set(document["definitions"])


@pytest.mark.slow
def test_download_from_the_emulator_fills_a_store_and_then_has_nothing_to_do(call, tmp_path):
    words = ("download", "AAPL/1day", "--since", "2000-03-01", "--until", "2013-03-01")
    words = (*words, "--source", EMULATOR, "--store", str(tmp_path / "bars"))

    first, again = call(*words), call(*words, "--json")

    assert first[0] == again[0] == 0
    assert "3,270 bars (3,270 new)" in first[1]
    assert json.loads(again[1])["requests"] == 0


def test_download_reads_series_from_a_file(call, tmp_path):
    (tmp_path / "list").write_text("AAPL/1day  # apples\n\nIBM/1day\n")
    words = ("download", f"@{tmp_path / 'list'}", "--since", "2012-01-03", "--until", "2013-03-01", "--json")

    code, out, _ = call(*words, "--source", EMULATOR, "--store", str(tmp_path / "bars"))

    assert code == 0
    assert len(json.loads(out)["series"]) == 2


def test_a_list_of_series_that_is_no_text_is_named(call, tmp_path):
    (tmp_path / "list").write_bytes(b"\xff\xff")

    code, _, err = call("download", f"@{tmp_path / 'list'}", "--since", "2012-01-03", "--source", EMULATOR)

    assert (code, err.count("\n")) == (2, 1)
    assert "list' is not a text file" in err


def test_download_that_misses_something_says_so_with_its_exit_code(call, tmp_path):
    words = ("download", "NOPE/1day", "IBM/1day", "--since", "2012-01-03", "--until", "2013-03-01", "--json")

    code, out, _ = call(*words, "--source", EMULATOR, "--store", str(tmp_path / "bars"))

    status = {key.split("-")[0]: one["status"] for key, one in json.loads(out)["series"].items()}
    assert code == 3
    assert status == {"NOPE": "failed", "IBM": "complete"}


@pytest.mark.slow
def test_log_records_are_json_lines_when_asked_for(tmp_path):
    ran = backtest(
        *("download", "IBM/1day", "--since", "2012-01-03", "--until", "2013-03-01", "--log-format", "json"),
        *("--source", EMULATOR, "--store", str(tmp_path / "bars")),
    )

    records = [json.loads(line) for line in ran.stderr.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(records[0])
    assert 2104 in [record.get("code") for record in records]


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(
        "import backtrader as bt\n\nclass Broken(bt.Strategy):\n    def next(self):\n        self.buy(size=1 / 0)\n"
    )
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "{broken}", "AAPL/1day", "--store", SAMPLE], 5, "in next() at line 5 of broken.py: ZeroDiv"),
        (["run", "sma_cross", "QQQ/1day", "--store", SAMPLE], 3, "backtest download QQQ/1day"),
        (["run", "sma_cross", "AAPL/1dy", "--store", SAMPLE], 2, "unknown bar size '1dy'"),
        (["run", "sma_cross", "AAPL/1day", "--store", SAMPLE, "--set", "fst=3"], 2, "did you mean fast?"),
        (["run", "sma_cross", "AAPL/1day", "--store", SAMPLE, "--set", "fast=x"], 2, "not a whole number"),
        (["run", "sma_cross", "AAPL/1day", "--store", SAMPLE, "--set", "fast"], 2, "NAME=VALUE"),
        (["run", "sma_cross", "AAPL/1day", "--store", "{file}"], 3, "is not a store"),
        (["run", "sma_cross", "AAPL/1day", "--store", str(ROOT / "tests")], 3, "is not a store"),
        (["run", "sma_cross", "AAPL/1day", "--store", SAMPLE, "--out", "{file}/x"], 2, "another folder"),
        (["run", "smacross", "AAPL/1day", "--store", SAMPLE], 2, "did you mean sma_cross?"),
        (["report", "no_such_run"], 2, "backtest runs ls"),
        (["validate", "no_such_run"], 2, "backtest runs ls"),
        (["validate", "{run}", "--costs", "0,two"], 2, "write multiples such as 0,1,2"),
        (["report", "{run}", "--out", "{file}/x"], 2, "another folder"),
        (["download", "AAPL/1day", "--since", "2012-02-30"], 2, "not a valid date"),
        (["download", "AAPL/1day", "--since", "2012-01-01", "--source", "ib://127.0.0.1:{port}"], 4, "is listening on"),
        (["download", "@{file}s", "--since", "2012-01-01"], 2, "no file"),
        (["download", "AAPL/1day", "--since", "2012-01-01", "--until", "2011-01-01", "--source", EMULATOR], 2,
         "the first session, 2012-01-01, is after the last, 2011-01-01;"),
        (["download", "AAPL/1day", "--since", "2012-01-03", "--until", "2012-01-09", "--source", EMULATOR,
          "--store", "{file}/x"], 1, "another place"),
        (["download", "AAPL/1day", "--since", "2012-01-01", "--log-format", "xml"], 2, "text or json"),
        (["emulator", "--store", SAMPLE, "--faults", "{file}"], 2, "{file}"),
        (["emulator", "--store", SAMPLE, "--port", "{taken}"], 2, "{taken}"),
        (["emulator", "--store", SAMPLE, "--port", "0", "--pacing", "lax"], 2, "strict"),
        (["import", "{file}", "AAPL/1day"], 2, "holds no table"),
        (["import", "{file}.csv", "AAPL/1day"], 2, "no file"),
        (["import", "{file}.csv", "AAPL"], 2, "has no bar size"),
        (["export", "QQQ/1day", "{file}.csv", "--store", SAMPLE], 3, "backtest download QQQ/1day"),
        (["prune", "QQQ/1day", "--store", SAMPLE], 3, "QQQ/1day is not in"),
        (["export", "AAPL/1day", "{file}", "--store", SAMPLE], 2, "ends in 'nothing'"),
        (["export", "AAPL/1day", "{file}/x.csv", "--store", SAMPLE], 1, "another place"),
        (["export", "AAPL/1day", "{file}.csv", "--store", SAMPLE, "--since", "2012-02-30"], 2, "not a valid date"),
        (["doctor", "--source", "tws"], 2, "csv:FOLDER"),
        (["doctor", "--series", "AAPL"], 2, "has no bar size"),
        (["dwnload"], 2, "Did you mean 'download'?"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_sentence_what_to_do_and_an_exit_code(
    call, broken, tmp_path, taken_port, free_port, words, code, said
):
    (tmp_path / "file").write_text("no store\n")
    places = {
        "broken": broken,
        "file": tmp_path / "file",
        "taken": taken_port,
        "port": free_port,
        "run": tmp_path / "run",
    }
    if "{run}" in words:
        call("run", "buy_and_hold", "AAPL/1day", "--store", SAMPLE, "--out", str(tmp_path / "run"))

    ended, out, err = call(*(word.format(**places) for word in words))

    assert said.format(**places) in err
    assert ended == code
    assert not out
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1 or "Usage:" in err


@pytest.fixture
def taken_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
def test_the_gateway_command_says_where_it_listens_and_ends_on_a_signal():
    words = [sys.executable, "-m", "backtest", "emulator", "--store", SAMPLE, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as served:
        line = served.stdout.readline()
        served.send_signal(signal.SIGTERM)

        assert served.wait(120) == 0
    assert line.startswith("listening on 127.0.0.1:")


def test_the_emulators_old_name_is_taken_and_not_shown(call):
    code, _, said = call("gateway", "--store", SAMPLE, "--port", "0", "--pacing", "lax")
    _, shown, _ = call("--help")

    assert (code, "unknown pacing 'lax'" in said) == (2, True)
    assert "emulator" in shown
    assert " gateway " not in shown


def test_a_source_is_taken_by_the_emulators_old_name(call, tmp_path):
    words = ("AAPL/1day", "--since", "2000-03-01", "--until", "2000-03-03", "--store", str(tmp_path))

    code, _, _ = call("download", *words, "--source", f"gateway:{SAMPLE}")

    assert code == 0
    assert len(Store(tmp_path).read(Series.parse("AAPL/1day"))) == 3  # Wednesday to Friday


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error():
    words = f"{sys.executable} -m backtest ls --store {SAMPLE} --json | head -c 10"
    ran = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=True)

    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_the_demo_downloads_nothing_that_its_store_has_already_and_writes_a_page_a_run(call, tmp_path, monkeypatch):
    series, store = ("GOOG/1day",), str(tmp_path / "runs" / "store")
    monkeypatch.setattr(demo, "SERIES", series)  # all four are on the page README.md
    call("download", *series, "--since", "2000-03-01", "--until", "2013-03-01", "--source", EMULATOR, "--store", store)

    code, out, err = call("demo", "--out", str(tmp_path / "runs"))

    assert code == 0
    assert f"Nothing to download: {store} has all" in err
    assert out.count("SmaCross") == out.count("BuyAndHold") == 1
    assert len(list((tmp_path / "runs").glob("*/index.html"))) == 2


# --- the day on which a command is called

LEAP_NIGHT = datetime(2028, 2, 29, 23, 58, tzinfo=UTC)


@pytest.mark.slow
def test_a_command_takes_its_day_from_the_clock_that_it_is_given(tmp_path, capsys):
    (tmp_path / "vendor").mkdir()
    file, store = str(tmp_path / "vendor" / "AAPL.csv"), str(tmp_path / "store")
    half_way = datetime(2012, 6, 1, 12, tzinfo=UTC)
    with pytest.raises(SystemExit):
        main(["export", "AAPL/1day", file, "--store", SAMPLE])

    words = ["download", "AAPL/1day", "--since", "2012-01-03", "--source", f"csv:{tmp_path / 'vendor'}"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--store", store], clock=lambda: half_way)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["ls", "--store", store, "--json"])

    (row,) = json.loads(capsys.readouterr().out)["series"].values()
    assert ended.value.code == 0
    assert (row["to"], row["updated"]) == ("2012-05-31T00:00:00+00:00", half_way.isoformat())


def test_what_is_imported_is_stamped_by_the_clock_of_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", "AAPL/1day", str(tmp_path / "aapl.csv"), "--store", SAMPLE])
    words = ["import", str(tmp_path / "aapl.csv"), "AAPL/1day", "--store", str(tmp_path / "store")]
    with pytest.raises(SystemExit):
        main(words, clock=lambda: LEAP_NIGHT)

    answers = Store(tmp_path / "store").manifest(Series.parse("AAPL/1day")).answers
    assert {answer.at for answer in answers} == {LEAP_NIGHT}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no zone for one process")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_log_records_have_the_time_in_utc_wherever_the_machine_is(zone, monkeypatch):
    record = logging.makeLogRecord({"msg": "bars came", "created": LEAP_NIGHT.timestamp()})
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        line = progress._JsonLines().format(record)
    finally:
        monkeypatch.undo()
        time.tzset()

    assert json.loads(line)["time"] == "2028-02-29T23:58:00+00:00"


def test_no_line_of_progress_comes_where_the_clock_stands_and_one_where_it_goes_on(capsys):
    now = [LEAP_NIGHT]
    told = SweepProgress(done=50, total=100, kept=0, failed=0, seconds=40.0, left=40.0)

    with progress.sweeping(lambda: now[0]) as tell:
        tell(told)
        silent = capsys.readouterr().err
        now[0] += timedelta(seconds=31)
        tell(told)

    assert silent == ""
    assert "50 of 100 trials" in capsys.readouterr().err
