"""Accounts by words and by files of rates, and which products they know."""

import math

import pytest

from backtest import Brokerage, Series
from backtest.engine.account.commissions import costs_of
from backtest.engine.account.margin.requirements import REG_T_STOCK
from backtest.engine.account.margin.tables import (
    MarginTable,
    check_account,
    margin_table,
    with_kept_account,
    with_margins,
)
from backtest.errors import UsageError

HEAD = "product,initial_long,maintenance_long,initial_short,maintenance_short\n"
ES = "ES-FUT-CME-USD-202409/1day"


def table(tmp_path, text, name="rates.csv"):
    (tmp_path / name).write_text(text)
    return margin_table(str(tmp_path / name))


def check(word, *names, costs="ib-fixed", **options):
    check_account(margin_table(word), Brokerage(**options), [Series.parse(name) for name in names], costs_of(costs))


@pytest.mark.parametrize("word", ["cash", "reg-t"])
def test_us_stocks_are_known(word):
    check(word, "AAPL/1day", "SPY-STK-ARCA-USD/1hour")


@pytest.mark.parametrize("word", ["cash", "reg-t"])
@pytest.mark.parametrize(
    "name", ["EUR-CASH-IDEALPRO-USD/1day/MIDPOINT", "VUSA-STK-LSEETF-USD/1day", "SAP-STK-SMART-EUR/1day",
             "BTC-CRYPTO-PAXOS-USD/1day", "SPY-OPT-SMART-USD-20261218-500-C/1day", "IBM-CFD-SMART-USD/1day"],
)  # fmt: skip
def test_what_has_no_known_rule_is_refused_in_words(word, name):
    with pytest.raises(
        UsageError,
        match=rf"account {word} has rules for US stocks in USD.* only, .*; name a file of margin req",
    ):
        check(word, name)


def test_a_future_is_known_by_its_margin_and_in_no_cash_account():
    check("reg-t", ES, margin="15000")
    check("reg-t", ES, costs="futures:2.25:50:15000")

    with pytest.raises(UsageError, match=r"the margin of one ES-FUT\S+ contract is unknown; write --margin 15000"):
        check("reg-t", ES)
    with pytest.raises(UsageError, match="cash has rules for US stocks in USD only, and"):
        check("cash", ES, margin="15000")


def test_a_word_that_there_is_not_is_answered_with_the_right_one():
    with pytest.raises(
        UsageError,
        match=r"unknown account 'regt'; name a .csv or .toml .* choose from backtrader, cash, reg-t; did .* reg-t\?",
    ):
        margin_table("regt")
    with pytest.raises(UsageError, match="account is 5; write one of backtrader, cash, reg-t, or the path"):
        margin_table(5)


def test_the_words_mean_their_rates():
    assert margin_table("backtrader") is None
    assert margin_table("reg-t").of(Series.parse("AAPL/1day")) == REG_T_STOCK
    assert (margin_table("reg-t").least_equity, margin_table("cash").least_equity) == (2_000, 0)
    assert margin_table("cash").is_cash


def test_the_narrowest_product_counts(tmp_path):
    found = table(
        tmp_path, f"{HEAD}STK,0.5,0.25,,\nGME-STK,1,1,,\nAAPL/1day,0.3,0.2,0.4,0.3\nFUT,9000,8000,9000,8000\n"
    )

    assert found.of(Series.parse("IBM/1day")).initial_long == 0.5
    assert found.of(Series.parse("GME/1day")).initial_long == 1
    assert found.of(Series.parse("AAPL/1day")).initial_short == 0.4
    assert found.of(Series.parse(ES)).by_contract
    assert found.of(Series.parse("BTC-CRYPTO-PAXOS-USD/1day")) is None
    assert math.isnan(found.of(Series.parse("IBM/1day")).initial_short)


