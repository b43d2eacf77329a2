"""The command of --on-problem: run once where a download needs attention, with the facts, and never through a shell."""

import json
import socket
import sys
import time
from pathlib import Path

import pytest

from backtest._system import one_word
from backtest.cli.hook import check_command, command_of, run_command
from backtest.errors import UsageError

FACTS = {"exit_code": 3, "summary": {"text": "2 series: 1 complete"}, "error": None, "series": {}}
# Keeps what it was given, in a file a call.
KEEP = """
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
document = sys.stdin.read()
given = {name: value for name, value in os.environ.items() if name.startswith("BACKTEST_")}
number = len([name for name in os.listdir(folder) if name.startswith("call")])
with open(os.path.join(folder, f"call{number}.json"), "w") as file:
    json.dump({"words": sys.argv[1:], "document": json.loads(document), "environment": given}, file)
"""


@pytest.fixture
def hook(tmp_path):
    """Return a command that keeps what it is given, and a function that returns what it has kept."""
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "keep.py").write_text(KEEP)
    command = " ".join(map(one_word, [sys.executable, str(folder / "keep.py"), "a word"]))
    return command, lambda: [json.loads(path.read_text()) for path in sorted(folder.glob("call*.json"))]


@pytest.fixture
def night(call, tmp_path):
    """Return a function that downloads series from a folder of files, which has AAPL alone, into a store of its own."""
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "AAPL_1day.csv").write_text(
        "Date,Open,High,Low,Close\n2024-01-02,1,1,1,1\n2024-01-03,1,1,1,1\n"
    )

    def night(*words, source=f"csv:{tmp_path / 'csv'}", since="2024-01-02"):
        dates = ("--since", since, "--until", "2024-01-03")
        return call("download", *words, *dates, "--source", source, "--store", tmp_path / "bars")

    return night


def test_a_night_without_a_problem_runs_nothing(hook, night):
    command, kept = hook

    code, _, _ = night("AAPL/1day", "--on-problem", command)

    assert (code, kept()) == (0, [])


def test_a_problem_runs_the_command_once_with_the_facts(hook, night):
    command, kept = hook

    code, out, _ = night("AAPL/1day", "NOPE/1day", "GONE/1day", "--on-problem", command, "--json")

    (call,) = kept()
    assert code == call["document"]["exit_code"] == int(call["environment"]["BACKTEST_EXIT_CODE"]) == 3
    assert call["document"] == json.loads(out)
    assert call["words"] == ["a word"]
    assert call["environment"]["BACKTEST_SUMMARY"] == call["document"]["summary"]["text"]
    assert call["document"]["series"]["NOPE-STK-SMART-USD/1day/TRADES/rth"]["reason"] == "no such instrument"


def test_what_ends_a_download_before_it_began_runs_the_command_too(hook, night, tmp_path):
    command, kept = hook
    (tmp_path / "series.txt").write_text("AAPL/1day\nAAPL\n")

    codes = [
        night(f"@{tmp_path / 'series.txt'}", "--on-problem", command)[0],
        night("AAPL/1day", "--on-problem", command, source="ib://127.0.0.1:1")[0],
        night("AAPL/1day", "--on-problem", command, since="2024-02-30")[0],
    ]

    calls = kept()
    assert codes == [call["document"]["exit_code"] for call in calls] == [2, 4, 2]
    assert "series.txt, line 2" in calls[0]["environment"]["BACKTEST_ERROR"]
    assert "nothing is listening" in calls[1]["environment"]["BACKTEST_ERROR"]


def test_a_name_is_never_run(hook, night, tmp_path):
    command, kept = hook
    evil = "X$(touch evil)`touch evil`%3Btouch evil/1day"

    code, _, _ = night(evil, "--on-problem", command)

    (call,) = kept()
    assert code == 3
    assert "$(TOUCH EVIL)" in call["environment"]["BACKTEST_SUMMARY"]
    assert call["words"] == ["a word"]
    assert not list(Path.cwd().glob("evil"))
    assert not list(tmp_path.rglob("evil"))


def test_the_words_of_the_command_are_no_shell(capfd, tmp_path):
    target = tmp_path / "made"

    run_command(command_of(f"{sys.executable} -c pass; touch {target} && touch {target} $(touch {target})"), FACTS)

    assert not target.exists()


def test_the_commands_words_go_to_stderr(capfd):
    run_command([sys.executable, "-c", "print('told')"], FACTS)

    said = capfd.readouterr()
    assert (said.out, said.err.splitlines()) == ("", ["told"])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit(7)", "ended with exit code 7"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by signal 9",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has exit codes alone"),
        ),
        ("import os; os.close(0)", ""),  # it need not read
    ],
)
def test_a_command_that_fails_is_told(capfd, code, said):
    large = {**FACTS, "series": {"x" * 300_000: {}}}

    run_command([sys.executable, "-c", code], large)

    err = capfd.readouterr().err
    assert (said in err) if said else (err == "")


def test_a_command_that_is_not_there_is_told_before_and_after_and_the_download_goes_on(night):
    code, out, err = night("AAPL/1day", "NOPE/1day", "--on-problem", "no-such-program --now")

    assert code == 3
    assert "AAPL/1day: complete" in out
    assert "warning: --on-problem: the program 'no-such-program' was not found" in err
    assert "error: --on-problem no-such-program --now: cannot be run (" in err


@pytest.mark.slow
def test_a_command_that_hangs_is_ended_with_what_it_started(capfd, tmp_path):
    ready = tmp_path / "ready"
    child = (
        "import pathlib, socket, time; server = socket.create_server(('127.0.0.1', 0)); "
        f"pathlib.Path({str(ready)!r}).write_text(str(server.getsockname()[1])); time.sleep(600)"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"

    run_command([sys.executable, "-S", "-c", code], FACTS, seconds=3.0)

    assert "took longer than 3 s and was killed" in capfd.readouterr().err
    assert no_longer_answers(int(ready.read_text()))


def no_longer_answers(port):
    """Return whether a port closes within a minute, as it does when the process behind it has ended."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_an_open_quote_is_refused_before_anything_is_asked_for(night):
    code, out, err = night("AAPL/1day", "--on-problem", "mail 'me")

    assert (code, out) == (2, "")
    assert "is not a valid command" in err
    with pytest.raises(UsageError):
        command_of('"')


def test_no_command_is_none(capsys):
    check_command(command_of(""))
    run_command(command_of(""), FACTS)

    assert capsys.readouterr().err == ""
