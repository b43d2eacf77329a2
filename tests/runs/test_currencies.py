import pytest

from backtest.errors import UsageError
from backtest.market.series import ContractDetails, Instrument, Series
from backtest.runs.currencies import (
    QUOTATIONS,
    PriceUnit,
    base_currency,
    currency_text,
    price_unit,
    quotation_rules,
    quoted_in_text,
)

PENCE = PriceUnit("GBX", "GBP", 0.01)


@pytest.mark.parametrize(
    ("spelled", "unit"),
    [
        ("AAPL", PriceUnit("USD", "USD")),
        ("VOD-STK-LSE-GBP", PENCE),
        ("VOD-STK-SMART-GBP", PENCE),
        ("VOD-STK-SMART-GBP+primary=LSE", PENCE),
        ("VOD-STK-LSE-GBX", PENCE),
        ("POLI-STK-TASE-ILS", PriceUnit("ILA", "ILS", 0.01)),
        ("NPN-STK-JSE-ZAR", PriceUnit("ZAC", "ZAR", 0.01)),
        ("BARC-STK-EBS-GBP", PriceUnit("GBP", "GBP")),  # funds in pounds trade at Zurich
        ("GBP-CASH-IDEALPRO-USD", PriceUnit("USD", "USD")),
        ("EUR-CASH-IDEALPRO-GBP", PriceUnit("GBP", "GBP")),
        ("Z-FUT-ICEEU-GBP-202606", PriceUnit("GBP", "GBP")),
    ],
)
def test_what_prices_are_quoted_in(spelled, unit):
    assert price_unit(Instrument.parse(spelled)) == unit


@pytest.mark.parametrize("spelled", ["VUSA-STK-LSEETF-GBP", "VUSA-STK-SMART-GBP+primary=LSEETF"])
def test_pounds_or_pence_of_a_fund_are_what_the_contract_says(spelled):
    fund = Instrument.parse(spelled)

    with pytest.raises(UsageError, match="is not known"):
        price_unit(fund)
    assert price_unit(fund, ContractDetails(price_magnifier="1")) == PriceUnit("GBP", "GBP")
    assert price_unit(fund, ContractDetails(price_magnifier="100")) == PENCE


def test_the_primary_exchange_of_the_contract_counts_for_smart():
    with pytest.raises(UsageError, match="is not known"):
        price_unit(Instrument.parse("VUSA-STK-SMART-GBP"), ContractDetails(primary_exchange="LSEETF"))


def test_what_the_contract_says_goes_before_the_table():
    assert price_unit(Instrument.parse("X-STK-LSE-GBP"), ContractDetails(price_magnifier="1")).share == 1


def test_a_point_of_corn_is_a_cent_by_its_contract():
    corn = Instrument.parse("ZC-FUT-CBOT-USD-202406")

    assert price_unit(corn, ContractDetails(price_magnifier="100")) == PriceUnit("1/100 USD", "USD", 0.01)
    assert price_unit(corn, ContractDetails(multiplier="50")) == PriceUnit("USD", "USD")


def test_each_row_of_the_table_names_its_source():
    assert all(row.source and row.standing in ("confirmed", "secondary source") for row in QUOTATIONS)


@pytest.mark.parametrize(
    ("spelled", "asked", "base"),
    [
        (["7203-STK-TSEJ-JPY/1day"], "", "JPY"),
        (["VOD-STK-LSE-GBX/1day", "BP-STK-LSE-GBP/1day"], "", "GBP"),
        (["SAP-STK-IBIS-EUR/1day", "AAPL/1day"], "", "USD"),
        (["7203-STK-TSEJ-JPY/1day", "SAP-STK-IBIS-EUR/1day"], "", "EUR"),
        (["AAPL/1day"], "CHF", "CHF"),
    ],
)
def test_the_currency_of_an_account(spelled, asked, base):
    assert base_currency(map(Series.parse, spelled), asked) == base


def test_a_currency_is_three_letters_and_no_minor_unit():
    assert currency_text(" eur ") == "EUR"
    assert currency_text(None) == ""
    for wrong in ("EURO", "GBX", "XXX", 5, "E1R"):
        with pytest.raises(UsageError, match="currency is"):
            currency_text(wrong)


def test_rules_of_units_are_kept_by_short_names_in_order():
    text = quoted_in_text("VUSA-STK-LSEETF-GBP/1day/TRADES/rth=gbp, EQQQ-STK-LSEETF-GBP/1day=GBX")

    assert text == "EQQQ-STK-LSEETF-GBP/1day=GBX,VUSA-STK-LSEETF-GBP/1day=GBP"
    assert quotation_rules(text) == {
        "EQQQ-STK-LSEETF-GBP/1day/TRADES/rth": "GBX", "VUSA-STK-LSEETF-GBP/1day/TRADES/rth": "GBP"
    }  # fmt: skip
    for wrong in ("GBP", "VUSA-STK-LSEETF-GBP/1day=", "VUSA-STK-LSEETF-GBP/1day=pounds"):
        with pytest.raises(UsageError, match="does not say what prices are quoted in"):
            quoted_in_text(wrong)
