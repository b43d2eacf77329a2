import tracemalloc
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from handmade import day, fill, result_of
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from backtest import run
from backtest.market import arrays
from backtest.report.attribution import REST, attribution


def shares(found):
    return {share.side: share.cents for share in found.shares}


def test_a_trade_gains_from_its_fill_to_its_close_and_pays_its_costs():
    # Bought 2 at 10 for 0.50, close 11, close 12, sold 2 at 16 for 0.50: 2 * 6 - 1.
    fills = [fill(0, 2, 10.0, 0.5), fill(2, -2, 16.0, 0.5)]

    found = attribution(result_of([101.5, 103.5, 111.0], fills, closes=[11.0, 12.0, 15.0]))

    assert shares(found) == {"long": (1100,)}
    assert found.total == 1100


def test_a_fill_that_turns_a_position_around_is_shared_by_its_sides():
    # Long 1 at 10, then 3 sold at 13 for 3: one of them closes, for 1, and two open, for 2; the close is 12.
    fills = [fill(0, 1, 10.0), fill(1, -3, 13.0, 3.0)]

    found = attribution(result_of([100.0, 102.0], fills, closes=[10.0, 12.0]))

    assert shares(found) == {"long": (200,), "short": (0,)}  # 3 - 1, and 2 * 1 - 2
    assert found.total == 200


def test_a_run_that_never_held_anything_brought_in_whole_cents():
    found = attribution(result_of([100.0, 100.0]))

    assert shares(found) == {REST: (0,)}
    assert [type(cents) for share in found.shares for cents in share.cents] == [int]


def test_what_no_position_brought_in_is_the_rest():
    found = attribution(result_of([101.0, 103.25]))

    assert shares(found) == {REST: (325,)}


def long_run(count):
    """Return a run that is long, flat and short by turns, over years of bars of a day."""
    chance = np.random.default_rng(3)
    closes = np.round(100 + chance.normal(0, 0.1, count).cumsum(), 2)
    sizes = [[2, 1, -5, 2][place % 4] for place in range(count // 10)]
    fills = [fill(10 * place + 3, size, closes[10 * place + 3] + 0.1, 0.07) for place, size in enumerate(sizes)]
    return result_of((10_000 + closes).tolist(), fills, closes=closes.tolist())


def test_attribution_and_leverage_in_blocks_are_those_of_whole_arrays(monkeypatch):
    run = long_run(1_000)
    whole, leverage = attribution(run), run.account.leverage
    monkeypatch.setattr(arrays, "BLOCK", 128)

    assert attribution(run) == whole
    assert replace(run).account.leverage == leverage
    assert len(whole.years) == 3
    assert set(shares(whole)) == {"long", "short", REST}


@pytest.mark.slow
def test_what_a_run_earned_is_computed_in_little_memory(monkeypatch):
    run = long_run(300)
    times = arrays.numbers(run.record["time"])[0] + np.arange(100_000) * 5_000_000
    numbers = {name: np.resize(arrays.numbers(run.record[name]), len(times)) for name in ("equity", "close.0")}
    columns = {"time": arrays.stamps(times.view("datetime64[us]")),
               "session": arrays.days(times.astype("datetime64[us]").astype("datetime64[D]")),
               **{name: arrays.floats(values) for name, values in numbers.items()},
               "cash": arrays.floats(np.full(len(times), 100.0)),
               "position.0": arrays.floats(numbers["equity"] % 3)}  # fmt: skip
    run = replace(run, record=pa.table(columns))
    monkeypatch.setattr(arrays, "BLOCK", 512)

    taken = []
    for measured in (attribution, lambda run: run.account):
        tracemalloc.start()
        measured(run)
        taken.append(tracemalloc.get_traced_memory()[1] / len(times))
        tracemalloc.stop()

    assert taken[0] < 10  # bytes per bar; arrays of all bars took 113
    assert taken[1] < 20  # half of them buy and hold; it took 49


def test_years_add_up_to_the_change_of_equity():
    days = [date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3)]
    fills = [fill(0, 1, 10.0)]

    found = attribution(result_of([101.0, 99.0, 104.0], fills, days=days, closes=[11.0, 9.0, 14.0]))

    assert found.years == (2023, 2024)
    assert shares(found) == {"long": (100, 300)}
    assert found.totals == (100, 300)


def test_weights_are_shares_of_equity_in_the_mean_of_all_bars():
    fills = [fill(0, -2, 10.0), fill(1, 2, 10.0)]

    (short,) = attribution(result_of([100.0, 100.0], fills, closes=[10.0, 10.0])).shares

    assert (short.side, short.weight, short.held) == ("short", -0.1, 0.5)  # 20 of 100 in one bar of two


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 900)), min_size=3, max_size=9),
    st.lists(st.integers(1, 900), min_size=9, max_size=9),
)
def test_shares_add_up_to_the_total_whatever_was_traded(trades, closes):
    fills = [fill(n, size, price / 3, 0.07) for n, (size, price) in enumerate(trades) if size]
    marks, equity, held, cash = [close / 7 for close in closes], [], 0, 1e6
    for number in range(9):
        for one in fills:
            if one["time"].date() == day(number):
                held, cash = held + one["size"], cash - one["size"] * one["price"] - one["costs"]
        equity.append(cash + held * marks[number])

    found = attribution(result_of(equity, fills, closes=marks, cash=1e6))

    assert found.total == round(100 * equity[-1]) - 100_000_000
    rest = next((share.total for share in found.shares if share.side == REST), 0)
    assert abs(rest) <= 2  # a cent that was rounded, for each side


