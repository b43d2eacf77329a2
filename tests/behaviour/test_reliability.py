"""Witnesses of the harnesses in tests/soak and tests/benchmarks about downloads and baselines."""

import signal
import subprocess
import sys
import time

import downloads
import killed_downloads
import mutations
import pytest
from market import store_with
from places import ROOT

from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.market.series import Series
from backtest.store.store import Store

pytestmark = pytest.mark.crash


def test_a_killed_download_loses_nothing_and_ends_the_same(tmp_path):
    kills, finished, _ = killed_downloads.run(tmp_path, kills=1, seed=1)

    assert kills == 1
    assert finished >= 1


def test_what_was_changed_at_random_is_seen_and_named_as_the_cause(tmp_path):
    outcomes = mutations.run(tmp_path, count=12, seed=1)

    assert [words for words in outcomes if not words.endswith("rightly told")] == []
    assert {words.partition(",")[0] for words in outcomes} == {*mutations.WHAT}


def test_requests_are_the_fewest_and_no_limit_is_broken(tmp_path):
    rows = dict([*downloads.minutes(tmp_path / "minutes", 1), *downloads.daily(tmp_path / "daily", 5, 20)])

    assert [value.split(" = ")[-1] for job, value in rows.items() if "lower bound" in job and "missing" not in job] == [
        "1.000"
    ] * 2
    assert [value for job, value in rows.items() if "second run" in job] == ["0", "0"]
    assert all(value.startswith("0") for job, value in rows.items() if "violations" in job)


def test_ctrl_c_is_heard_though_it_wakes_nobody_who_waits():
    stops = ROOT / "tests" / "windows" / "stops.py"  # which `make windows` runs on Windows, where it never does

    done = subprocess.run([sys.executable, str(stops)], capture_output=True, text=True, timeout=300, check=False)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 failed"), done.stdout


@pytest.mark.parametrize(("interrupts", "code"), [(1, 4), (2, 130)])
def test_an_interrupted_download_goes_on_without_a_request_repeated(tmp_path, call, interrupts, code):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-02", "2024-06-28")})
    series, slow = Series.parse("AAPL/1min"), Faults.of([{"when": {"request": 3}, "do": "delay", "seconds": 8.0}])

    with Gateway(upstream, faults=slow) as gateway:
        process = start(gateway, tmp_path / "bars")
        while len(asked(gateway)) < 2 or not gateway.open_requests:  # two are answered, the third is in hand
            assert process.poll() is None
            time.sleep(0.05)
        for _ in range(interrupts):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        ended = process.wait(120)
        again, _, _ = call(*words(gateway, tmp_path / "bars"))

    assert (ended, again) == (code, 0)
    assert len(asked(gateway)) == 6  # answered; what is in hand when nobody waits any more is not
    assert Store(tmp_path / "bars").manifest(series).content == upstream.manifest(series).content


def words(gateway, store):
    asked = ["AAPL/1min", "--since", "2024-01-02", "--until", "2024-06-28", "--source", gateway.address]
    return ["download", *asked, "--store", str(store)]


def start(gateway, store):
    command = [sys.executable, "-m", "backtest", *words(gateway, store)]
    return subprocess.Popen(command, preexec_fn=heed_interrupts)


def heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite that was started with `&` inherits that it is ignored


def asked(gateway):
    return [record for record in gateway.requests if record.kind == "bars"]
