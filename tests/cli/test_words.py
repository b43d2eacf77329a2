"""Whatever a stranger named, a terminal shows it as it is, and not at any length."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, suppress

import pytest
from places import ROOT

from backtest.cli.terminal import failure_of, give, give_table, harmless, say, shortened
from backtest.errors import UsageError

pytestmark = pytest.mark.usefixtures("few_figures")

SAMPLE = str(ROOT / "data" / "sample")
MARKS = {
    "right-to-left override": "\u202e",
    "isolate": "\u2067",
    "right-to-left mark": "\u200f",
    "Arabic letter mark": "\u061c",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "filler": "\u3164",
    "line separator": "\u2028",
    "tag": "\U000e0041",
    "half of a pair": "\udc80",
    "escape": "\x1b",
    "C1 control": "\x9b",
}


def raw(text):
    """Return the marks that stand in a text as they are."""
    return [name for name, mark in MARKS.items() if mark in text]


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_is_shown_by_its_number_wherever_words_are_shown(name, capsys):
    text = f"AA{MARKS[name]}PL"

    say(text)
    give(text)
    give_table(("a", "b"), [[text, "1"]])

    captured = capsys.readouterr()
    number = f"{ord(MARKS[name]):x}"
    assert raw(captured.out + captured.err) == []
    assert captured.err.rstrip().lower().endswith(f"{number}pl")
    assert captured.out.lower().count(number) == 2


def test_letters_of_all_scripts_are_shown_as_they_are():
    text = "Zürich Łódź Ωmega Привет 東京 שלום مرحبا 😀 −5 % 1 000\tx\ny"

    assert harmless(text) == text


@pytest.mark.parametrize(
    "words",
    [
        ("no\u202esuch",),
        ("ls", "--no\u200bsuch"),
        ("ls", "--store", "no\u202esuch"),
        ("demo", "more\u2066"),
        ("run", "no\u202esuch.py", "AAPL/1day"),
        ("run", "sma_cross", "AA\u200bPL/1day", "--store", SAMPLE),
        ("run", "sma_cross", "AAPL/1day", "--store", SAMPLE, "--set", "fa\u202est=1"),
        ("baseline", "sa\u202eve"),
        ("report", "r\u2067un"),
        ("import", "no\u202e.csv", "AAPL/1day"),
        ("download", "@no\ufeffne", "--since", "2020-01-02"),
        ("runs", "show", "x\u061c"),
        ("new", "a\u202eb"),
        ("doctor", "--source", "ib:\u202e"),
        ("export", "AAPL/1day", "x\u202e.pdf", "--store", SAMPLE),
    ],
    ids=lambda words: " ".join(words).encode("ascii", "backslashreplace").decode(),
)
def test_what_was_typed_comes_back_harmless(words, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    _, out, err = call(*words)

    assert raw(out + err) == []
    assert "Traceback" not in err


@pytest.mark.slow
def test_names_of_files_and_runs_are_shown_harmless(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategy = tmp_path / "evil\u202eyp.py"
    strategy.write_text(
        "import backtrader as bt\nclass S(bt.Strategy):\n    def next(self): raise ValueError('\u2067\u200b')\n"
    )
    call("run", "buy_and_hold", "AAPL/1day", "--store", SAMPLE, "--until", "2000-06-30", "--out", "runs/a\u202eb")
    shutil.copytree(SAMPLE, "bars")
    (tmp_path / "bars" / "st\u202eray").write_text("")

    for words in (
        ("run", strategy, "AAPL/1day", "--store", SAMPLE),
        ("runs", "ls"),
        ("report", "runs/a\u202eb"),
        ("verify", "--store", "bars"),
    ):
        _, out, err = call(*words)
        assert raw(out + err) == [], words
        assert out + err != ""


@pytest.mark.slow
def test_a_name_that_is_no_utf_8_is_no_traceback(tmp_path):
    name = b"runs/bad\xff"
    words = [
        sys.executable,
        "-m",
        "backtest",
        "run",
        "buy_and_hold",
        "AAPL/1day",
        "--store",
        SAMPLE,
        "--until",
        "2000-06-30",
    ]
    made = subprocess.run([*words, "--out", name], cwd=tmp_path, capture_output=True, check=False)
    listed = subprocess.run([*words[:3], "runs", "ls"], cwd=tmp_path, capture_output=True, check=False)

    assert (made.returncode, listed.returncode) == (0, 0), made.stderr + listed.stderr
    assert b"\\udcff" in listed.stdout
    assert b"Traceback" not in made.stderr + listed.stderr


# --- at no length


@pytest.mark.parametrize("close", [lambda stream: stream.close(), lambda stream: os.close(stream.fileno())])
def test_nothing_is_said_where_stderr_was_closed(tmp_path, close):
    stream = (tmp_path / "said").open("w")
    with redirect_stderr(stream):
        close(stream)
        say("nobody hears it")

    assert (tmp_path / "said").read_text() == ""
    with suppress(OSError):
        stream.close()


def test_a_message_keeps_its_beginning_and_its_end():
    text = "error: " + "x" * 3_000_000 + "; write less"

    short = shortened(text)

    assert len(short) < 4_100
    assert short.startswith("error: xxx")
    assert short.endswith("; write less")
    assert " ... 2,996,019 characters more ... " in short
    assert shortened("as it is") == "as it is"


@pytest.mark.slow
def test_a_cell_of_3_mb_does_not_flood(call, tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text(f"Date,Open,High,Low,Close\n2024-01-02,1,2,1,{'7' * 3_000_000}x\n")

    code, out, err = call("import", file, "AAPL/1day", "--store", tmp_path / "bars")

    assert code in (2, 3)
    assert len(out + err) < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("columns", [5_000, pytest.param(30_000, marks=pytest.mark.soak)])
def test_columns_in_thousands_do_not_flood(call, tmp_path, columns):
    file = tmp_path / "wide.csv"
    names = [f"column_{n}" for n in range(columns)]
    with file.open("w", newline="") as handle:
        csv.writer(handle).writerows(
            [["Date", "Open", "High", "Low", "Close", *names], ["2024-01-02", 1, 2, 1, 2, *range(columns)]]
        )

    code, out, err = call("import", file, "AAPL/1day", "--store", tmp_path / "bars")

    assert code == 0
    assert len(out + err) < 15_000


@pytest.mark.slow
@pytest.mark.parametrize("where", ["__init__", "next", "the file"])
def test_an_exception_of_500_kb_does_not_flood(call, tmp_path, where):
    file = tmp_path / "loud.py"
    body = "raise ValueError('x' * 500_000)"
    method = f"    def {where}(self): {body}\n" if where != "the file" else f"    pass\n{body}\n"
    file.write_text(f"import backtrader as bt\nclass S(bt.Strategy):\n{method}")

    code, out, err = call("run", file, "AAPL/1day", "--store", SAMPLE, "--until", "2000-06-30")
    _, document, _ = call("run", file, "AAPL/1day", "--store", SAMPLE, "--until", "2000-06-30", "--json")

    assert code == 5
    assert len(out + err) < 5_000
    assert len(json.loads(document)["error"]) < 5_000


def test_an_option_of_100_kb_does_not_flood(call):
    for words in (("x" * 100_000,), ("ls", "--store", "s3" + "x" * 100_000), ("ls", "x" * 100_000)):
        _, out, err = call(*words)
        assert len(out + err) < 20_000


def test_a_long_document_for_machines_is_whole(capsys):
    from backtest.cli.terminal import give_json

    give_json({"text": "x" * 100_000})

    assert json.loads(capsys.readouterr().out) == {"text": "x" * 100_000}


def test_a_failure_is_cut_for_machines_too():
    text, code = failure_of(UsageError("x" * 500_000))

    assert len(text) < 4_100
    assert code == 2


@pytest.mark.parametrize("folded", [False, True])
def test_a_table_of_many_rows_looks_as_rich_would_have_it(folded, capsys):
    """The rows are given twice: by rich, which takes a millisecond a row, and once more in a table of many."""
    row = ["SmaCross-é–x", "東京", "1,200.50 %", "–", "a note of many words" if folded else "a note"]
    heads, few = ("run", "text", "return", "negative", "note"), [row, ["b", "", "-3.00 %", "-7", ""]]

    give_table(heads, few, 44)
    by_rich = capsys.readouterr().out.splitlines()
    give_table(heads, few * 300, 44)
    plain = capsys.readouterr().out.splitlines()

    body = by_rich[2:]
    assert plain == [*by_rich[:2], *body * 300]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "x", "IBM/1day", "--cash", "lots"], "'--cash': 'lots' is not a number."),
        (["run", "x", "IBM/1day", "--jobs", "1.5"], "'--jobs': '1.5' is not a whole number."),
        (["run", "x", "IBM/1day", "--jobs", "0"], "'--jobs': 0 is below the minimum of 1."),
        (["show", "--port", "70000"], "'--port': 70000 is above the maximum of 65535."),
        (["runs", "list"], "'ACTION': 'list' is not one of 'ls', 'show'"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_named_in_plain_words(call, words, said):
    code, _, err = call(*words)

    assert code == 2
    assert said in " ".join(err.replace("│", " ").split())
