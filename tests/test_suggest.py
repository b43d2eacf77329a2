"""Whatever is mistyped on the command line is answered by what was probably meant, and a shell completes the rest."""

import re
import shutil
from pathlib import Path

import pytest
from places import ROOT

from backtest._suggest import did_you_mean, there_are
from backtest.cli.app import app, main
from backtest.market.series import Series, did_you_mean_series
from backtest.onboarding.scaffold import TEMPLATES

SAMPLE = (ROOT / "data" / "sample").as_posix()
RUN = ["run", "sma_cross", "IBM/1day", "--store", SAMPLE]


def test_the_nearest_word_ends_the_sentence_and_capitals_do_not_matter():
    assert did_you_mean("Sharp", ["sortino", "sharpe"]) == "; did you mean sharpe?"
    assert did_you_mean("fixd", ["ib-tiered", "Fixed", "fix"], most=2) == "; did you mean Fixed or fix?"


def test_nothing_is_said_where_nothing_is_near():
    assert did_you_mean("turnover", ["sharpe", "cagr"]) == ""


def test_a_name_that_is_spelled_right_is_not_suggested_again():
    assert did_you_mean("kelly", ["shares", "kelly"]) == ""
    assert there_are("turnover", ["sharpe", "cagr"]) == "choose from sharpe, cagr"


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("APPL/1day", "; did you mean AAPL/1day?"),
        ("AAPL/1min", "; did you mean AAPL/1day or AAPL/1day/ADJUSTED_LAST?"),
        ("GLD/1day", ""),  # as far from GOOG as can be; the bar size does not make them alike
    ],
)
def test_a_series_is_like_one_whose_symbol_is_like_its_own(wanted, meant):
    known = [Series.parse(one) for one in ("AAPL/1day", "AAPL/1day/ADJUSTED_LAST", "GOOG/1day", "IBM/1day")]

    assert did_you_mean_series(Series.parse(wanted), known) == meant


def said(capsys, *words):
    """Return what the command line says to words that are refused, without frames and line breaks."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code in (2, 3)
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().err).split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["verfy"], "'verify'"),
        ([*RUN, "--stroe", "x"], "--store"),
        (["run", "sma_crss", "IBM/1day"], "did you mean sma_cross?"),
        (["run", "sma_cross", "IBN/1day", "--store", SAMPLE], "did you mean IBM/1day?"),
        (["run", "sma_cross", "IBM/1dya", "--store", SAMPLE], "did you mean 1day?"),
        (["ls", "IBN/1day", "--store", SAMPLE], "did you mean IBM/1day?"),
        (["verify", "IBN/1day", "--store", SAMPLE], "did you mean IBM/1day?"),
        (["pin", "IBN/1day", "--store", SAMPLE], "did you mean IBM/1day?"),
        (["prune", "IBN/1day", "--store", SAMPLE], "did you mean IBM/1day?"),
        (["publish", "file:///nowhere", "IBN/1day", "--store", SAMPLE], "did you mean IBM/1day?"),
        (["export", "IBN/1day", "x.csv", "--store", SAMPLE], "did you mean IBM/1day?"),
        ([*RUN, "--benchmark", "APPL/1day"], "did you mean AAPL/1day?"),
        ([*RUN, "--set", "fats=3"], "did you mean fast?"),
        ([*RUN, "--costs", "ib-fixd"], "did you mean ib-fixed?"),
        ([*RUN, "--align", "strct"], "did you mean strict?"),
        ([*RUN, "--fills", "nextbar"], "did you mean next-bar?"),
        ([*RUN, "--size", "precent:95"], "did you mean percent?"),
        (["sweep", *RUN[1:], "--grid", "fast=5,10", "--where", "fst<9"], "did you mean fast?"),
        (["sweep", *RUN[1:], "--grid", "fast=5,10", "--rank", "sortin"], "did you mean sortino?"),
        (["new", "gold", "--template", "pair"], "did you mean pairs?"),
    ],
    ids=lambda part: " ".join(part[:1]) if isinstance(part, list) else "",
)
def test_what_is_mistyped_is_answered_by_what_was_meant(capsys, tmp_path, monkeypatch, words, meant):
    monkeypatch.chdir(tmp_path)

    assert meant in said(capsys, *words)


def test_prices_are_not_meant_where_a_rate_of_fees_is_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    text = said(capsys, *RUN, "--borrow", "stored")

    assert "IBM/1day/FEE_RATE is not in" in text
    assert "did you mean" not in text


@pytest.fixture
def completed(capsys, tmp_path, monkeypatch):
    """Return what a shell is told that could stand where a command line ends, in a folder with a store and a run."""
    shutil.copytree(Path(SAMPLE) / "IBM-STK-SMART-USD", tmp_path / "data" / "bars" / "IBM-STK-SMART-USD")
    (tmp_path / "runs" / "Trend-IBM").mkdir(parents=True)
    (tmp_path / "runs" / "Trend-IBM" / "spec.json").write_text("{}")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)

    def completed(line):
        monkeypatch.setenv("_BACKTEST_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.split()

    return completed


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("backtest dem", ["demo"]),
        ("backtest run --slip", ["--slippage"]),
        ("backtest run sma_", ["sma_cross"]),
        ("backtest run strategies/", ["strategies/mine.py"]),
        ("backtest run sma_cross IBM", ["IBM/1day", "IBM/1day/ADJUSTED_LAST"]),
        (f"backtest ls --store {SAMPLE} GO", ["GOOG/1day", "GOOG/1day/ADJUSTED_LAST"]),
        ("backtest ls --store s3://bucket/bars GO", []),
        ("backtest ls --store nowhere GO", []),
        ("backtest report ", ["Trend-IBM"]),
        ("backtest runs rm Tr", ["Trend-IBM"]),
        ("backtest new gold --template ", sorted(TEMPLATES)),
    ],
)
def test_a_shell_completes_commands_options_series_strategies_and_runs(completed, line, offered):
    assert completed(line) == offered


def test_a_series_is_completed_to_one_word_that_means_it(completed):
    for name in ("BRK%20B-STK-SMART-USD", "MSFT-STK-SMART-USD+primary=NASDAQ"):
        Path(f"data/bars/{name}/1day/TRADES/rth/bars").mkdir(parents=True)

    assert completed("backtest ls BRK") == ["BRK%20B/1day"]
    assert completed("backtest ls MS") == ["MSFT+primary=NASDAQ/1day"]


def test_a_folder_that_is_named_as_no_series_is_does_not_disturb_the_completion(completed):
    Path("data/bars/odd/2/3/4/bars").mkdir(parents=True)

    assert completed("backtest ls I") == ["IBM/1day", "IBM/1day/ADJUSTED_LAST"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "mark"),
    [("bash", "complete -o default"), ("zsh", "#compdef"), ("fish", "complete --command backtest --no-files")],
)
def test_there_is_a_completion_script_for_each_shell(capsys, monkeypatch, shell, mark):
    # Typer looks up the tree of processes for the shell, whatever was named, unless this is set; whose it is in a test
    # depends on what started the tests.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")

    with pytest.raises(SystemExit) as ended:
        app(["--show-completion", shell], prog_name="backtest")  # put together anew, which is when Typer looks

    script = capsys.readouterr().out
    assert not ended.value.code
    assert "_BACKTEST_COMPLETE" in script
    assert mark in script
