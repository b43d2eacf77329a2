"""Times of whole columns at once are those that are read one by one, or none where one of them needs a look."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from backtest.errors import BadBars
from backtest.market.series import Series
from backtest.sources.files.times import moments_of, stamps_in_one, stamps_of

MINUTE = Series.parse("AAPL/1min")
YEAR = [datetime.fromisoformat("2024-01-01 00:10") + timedelta(hours=7, minutes=11) * n for n in range(1_200)]
NEW_YORK, LORD_HOWE = ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")


def one_by_one(columns, zone):
    written = moments_of(columns, "file", str)
    stamps = stamps_of(written.moments, MINUTE, zone, "file", str)
    return np.array([stamp.replace(tzinfo=None) for stamp in stamps], "datetime64[us]"), written.form


def column(values, kind):
    return pa.chunked_array([pa.array(values[:500], kind), pa.array(values[500:], kind)])


COLUMNS = {
    "in UTC": (column(YEAR, pa.timestamp("us", "UTC")), None),
    "in New York": (column(YEAR, pa.timestamp("ns", "America/New_York")), None),
    "seconds": (column(YEAR, pa.timestamp("s", "UTC")), None),
    "without a zone": (column(YEAR, pa.timestamp("ms")), NEW_YORK),
    "without a zone, of half an hour's saving": (column(YEAR, pa.timestamp("us")), LORD_HOWE),
    "text": (column([f"{one:%Y-%m-%d %H:%M:%S}" for one in YEAR], pa.string()), NEW_YORK),
    "text in UTC": (column([f"{one:%Y-%m-%dT%H:%M:%S}Z" for one in YEAR], pa.string()), None),
    "midnights among others": (column([datetime.fromisoformat("2024-01-02"), *YEAR], pa.timestamp("us")), NEW_YORK),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_gives_what_its_values_give(name):
    values, zone = COLUMNS[name]

    stamps, form, without_zone = stamps_in_one([values], MINUTE, zone)

    slowly, its_form = one_by_one([values], zone)
    assert stamps.dtype == slowly.dtype
    assert (stamps == slowly).all()
    assert (form, without_zone) == (its_form, zone is not None)


LOOKED_AT = {
    "a time that is there twice": (datetime.fromisoformat("2024-11-03 01:30"), NEW_YORK),
    "a time that does not exist": (datetime.fromisoformat("2024-03-10 02:30"), NEW_YORK),
    "half an hour that is there twice": (datetime.fromisoformat("2024-04-07 01:45"), LORD_HOWE),
    "no zone at all": (datetime.fromisoformat("2024-03-11 10:00"), None),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_has_to_be_looked_at_is_left_to_those_who_read_one_by_one(name):
    moment, zone = LOOKED_AT[name]

    assert stamps_in_one([pa.chunked_array([pa.array([*YEAR, moment], pa.timestamp("us"))])], MINUTE, zone) is None


@pytest.mark.parametrize(
    "values",
    [
        pa.array(
            [datetime.fromisoformat("2024-01-02"), datetime.fromisoformat("2024-01-03")], pa.timestamp("us", "UTC")
        ),
        pa.array([None, YEAR[0]], pa.timestamp("us", "UTC")),
        pa.array([1_704_103_800_000_000_001], pa.timestamp("ns", "UTC")),
        pa.array(["2024-02-30 10:00:00"]),
        pa.array(["10:00"]),
        pa.array([1_704_103_800]),
        pa.array([], pa.timestamp("us", "UTC")),
    ],
)
def test_columns_that_are_not_plain_times_are_left_too(values):
    assert stamps_in_one([pa.chunked_array([values])], MINUTE, NEW_YORK) is None


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_row_without_a_time_is_named(blank):
    texts = pa.chunked_array([pa.array(["2024-01-02 10:00:00", blank])])

    with pytest.raises(BadBars, match="file has no time in 1; fill it in"):
        moments_of([texts], "file", str)
