"""
Ten nights of the year in tests/soak/year.py; and downloaders that are careless on purpose, which it finds.
"""

import tempfile
from pathlib import Path

import pytest
import year
from operations import quick_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def folder():
    """Return a folder on a disk that is quick to sync."""
    with tempfile.TemporaryDirectory(dir=quick_folder()) as name:
        yield Path(name)


def played(folder, kinds, names=(), **words):
    """Return what was wrong about ten nights with problems of some kinds, of some series."""
    few = year.few_nights()
    lines = [line for line in few["lines"] if not names or line.spelling in names]
    return year.run(folder, 1, **few | {"lines": lines}, kinds=frozenset(kinds), **words)


def test_ten_nights_end_as_the_truth_and_tell_each_problem(folder):
    nights = played(folder, year.KINDS)

    assert nights.wrong == []
    assert {3, 4} <= {*nights.codes}
    assert {*nights.problems} >= {
        name for name, kind in year.KINDS.items() if kind.yearly and not (kind.everything or kind.slow)
    }


@pytest.mark.parametrize(
    ("downloader", "kind", "found"),
    [
        ("believing", "empty", "lost"),
        ("believing", "cut_end", "lost"),
        ("seamless", "split", "not the same"),
        ("seamless", "revised", "not the same"),
        ("seamless", "corrected", "not the same"),
        ("accepting", "blip", "exit code 0, not 3"),
        ("hushed", "bad", "exit code 0, not 3"),
    ],
)
def test_a_careless_downloader_is_found(downloader, kind, found, folder):
    names = ("AA/1day", "BB/1day", "SPX-IND-CBOE/1day")

    nights = played(folder, {kind}, names, downloader=year.CARELESS[downloader])

    assert nights.problems == {kind: 1}
    assert any(found in text for text in nights.wrong)


@pytest.mark.parametrize(
    ("spelling", "day", "stamps"),
    [
        ("MA/30mins", "2024-11-27", ["14:30", "20:30"]),
        ("MA/30mins", "2024-11-28", []),
        ("MA/30mins", "2024-11-29", ["14:30", "17:30"]),  # to 13:00 in New York
        ("HA/1hour", "2024-10-31", ["13:30", "19:00"]),  # before the clocks change
        ("NZD-CASH/15mins", "2024-11-04", ["22:15", "21:45"]),  # from Sunday evening
        ("AA/1week", "2024-11-28", []),
        ("AA/1week", "2024-11-29", ["00:00", "00:00"]),
    ],
)
def test_the_truth_has_the_bars_of_a_session(spelling, day, stamps):
    few = year.few_nights()
    world = year.World(1, few["start"], few["nights"], frozenset(), few["lines"])

    bars = world._bars[spelling]

    clocks = bars.times[bars.days == year.np.datetime64(day)].astype("datetime64[s]").astype(str)
    assert [text[11:16] for text in (clocks[0], clocks[-1])] == stamps if stamps else not len(clocks)
