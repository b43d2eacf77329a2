"""
Orders worked by hand from IB's published pages, to the cent: what each row says is its page's rule, and the sums.

Pages, as read in 2026-11: Commissions - Stocks of North America, Europe and Asia-Pacific; Stock and ETF Fixed vs.
Tiered Pricing Comparison Examples (rates of June 2023); Commissions - Spot Currencies; Commissions - Options;
Commissions - Futures; Fees Charged to Offset Exchange Fees of CME, NYMEX and COMEX; Commissions - CFDs, of shares and
of indices. Rows of secondary sources are in a table of their own.
"""

from datetime import date

import pytest

from backtest.engine.account.commissions import MonthlyVolume, costs_named, model_for
from backtest.engine.account.schedules import PUBLISHED, costs_for, row_of
from backtest.market.series import Series

JUNE_2023 = date(2023, 6, 1).toordinal()


class On:
    """Stands for a feed whose present bar is of a day."""

    def __init__(self, day):
        self.datetime = [day + 0.99]


# Product, plan, instrument, size, price, what it costs in the instrument's currency, and the arithmetic.
ORDERS = [
    # US stocks: 0.005 USD a share, at least 1, at most 1 % of the value
    ("US stocks", "ib-fixed", "AAPL", 100, 25.0, 1.00, "IB's example: 0.50, at least 1"),
    ("US stocks", "ib-fixed", "AAPL", 1_000, 25.0, 5.00, "IB's example: 1,000 · 0.005"),
    ("US stocks", "ib-fixed", "AAPL", 1_000, 0.25, 2.50, "IB's example: 5.00, at most 1 % of 250"),
    ("US stocks", "ib-fixed", "AAPL", -202, 10.0, 1.01, "202 · 0.005"),
    ("US stocks", "ib-fixed", "F", 3, 12.0, 0.36, "at least 1, at most 1 % of 36"),
    ("US stocks", "ib-fixed-fees", "AAPL", -200_000, 5.0, 1_015.27, "IB's example: 1,000 + 8.00 SEC + 7.27 TAF"),
    ("US stocks", "ib-fixed-fees", "AAPL", -30_000_000, 5.0, 151_207.27, "IB's example: 150,000 + 1,200 + 7.27"),
    ("US stocks", "ib-fixed-fees", "AAPL", 200_000, 5.0, 1_000.00, "a purchase bears no fees of regulators"),
    ("US stocks", "ib-tiered", "AAPL", -200_000, 5.0, 1_355.78,
     "IB's example: 700 + 600 exchange + 40 clearing + 8.00 + 0.39 + 0.12 + 7.27"),
    ("US stocks", "ib-tiered", "AAPL", -30_000_000, 5.0, 139_188.10,
     "IB's example: 1,050 + 5,400 + 25,500 + 10,000 + 90,000 + 6,000 + 1,200 + 23.49 + 7.34 + 7.27"),
    # Euro-zone stocks: 0.05 %, at least 3 EUR; tiered at least 1.25, at most 29
    ("stocks in euros", "ib-fixed", "SAP-STK-IBIS-EUR", 1_000, 20.0, 10.00, "20,000 · 0.05 %"),
    ("stocks in euros", "ib-fixed", "SAP-STK-SMART-EUR", 100, 40.0, 3.00, "2.00, at least 3"),
    ("stocks in euros", "ib-fixed", "ASML-STK-AEB-EUR", -10, 900.0, 4.50, "9,000 · 0.05 %"),
    ("stocks in euros", "ib-fixed", "AIR-STK-SBF-EUR", 1_000, 150.0, 75.00, "150,000 · 0.05 %, no most"),
    ("stocks in euros", "ib-tiered", "SAP-STK-IBIS-EUR", 1_000, 20.0, 10.00, "IB's example: tier 1, EUR 10.00"),
    ("stocks in euros", "ib-tiered", "SAP-STK-IBIS-EUR", 10, 100.0, 1.25, "0.50, at least 1.25"),
    ("stocks in euros", "ib-tiered", "AIR-STK-SBF-EUR", 1_000, 150.0, 29.00, "75.00, at most 29"),
    # Canada: 0.01 CAD a share, at least 1, at most 0.5 %; tiered 0.008
    ("stocks of Canada", "ib-fixed", "RY-STK-TSE-CAD", 1_000, 25.0, 10.00, "1,000 · 0.01"),
    ("stocks of Canada", "ib-fixed", "RY-STK-TSE-CAD", 50, 25.0, 1.00, "0.50, at least 1"),
    ("stocks of Canada", "ib-fixed", "RY-STK-TSE-CAD", 1_000, 0.5, 2.50, "10.00, at most 0.5 % of 500"),
    ("stocks of Canada", "ib-fixed", "RY-STK-TSE-CAD", 500, 80.0, 5.00, "IB's FAQ: 500 shares cost 5 CAD"),
    ("stocks of Canada", "ib-tiered", "RY-STK-TSE-CAD", 1_000, 25.0, 8.00, "1,000 · 0.008"),
    ("stocks of Canada", "ib-tiered", "RY-STK-TSE-CAD", -100, 25.0, 1.00, "0.80, at least 1"),
    # Hong Kong: 0.08 %, at least 18 HKD; tiered 0.05 %; connect 15 CNH
    ("stocks of Hong Kong", "ib-fixed", "700-STK-SEHK-HKD", 100, 400.0, 32.00, "40,000 · 0.08 %"),
    ("stocks of Hong Kong", "ib-fixed", "700-STK-SEHK-HKD", 10, 400.0, 18.00, "3.20, at least 18"),
    ("stocks of Hong Kong", "ib-tiered", "700-STK-SEHK-HKD", -100, 400.0, 20.00, "40,000 · 0.05 %"),
    ("stocks of Shanghai", "ib-fixed", "600519-STK-SEHKNTL-CNH", 100, 100.0, 15.00, "8.00, at least 15"),
    ("stocks of Shanghai", "ib-fixed", "600519-STK-SEHKNTL-CNH", 100, 1_700.0, 136.00, "170,000 · 0.08 %"),
    ("stocks of Shanghai", "ib-tiered", "600519-STK-SEHKNTL-CNH", 100, 1_700.0, 85.00, "170,000 · 0.05 %"),
    # Australia: 0.08 %, at least 6 AUD; tiered at least 5
    ("stocks of Australia", "ib-fixed", "BHP-STK-ASX-AUD", 400, 50.0, 16.00, "IB's example: 20,000 · 0.08 %"),
    ("stocks of Australia", "ib-fixed", "BHP-STK-ASX-AUD", 100, 50.0, 6.00, "4.00, at least 6"),
    ("stocks of Australia", "ib-tiered", "BHP-STK-ASX-AUD", 100, 50.0, 5.00, "4.00, at least 5"),
    # Spot currencies: 0.2 basis points, at least 2 USD
    ("currencies", "ib-fixed", "EUR-CASH", 50_000, 1.0, 2.00, "IB's example: USD 2.00"),
    ("currencies", "ib-fixed", "EUR-CASH", 1_000_000, 1.1, 22.00, "1,100,000 · 0.00002"),
    ("currencies", "ib-forex", "EUR-CASH", -1_000_000_000, 1.0, 20_000.00, "IB's example: USD 20,000"),
    ("currencies", "ib-fixed", "USD-CASH-IDEALPRO-JPY", 20_000, 150.0, 300.00, "at least 2 USD, of 150 JPY each"),
    ("currencies", "ib-tiered", "USD-CASH-IDEALPRO-JPY", 1_000_000, 150.0, 3_000.00, "150,000,000 · 0.00002"),
    ("currencies", "ib-fixed", "USD-CASH-IDEALPRO-CHF", 20_000, 0.9, 1.80, "at least 2 USD, of 0.90 CHF each"),
    # Futures of the United States: IB's 0.85 (micros 0.25, E-mini FX 0.50, E-micro FX 0.15), the exchange's, NFA 0.02
    ("futures", "ib-fixed", "ES-FUT-CME-USD-202612", 1, 6_000.0, 2.25, "0.85 + 1.38 + 0.02"),
    ("futures", "ib-fixed", "NQ-FUT-CME-USD-202612", -4, 21_000.0, 9.00, "4 · 2.25"),
    ("futures", "ib-tiered", "MES-FUT-CME-USD-202612", 10, 6_000.0, 6.20, "10 · (0.25 + 0.35 + 0.02)"),
    ("futures", "ib-fixed", "EUR-FUT-CME-USD-202612", 2, 1.1, 4.94, "2 · (0.85 + 1.60 + 0.02)"),
    ("futures", "ib-fixed", "M6E-FUT-CME-USD-202612", 2, 1.1, 0.82, "2 · (0.15 + 0.24 + 0.02)"),
    ("futures", "ib-fixed", "CL-FUT-NYMEX-USD-202612", 3, 70.0, 7.11, "3 · (0.85 + 1.50 + 0.02)"),
    ("futures", "ib-fixed", "NG-FUT-NYMEX-USD-202612", 1, 3.0, 2.47, "0.85 + 1.60 + 0.02"),
    ("futures", "ib-fixed", "GC-FUT-COMEX-USD-202612", -1, 2_700.0, 2.47, "0.85 + 1.60 + 0.02"),
    ("futures", "ib-fixed", "MGC-FUT-COMEX-USD-202612", 5, 2_700.0, 5.10, "5 · (0.25 + 0.75 + 0.02)"),
    ("futures of Hong Kong", "ib-fixed", "HSI-FUT-HKFE-HKD-202612", 2, 19_000.0, 60.00, "2 · 30, all fees in it"),
    ("futures of Hong Kong", "ib-fixed", "MHI-FUT-HKFE-HKD-202612", 1, 19_000.0, 17.00, "17, all fees in it"),
    # US options: 0.65 a contract, 0.50 of premiums below 0.10, 0.25 below 0.05, at least 1 USD
    ("options", "ib-fixed", "SPY-OPT-SMART-USD-20261218-500-C", 1, 2.0, 1.00, "IB's example"),
    ("options", "ib-tiered", "SPY-OPT-SMART-USD-20261218-500-C", 2, 5.0, 1.30, "IB's example"),
    ("options", "ib-tiered", "SPY-OPT-SMART-USD-20261218-500-C", -3, 0.075, 1.50, "IB's example"),
    ("options", "ib-fixed", "SPY-OPT-SMART-USD-20261218-500-C", 5, 0.03, 1.25, "IB's example"),
    ("options", "ib-fixed", "SPY-OPT-SMART-USD-20261218-500-P", -10, 0.10, 6.50, "10 · 0.65"),
    # CFDs of shares and of indices
    ("CFDs of shares", "ib-fixed", "AAPL-CFD-SMART-USD", 300_000, 20.0, 1_500.00, "IB's example: 300,000 · 0.0050"),
    ("CFDs of shares", "ib-fixed", "AAPL-CFD-SMART-USD", 100, 20.0, 1.00, "0.50, at least 1"),
    ("CFDs of shares", "ib-fixed", "VOD-CFD-SMART-GBP", 1_000, 1.0, 3.00, "0.50, at least 3"),
    ("CFDs of shares", "ib-fixed", "NESN-CFD-SMART-CHF", 1_000, 90.0, 45.00, "90,000 · 0.05 %"),
    ("CFDs of indices", "ib-fixed", "IBUS30-CFD-SMART-USD", 1, 25_000.0, 1.25, "IB's example: USD 1.25"),
    ("CFDs of indices", "ib-fixed", "IBHK50-CFD-SMART-HKD", 1, 30_000.0, 10.00, "IB's example: 3.00, at least 10"),
    ("CFDs of indices", "ib-fixed", "IBJP225-CFD-SMART-JPY", 20, 38_000.0, 76.00, "760,000 · 0.01 %"),
]  # fmt: skip
# The same of rows that were not read on a page of IB's own.
SECONDARY = [
    ("coins", "ib-fixed", "BTC-CRYPTO-PAXOS-USD", 0.1, 60_000.0, 10.80, "6,000 · 0.18 %"),
    ("coins", "ib-fixed", "BTC-CRYPTO-PAXOS-USD", 0.01, 60_000.0, 1.75, "1.08, at least 1.75"),
    ("coins", "ib-fixed", "BTC-CRYPTO-PAXOS-USD", 0.001, 60_000.0, 0.60, "at least 1.75, at most 1 % of 60"),
    ("stocks of London", "ib-tiered", "VOD-STK-LSE-GBP", 10_000, 1.0, 5.00, "the broker's example: 10,000 · 0.05 %"),
    ("stocks of Switzerland", "ib-tiered", "NESN-STK-EBS-CHF", 200, 100.0, 10.00, "its example: 20,000 · 0.05 %"),
]


