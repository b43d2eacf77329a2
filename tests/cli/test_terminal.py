"""What `--json` puts on stdout: one document, whatever a strategy writes there."""

import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from places import ROOT

from backtest._system import write_anything
from backtest.cli.app import main

SAMPLE = str(ROOT / "data" / "sample")
DATES = ("--since", "2004-01-02", "--until", "2004-06-30")
NOISY = """
import logging, sys
import backtrader as bt
print("noise of the file")
noise = logging.getLogger("noise")
noise.handlers = [logging.StreamHandler(sys.stdout)]

class Noisy(bt.Strategy):
    params = (("n", 5),)
    def __init__(self):
        print("noise of init", file=sys.stdout)
        sys.stdout.write("noise as written\\n")
        sys.stdout.buffer.write(b"noise of bytes\\n")
    def next(self):
        if len(self) % 20 == 10: self.buy(size=self.p.n)
        if len(self) == 20: noise.warning("noise of logging")
        if len(self) % 20 == 0: self.sell(size=self.p.n)
        if len(self) >= 20 and self.p.n == 2: raise KeyboardInterrupt
    def stop(self):
        sys.stdout.flush()
        print("noise of stop", flush=True)
"""
NOISES = ("the file", "init", "bytes", "logging", "stop")
LOW = """
import atexit, os, subprocess, sys
os.write(1, b"noise of a descriptor\\n")
subprocess.run([sys.executable, "-c", "print('noise of a process')"])
print("noise of the first stdout", file=sys.__stdout__)
atexit.register(print, "noise at the end")
atexit.register(os.write, 1, b"noise at the end of a descriptor\\n")
"""


@pytest.fixture
def noisy(tmp_path, monkeypatch):
    """Be in a folder with a strategy that writes to stdout in many ways."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisy.py").write_text(NOISY)
    return tmp_path


def check(ended, noises=NOISES):
    """Check that stdout is one document, and that stderr has what the strategy said; return the document."""
    code, out, err = ended
    assert code in (0, 1), err
    assert out, err
    assert [noise for noise in noises if f"noise of {noise}" not in err] == []
    return json.loads(out)


def test_a_run_gives_one_document_and_the_strategys_words_go_to_stderr(noisy, call):
    document = check(call("run", "noisy.py", "AAPL/1day", *DATES, "--store", SAMPLE, "--json"))

    assert document["stats"]["trades"] == 6


def test_without_json_a_strategys_words_stay_on_stdout(noisy, call):
    code, out, _ = call("run", "noisy.py", "AAPL/1day", *DATES, "--store", SAMPLE)

    assert code == 0
    assert "noise of stop" in out


@pytest.mark.slow
def test_what_runs_a_strategy_again_gives_one_document_too(noisy, call):
    assert call("run", "noisy.py", "AAPL/1day", *DATES, "--store", SAMPLE, "--out", "runs/one")[0] == 0
    assert call("baseline", "save", "one", "--store", SAMPLE)[0] == 0

    for words in (
        ("baseline", "check"),
        ("baseline", "diff"),
        ("baseline", "accept"),
        ("reproduce", "one"),
        ("validate", "one", "--bootstrap", 10, "--walk-forward", "40/20", "--grid", "n=1:2"),
        ("validate", "one", "--bootstrap", 10, "--cpcv", "3,1", "--grid", "n=1:2"),
    ):
        assert check(call(*words, "--store", SAMPLE, "--json"))
    ahead = call("validate", "one", "--bootstrap", 10, "--lookahead", "--store", SAMPLE, "--json")
    assert check(ahead, ["the file"])  # the runs themselves are in processes whose words nobody waits for


def test_a_sweep_gives_one_document(noisy, call):
    words = ("sweep", "noisy.py", "AAPL/1day", "--grid", "n=1:3", "--rank", "total_return", *DATES)

    document = check(call(*words, "--store", SAMPLE, "--json"))

    assert (document["trials"], document["failed"]) == (3, 1)


def test_where_a_strategy_fails_stdout_has_a_document_that_says_so(noisy, call):
    (noisy / "noisy.py").write_text(NOISY + "    def start(self): print('noise of start'); sys.exit()\n")

    code, out, err = call("run", "noisy.py", "AAPL/1day", *DATES, "--store", SAMPLE, "--json")

    document = json.loads(out)
    assert (code, document["exit_code"]) == (5, 5)
    assert f"error: {document['error']}" in err
    assert "noise of start" in err


def test_a_strategy_that_closes_stdout_does_no_harm(noisy, call):
    (noisy / "noisy.py").write_text(NOISY + "    def start(self): sys.stdout.close()\n")

    check(call("run", "noisy.py", "AAPL/1day", *DATES, "--store", SAMPLE, "--json"))

    assert not sys.stdout.closed
    assert call("--version")[1].startswith("backtest ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("run", "noisy.py", "AAPL/1day"),
        ("sweep", "noisy.py", "AAPL/1day", "--grid", "n=1:3", "--rank", "total_return", "--jobs", "2"),
    ],
)
def test_descriptors_processes_workers_and_the_end_of_python_write_to_stderr_too(noisy, words):
    (noisy / "noisy.py").write_text(NOISY + LOW)
    command = [sys.executable, "-m", "backtest", *words, *DATES, "--store", SAMPLE, "--json"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    ended = subprocess.run(
        command, cwd=noisy, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )

    noises = (*NOISES, "a descriptor", "a process", "the first stdout")
    document = check((ended.returncode, ended.stdout, ended.stderr), noises)
    assert document.get("failed", 1) == 1  # of the sweep's trials, the one that raises
    assert "noise at the end" in ended.stderr
    assert "noise at the end of a descriptor" in ended.stderr


@pytest.mark.slow
def test_where_stderr_is_closed_the_document_is_still_alone(noisy):
    words = ("run", "noisy.py", "AAPL/1day", *DATES, "--store", SAMPLE, "--json")
    command = " ".join([sys.executable, "-m", "backtest", *words])

    without = subprocess.run(f"{command} 2>&-", cwd=noisy, shell=True, capture_output=True, text=True, check=False)

    assert json.loads(without.stdout)["stats"]["trades"] == 6


# --- streams of any encoding

ENCODINGS = ("cp1252", "cp437", "latin-1", "ascii", "utf-8")
FOREIGN = "Größe – 7203 × 日本 … −1 µs █ \udcff"  # the last is what stands for a byte of a name that is no UTF-8


@contextmanager
def streams(encoding):
    """Yield stdout and stderr of an encoding, as a pipe or a file of Windows has them."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        yield out, err


