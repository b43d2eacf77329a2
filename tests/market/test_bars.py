"""Numbers that a vendor sends where it has none are no prices, and null as volume, average and count."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from backtest.errors import BadBars
from backtest.market.bars import check_bars, check_unset, known_numbers, table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

DAILY, MINUTES = Series.parse("AAPL/1day"), Series.parse("AAPL/1min")
TUESDAY = datetime(2024, 1, 2, tzinfo=UTC)
OF_AN_INT, OF_A_LONG, OF_A_DECIMAL = (float(2**bits - 1) for bits in (31, 63, 127))
OF_A_DOUBLE = 1.7976931348623157e308
UNSET = [OF_AN_INT, 2147483648.0, 4294967295.0, OF_A_LONG, OF_A_DECIMAL, 3.4028234663852886e38, OF_A_DOUBLE]


def bar(price=10.0, volume=None, average=None, trades=None, **others):
    prices = {"open": price, "high": price, "low": price, "close": price, **others}
    return table_of([(TUESDAY, *prices.values(), volume, average, trades)])


@pytest.mark.parametrize("number", [*UNSET, -OF_A_DOUBLE, float("inf")])
@pytest.mark.parametrize("name", ["open", "high", "low", "close"])
def test_a_price_that_stands_for_no_number_is_refused(number, name):
    with pytest.raises(BadBars, match=f"{name} of AAPL/1day is implausible"):
        check_unset(bar(**{name: number}), DAILY)


def test_the_dearest_things_have_a_price():
    check_unset(bar(1.5e11), DAILY)  # a bitcoin, in rials
    check_unset(bar(2147483646.99), DAILY)


@pytest.mark.parametrize("name", ["volume", "average", "trades"])
@pytest.mark.parametrize("number", [*UNSET, -1.0, -2147483648.0, -OF_A_LONG, float("nan"), float("-inf")])
def test_what_stands_for_no_number_becomes_null(number, name):
    assert known_numbers(pa.array([7.0, number, None]), name).to_pylist() == [7.0, None, None]


def test_large_volumes_and_negative_averages_are_numbers():
    assert known_numbers(pa.array([2147483646.0, 5e9, 3e15, 0.0]), "volume").to_pylist() == [2147483646.0, 5e9, 3e15, 0]
    assert known_numbers(pa.array([-37.63, 0.0]), "average").to_pylist() == [-37.63, 0.0]  # crude oil, 2020-04-20


def test_a_source_of_ones_own_that_leaves_them_in_is_refused():
    for unset in ({"volume": OF_A_DECIMAL}, {"average": OF_A_DOUBLE}, {"trades": 2**31 - 1}, {"trades": 2**63 - 1}):
        with pytest.raises(BadBars, match=f"{next(iter(unset))} of AAPL/1day is implausible"):
            check_unset(bar(**unset), DAILY)


def test_broken_rules_name_the_same_bars_whatever_number_is_checked_at_once(monkeypatch):
    minutes = [TUESDAY + timedelta(minutes=n) for n in (0, 1, 2, 3, 3, 5, 4, 7)]
    highs = [10.0, 10.0, 9.0, 10.0, 10.0, 9.0, 10.0, 10.0]
    bars = table_of([(at, 10.0, high, 9.0, 10.0, None, None, None) for at, high in zip(minutes, highs, strict=True)])

    said = []
    for many in (1, 2, 3, 8):
        monkeypatch.setattr("backtest.market.bars._AT_A_TIME", many)
        with pytest.raises(BadBars) as error:
            check_bars(bars, MINUTES)
        said.append(str(error.value))

    assert len({*said}) == 1
    assert "time not after the one before at 2024-01-02 00:03:00+00:00, 2024-01-02 00:04:00+00:00" in said[0]
    assert "high below another price at 2024-01-02 00:02:00+00:00, 2024-01-02 00:05:00+00:00" in said[0]


def test_placeholders_name_the_same_bars_whatever_number_is_checked_at_once(monkeypatch):
    minutes = [TUESDAY + timedelta(minutes=n) for n in range(5)]
    closes = [10.0, OF_AN_INT, 10.0, 10.0, OF_A_LONG]
    bars = table_of(
        [(at, 10.0, 10.0, 10.0, close, None, None, None) for at, close in zip(minutes, closes, strict=True)]
    )
    monkeypatch.setattr("backtest.market.bars._AT_A_TIME", 2)

    with pytest.raises(BadBars, match=r"2.14748e\+09, at 2024-01-02 00:01:00\+00:00, 2024-01-02 00:04:00\+00:00"):
        check_unset(bars, MINUTES)


def test_the_store_takes_no_such_price(tmp_path):
    with pytest.raises(BadBars, match=r"high of AAPL/1day is implausible, 1.79769e\+308"):
        Store(tmp_path).write(DAILY, Span.of_dates("2024-01-02", "2024-01-02"), bar(high=OF_A_DOUBLE))
