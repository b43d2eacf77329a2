import numpy as np
import pyarrow as pa
import pytest

from backtest.market import arrays
from backtest.runs.round_trips import extremes_between, round_trips, rows_by_place, trips_of

RECORD = pa.table({"time": arrays.stamps(np.arange(200).astype("datetime64[s]"))})


def fills_of(sizes, seed):
    """Return fills of these sizes, a series and a signed size each, at prices and costs by chance."""
    chance, count = np.random.default_rng(seed), len(sizes)
    return pa.table(
        {
            "time": arrays.stamps(np.arange(count).astype("datetime64[s]")),
            "series": [name for name, _ in sizes],
            "size": arrays.floats([size for _, size in sizes]),
            "price": arrays.floats(chance.uniform(5, 300, count)),
            "costs": arrays.floats(chance.uniform(0, 2, count)),
        }
    )


CASES = {
    "none": [],
    "an entry that stays open": [("A", 3.0)],
    "whole exits, long and short": [("A", 3.0), ("A", -3.0), ("A", -0.7), ("A", 0.7), ("A", 11.0)],
    "exits in parts": [("A", 1.0), ("A", -0.3), ("A", -0.2), ("A", -0.5), ("A", 2.0), ("A", -2.0)],
    "two entries, one exit": [("A", 0.1), ("A", 0.2), ("A", -0.1 - 0.2)],
    "a turn": [("A", 4.0), ("A", -9.0), ("A", 5.0)],
    "two series in turns": [("A", 1.0), ("B", -2.0), ("B", 1.0), ("A", -1.0), ("B", 1.0)],
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_round_trips_of_many_runs_are_those_of_each(case, alone):
    runs = [CASES[case]] if alone else [CASES[case], *CASES.values()]
    tables = [fills_of(sizes, seed) for seed, sizes in enumerate(runs)]
    points = {"A": 1.0, "B": 50.0}
    fills = pa.concat_tables([table.cast(tables[-1].schema) for table in tables])
    run = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    series = (fills["series"].to_numpy() == "B").astype(int)
    size, price, costs = (fills[name].to_numpy() for name in ("size", "price", "costs"))

    found = trips_of(2 * run + series, size, price, costs, np.where(series, 50.0, 1.0))

    expected = [round_trips(table, RECORD, points) for table in tables]
    wanted = [[one[name].to_numpy() for one in expected] for name in ("size", "net", "return")]
    assert [one.tobytes() for one in (found.size, found.net, found.growth)] == [
        np.concatenate(columns).tobytes() for columns in wanted
    ]
    assert run[found.exits].tolist() == np.repeat(np.arange(len(tables)), [len(one) for one in expected]).tolist()
    entered = [fills["time"].to_numpy()[found.entries].astype("datetime64[s]").astype(int).tolist()]
    assert entered == [[int(x.timestamp()) for one in expected for x in one["entry"].to_pylist()]]


@pytest.mark.parametrize("seed", range(30))
def test_round_trips_of_whole_shares_are_those_that_are_matched_one_by_one(seed):
    chance = np.random.default_rng(seed)
    names, count = "ABC"[: 1 + seed % 3], int(chance.integers(20, 120))
    sizes = chance.choice([-7.0, -3.0, -2.0, -1.0, 1.0, 2.0, 4.0, 6.0], count)
    fills = fills_of(list(zip(chance.choice(list(names), count).tolist(), sizes.tolist(), strict=True)), seed)
    fills = fills.append_column("rate", arrays.floats(chance.uniform(0.5, 2, count)))
    seen = []

    def extremes(entries, exits):
        seen.append((entries.tolist(), exits.tolist()))
        return entries * 1.0, exits * 1.0

    found, one_by_one = (round_trips(fills, RECORD, {"B": 50.0}, extremes, fees) for fees in (None, np.zeros(count)))

    assert len(found) > count // 4
    assert found.equals(one_by_one)
    assert seen[0] == seen[1]


def test_of_so_many_shares_that_one_counts_as_none_each_pair_is_matched_by_itself():
    fills = fills_of([("A", 3e9), ("A", -3e9 + 1), ("A", -1.0), ("A", 2.0)], 0)

    found = round_trips(fills, RECORD)

    assert found.equals(round_trips(fills, RECORD, fees=np.zeros(4)))
    assert found["size"].to_pylist() == [3e9 - 1, -1.0]  # one share of 3e9 is none, and the next one is short


def test_rows_are_those_of_each_series_by_its_place_whatever_its_spelling():
    names = ["MSFT-STK-SMART-USD/1day/TRADES/rth", "AAPL/1day", "MSFT/1day", "AAPL/1week", "AAPL/1day"]

    found = rows_by_place(pa.table({"series": names}), ["AAPL/1day", "QQQ/1day", "MSFT/1day"])

    assert {place: rows.tolist() for place, rows in found.items()} == {0: [1, 4], 2: [0, 2]}


def test_extremes_are_those_of_the_bars_up_to_the_end():
    prices, starts, ends = np.array([3.0, 1.0, 2.0, 4.0]), np.array([0, 2, 1, 3, 4, 2]), np.array([2, 4, 3, 4, 4, 2])

    lowest, highest = (extremes_between(choose, prices, starts, ends) for choose in (np.fmin, np.fmax))

    np.testing.assert_array_equal(lowest, [1.0, 2.0, 1.0, 4.0, np.nan, np.nan])
    np.testing.assert_array_equal(highest, [3.0, 4.0, 2.0, 4.0, np.nan, np.nan])