@pytest.mark.slow
def test_the_shares_of_a_run_on_several_series_add_up_to_its_result():
    names = ["AAPL/1day", "IBM/1day", "MSFT/1day"]
    result = run(ROOT / "strategies" / "sma_cross.py", names, store=ROOT / "data" / "sample")

    found = attribution(result)

    assert found.total == round(100 * result.equity.iloc[-1]) - 10_000_000
    assert sum(found.totals) == found.total
    assert {share.series for share in found.shares if share.series is not None} <= {0, 1, 2}
    for number, name in enumerate(names):
        own = sum(share.total for share in found.shares if share.series == number)
        trades = result.trades[[one.startswith(name.split("/")[0]) for one in result.trades["series"]]]
        if result.positions.iloc[-1, number] == 0:
            assert own == pytest.approx(100 * trades["net"].sum(), abs=20)  # cents that were rounded, of each year


def test_money_that_no_machine_number_holds_is_still_added_up():
    found = attribution(result_of([1e17, 3e17], cash=2e17))

    assert found.total == 10**19
    assert np.isfinite(found.total)


def test_dividends_are_of_the_side_that_held():
    # Long 2 before the dividend of 0.80 a share that comes with the third bar, of which 15 % are withheld.
    fills = [fill(0, 2, 10.0)]
    result = result_of([100.0, 100.0, 101.36], fills, closes=[10.0] * 3, withholding=0.15)
    amounts = pa.array([0.0, 0.0, 0.8])
    result = replace(result, record=result.record.append_column("dividend.0", amounts))

    assert shares(attribution(result)) == {"long": (136,)}  # 2 * 0.80 * 0.85


def test_prices_in_another_currency_are_converted():
    # Bought 2 at 10.00 at a rate of 1.50; the last close is 11.00 at 1.60: 2 * (17.60 - 15.00).
    result = result_of([100.0, 105.2], [fill(0, 2, 10.0)], closes=[10.0, 11.0])
    record = result.record.append_column("rate.0", pa.array([1.5, 1.6]))
    fills = result.fills_table.append_column("rate", pa.array([1.5]))

    found = attribution(replace(result, record=record, fills_table=fills))

    assert shares(found) == {"long": (520,)}


def test_each_series_has_points_of_its_own():
    result = result_of([100.0, 150.0], [fill(0, 1, 10.0)], closes=[10.0, 11.0])

    found = attribution(replace(result, spec=replace(result.spec, multipliers=(50.0,))))

    assert shares(found) == {"long": (5000,)}