def charged(plan, name, size, price):
    """Return what an order costs, and the row by which it does; None for US stocks, which are no row's."""
    costs, series = costs_named(plan), Series.parse(f"{name}/1day")
    model = model_for(costs_for(costs, series), On(JUNE_2023), MonthlyVolume())
    return model.getcommission(size, price), row_of(costs, series)


@pytest.mark.parametrize(("product", "plan", "name", "size", "price", "costs", "why"), ORDERS)
def test_an_order_costs_what_ibs_page_says(product, plan, name, size, price, costs, why):
    money, row = charged(plan, name, size, price)

    assert round(money, 2) == round(costs, 2), why
    assert row is None or row.standing == PUBLISHED


@pytest.mark.parametrize(("product", "plan", "name", "size", "price", "costs", "why"), SECONDARY)
def test_an_order_costs_what_others_quote_of_ib(product, plan, name, size, price, costs, why):
    money, row = charged(plan, name, size, price)

    assert round(money, 2) == costs, why
    assert row.standing == "secondary source"


def test_the_table_is_as_long_and_as_wide_as_it_is_to_be():
    currencies = {Series.parse(f"{row[2]}/1day/TRADES").instrument.currency for row in ORDERS}

    assert len(ORDERS) >= 60
    assert len({row[0] for row in ORDERS}) >= 10
    assert len(currencies) >= 5