def test_toml_says_the_same_as_csv(tmp_path):
    csv = table(tmp_path, f"{HEAD}STK,0.5,0.25,0.5,0.3\nES-FUT,15000,12000,15000,12000\n")
    toml = table(
        tmp_path,
        "[STK]\ninitial_long = 0.5\nmaintenance_long = 0.25\ninitial_short = 0.5\nmaintenance_short = 0.3\n"
        "[ES-FUT]\ninitial_long = 15000\nmaintenance_long = 12000\ninitial_short = 15000\nmaintenance_short = 12000\n",
        "rates.toml",
    )

    assert toml.rows == csv.rows
    assert MarginTable.read(csv.document) == csv
    assert csv.digest != toml.digest  # another name


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("STK,50,25,50,30", r"has '50' as initial_long for STK; write a share of the value, such as 0.25 for 25 %"),
        ("STK,0,0,,", r"has '0' as initial_long for STK"),
        ("STK,half,0.25,,", r"has 'half' as initial_long for STK"),
        (
            "STK,0.25,0.5,,",
            r"has initial_long 0.25 and maintenance_long 0.5 for STK; write both, with maintenance not above",
        ),
        ("STK,0.5,0.25,0.5,", r"has initial_short 0.5 and maintenance_short nothing for STK; write both"),
        ("STK,1.5,0.25,,", r"has '1.5' as initial_long for STK; write a share of the value, .*, at most 1"),
        ("STK,-0.5,0.25,,", r"has '-0.5' as initial_long for STK"),
        ("FUT,0.1,0.08,,", r"has '0.1' as initial_long for FUT; write money per contract, such as 15000"),
        (
            "AAPL/1day,0.5,0.25,,\nAAPL-STK-SMART-USD/1day,0.4,0.25,,",
            r"has AAPL/1day twice, as AAPL/1day and as AAPL-STK-SMART-USD/1day; leave out one",
        ),
        (
            "OPT,1000,900,,",
            r"has rates for OPT, but the margin of an option cannot be given as a rate; IB lends nothing on long",
        ),
        ("STK,,,0.5,0.3", r"has no initial_long for STK"),
        (
            "STOCK,0.5,0.25,,",
            r"has the product 'STOCK' \(it is not a security type \(kind\)\); write one of STK, CASH, FUT",
        ),
        ("AAPL/1dax,0.5,0.25,,", r"has the product 'AAPL/1dax'"),
        ("STK,0.5,0.25,,\nSTK,0.5,0.25,,", r"STK appears twice"),
        ("STK,0.5,0.25,,,1", r"cannot read margin requirements from"),
        ("", r"has no rates"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(tmp_path, lines, said):
    with pytest.raises(UsageError, match=said):
        table(tmp_path, HEAD + lines + "\n")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [("kind,rate\nSTK,1\n", "a.csv", "the columns are kind, rate"), ("[STK\n", "a.toml", "cannot read margin req"),
     ("product,initial_long,initial_long\nSTK,0.5,0.6\n", "a.csv", "the column initial_long appears twice"),
     ("[STK]\ninitial_long = [1]\n", "a.toml", r"has \[1\] as initial_long for STK; write a share of the value"),
     ("[STK]\ninitial_long = true\n", "a.toml", "has True as initial_long for STK; write a share of the value"),
     ("STK = 1\n", "a.toml", "cannot read margin req"),
     ("[STK]\nlong = 1\n", "a.toml", "the unknown column long for STK")],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(tmp_path, text, name, said):
    with pytest.raises(UsageError, match=said):
        table(tmp_path, text, name)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read margin requirements from"):
        margin_table(str(tmp_path / "none.csv"))


def test_a_product_without_a_line_is_refused(tmp_path):
    found = table(tmp_path, f"{HEAD}STK,0.5,0.25,,\n")

    with pytest.raises(
        UsageError, match=r"rates.csv has no rates for ES-FUT\S+; add a line for FUT, or for the series"
    ):
        check_account(found, Brokerage(), [Series.parse(ES)])


def test_an_option_has_no_rate(tmp_path):
    found = table(tmp_path, f"{HEAD}STK,0.5,0.25,,\n")

    with pytest.raises(
        UsageError, match=r"the margin of SPY-OPT\S+ cannot be given as a rate; IB lends nothing on long options"
    ):
        check_account(found, Brokerage(), [Series.parse("SPY-OPT-SMART-USD-20261218-500-C/1day")])


def test_a_future_binds_what_the_file_says_unless_the_caller_says_otherwise(tmp_path):
    found, series = table(tmp_path, f"{HEAD}FUT,15000,12000,,\n"), [Series.parse(ES), Series.parse("AAPL/1day")]

    assert with_margins(Brokerage(), found, series).margin == f"{ES}=15000"
    assert with_margins(Brokerage(margin="9000"), found, series).margin == "9000"
    assert with_margins(Brokerage(), None, series) == Brokerage()


def test_a_kept_run_has_the_rates_of_its_file_again(tmp_path):
    found = table(tmp_path, f"{HEAD}STK,0.5,0.25,,\n")
    of_file, of_word = Brokerage(account="rates.csv"), Brokerage(account="cash")

    assert with_kept_account(of_file, {"account": found.document}).account == found
    assert with_kept_account(of_word, {"account": margin_table("cash").document}) == of_word
