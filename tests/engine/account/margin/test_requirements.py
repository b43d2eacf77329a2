"""What positions require: IB's worked example to the cent, and laws; a reader can check each number by hand."""

import math

import numpy as np
import pytest

from backtest.engine.account.margin.requirements import (
    REG_T_STOCK,
    Held,
    Rates,
    buying_power,
    excess_liquidity,
    liquidation,
)

# IBKR, "Securities Margin Example" (interactivebrokers.com, Margin, Overview): the days of its table: cash, shares and
# their price, and what it says of equity with loan value, maintenance margin, excess liquidity, and the margin of
# Regulation T at the end of the day (None where the table has none).
EXAMPLE = {
    "day 1, a deposit": (10_000.00, 0, 0.00, 10_000.00, 0.00, 10_000.00, 0.00),
    "day 2, 500 XYZ bought at 40": (-10_000.00, 500, 40.00, 10_000.00, 5_000.00, 5_000.00, 10_000.00),
    "day 3, XYZ rises to 45": (-10_000.00, 500, 45.00, 12_500.00, 5_625.00, 6_875.00, None),
    "day 3, XYZ falls to 35": (-10_000.00, 500, 35.00, 7_500.00, 4_375.00, 3_125.00, 8_750.00),
    "day 4, 500 XYZ sold at 45": (12_500.00, 0, 0.00, 12_500.00, 0.00, 12_500.00, 0.00),
    "day 5, 500 ABC wanted at 101": (-38_000.00, 500, 101.00, 12_500.00, 12_625.00, -125.00, None),
    "day 5, 300 ABC bought at 100": (-17_500.00, 300, 100.00, 12_500.00, 7_500.00, 5_000.00, 15_000.00),
    "day 5, ABC falls to 75": (-17_500.00, 300, 75.00, 5_000.00, 5_625.00, -625.00, None),
}


@pytest.mark.parametrize("day", EXAMPLE)
def test_each_day_of_the_example_of_ib_is_so_to_the_cent(day):
    cash, shares, price, equity, maintenance, excess, reg_t = EXAMPLE[day]

    required = REG_T_STOCK.maintenance(shares, price) if shares else 0.0
    assert round(cash + shares * price, 2) == equity
    assert round(required, 2) == maintenance
    assert round(excess_liquidity(equity, required), 2) == excess
    if reg_t is not None:
        assert round(REG_T_STOCK.initial(shares, price) if shares else 0.0, 2) == reg_t


def test_equity_less_the_margin_of_regulation_t_is_what_the_example_has_as_the_end_of_day_5():
    assert round(12_500 - REG_T_STOCK.initial(300, 100.0), 2) == -2_500.00  # SMA below 0: it liquidates


def test_as_little_as_needed_is_sold_in_the_call_of_day_5():
    each = REG_T_STOCK.maintenance(1, 75.0)

    assert liquidation([Held(300, each)], 625.00) == [-34]  # 33.3 shares of 18.75 each
    assert excess_liquidity(5_000, REG_T_STOCK.maintenance(300 - 34, 75.0)) == 12.5
    assert excess_liquidity(5_000, REG_T_STOCK.maintenance(300 - 33, 75.0)) == -6.25


# IBKR, "US Stocks Margin", short positions: 30 % above 16.67, 5.00 below, the whole price below 5, and 2.50 at least.
@pytest.mark.parametrize(
    ("price", "held", "opened"),
    [(100.0, 30.0, 50.0), (20.0, 6.0, 10.0), (16.0, 5.0, 8.0), (10.0, 5.0, 5.0), (8.0, 5.0, 5.0), (5.0, 5.0, 5.0),
     (4.0, 4.0, 4.0), (2.5, 2.5, 2.5), (1.0, 2.5, 2.5)],
)  # fmt: skip
def test_a_cheap_share_that_is_short_requires_the_least_of_the_table(price, held, opened):
    assert REG_T_STOCK.maintenance(-1, price) == pytest.approx(held)
    assert REG_T_STOCK.initial(-1, price) == pytest.approx(opened)
    assert REG_T_STOCK.maintenance(-200, price) == pytest.approx(200 * held)


def test_bar_by_bar_it_is_what_it_is_of_each_bar():
    rng = np.random.default_rng(0)
    sizes, prices = rng.integers(-300, 300, 500).astype(float), rng.uniform(0.5, 60, 500)
    sizes[::7] = 0

    for rates in (REG_T_STOCK, Rates(1.0, 0.6, 0.9, 0.8), Rates(900.0, 800.0, 950.0, 850.0, by_contract=True)):
        each = [rates.maintenance(*one) if one[0] else 0.0 for one in zip(sizes.tolist(), prices.tolist(), strict=True)]
        assert rates.maintenance_by_bar(sizes, prices).tolist() == each


def test_a_contract_requires_money_whatever_its_price():
    rates = Rates(15_000.0, 12_000.0, 15_000.0, 12_000.0, by_contract=True)

    assert rates.initial(2, 250_000.0) == 30_000
    assert rates.maintenance(-2, 250_000.0) == 24_000


def test_equity_buys_twice_as_much():
    assert buying_power(10_000.0, REG_T_STOCK) == 20_000
    assert buying_power(-1.0, REG_T_STOCK) == 0


def test_what_requires_most_goes_first_and_no_more_than_there_is():
    positions = [Held(100, 2.5), Held(-50, 6.0), Held(10, 25.0)]  # 250, 300 and 250

    assert liquidation(positions, 0.0) == [0, 0, 0]
    assert liquidation(positions, 301.0) == [-1, 50, 0]
    assert liquidation(positions, 9_999.0) == [-100, 50, -10]


def test_parts_of_a_coin_go_by_their_step():
    assert liquidation([Held(2.0, 100.0, 0.01)], 12.3) == [pytest.approx(-0.13)]
    assert liquidation([Held(3.0, 100.0, 1e-8)], 1.1) == [-0.011]  # which 1,100,000 times 1e-8 is not


@pytest.mark.parametrize("seed", range(5))
def test_after_what_is_sold_nothing_is_missing_and_a_step_less_would_not_do(seed):
    rng = np.random.default_rng(seed)
    positions = [Held(float(rng.integers(-500, 500)), float(rng.uniform(0.5, 40))) for _ in range(5)]
    required = sum(abs(one.size) * one.each for one in positions)
    deficit = rng.uniform(0, required)

    sold = liquidation(positions, deficit)

    freed = sum(abs(size) * one.each for size, one in zip(sold, positions, strict=True))
    assert freed >= deficit - 1e-6
    assert any(freed - one.each < deficit for size, one in zip(sold, positions, strict=True) if size)
    assert all(abs(size) <= abs(one.size) and size * one.size <= 0 for size, one in zip(sold, positions, strict=True))


def test_what_has_no_rate_cannot_be_sold_short():
    assert math.isnan(Rates(0.5, 0.25, math.nan, math.nan).initial_short)