def written(stream):
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


def ended(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code or 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_an_encoding_lacks_ends_no_command(encoding):
    with streams(encoding) as (out, err):
        code = ended("run", FOREIGN, "AAPL/1day", "--store", SAMPLE)
        print(FOREIGN)

    assert code == 2
    assert "no strategy" in written(err)
    assert "7203" in written(out)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("verify", "GOOG/1day", "--store", SAMPLE),
        ("ls", "--store", SAMPLE),
        ("run", "sma_cross", "AAPL/1day", *DATES, "--store", SAMPLE),
    ],
)
def test_commands_write_their_tables_in_any_encoding(encoding, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with streams(encoding) as (out, err):
        code = ended(*words)

    assert code == 0, written(err)
    assert written(out)


def test_letters_that_have_a_likeness_are_written_as_that():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    write_anything(stream, None)
    stream.write("2000–2013, 3 × −1 µs … 日")

    assert written(stream) == "2000-2013, 3 x -1 us ... \\u65e5"


@pytest.mark.slow
def test_a_workers_words_fail_no_trial_whatever_the_encoding(noisy):
    (noisy / "noisy.py").write_text(NOISY.replace("noise of stop", "noise × 日 of stop"), encoding="utf-8")
    words = ("sweep", "noisy.py", "AAPL/1day", "--grid", "n=1:3", "--rank", "total_return", "--jobs", "2", "--json")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "cp1252"}

    ran = subprocess.run(
        [sys.executable, "-m", "backtest", *words, *DATES, "--store", SAMPLE],
        cwd=noisy, capture_output=True, check=False, env=environment,
    )  # fmt: skip

    assert json.loads(ran.stdout)["failed"] == 1  # the trial that raises
