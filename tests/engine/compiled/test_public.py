"""The frozen list of public strategies is what its rule says, and long enough."""

from compiled_public import EACH, frozen, place, trading

LEAST = 100


def test_the_list_is_every_third_that_trades_in_order_of_hash():
    assert [tuple(row[:4]) for row in frozen()] == trading()[::EACH]


def test_the_list_is_in_order_and_long_enough():
    rows = frozen()

    assert len(rows) >= LEAST
    assert rows == sorted(rows, key=place)
