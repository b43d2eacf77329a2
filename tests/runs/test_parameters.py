"""The form in which parameters are kept: what comes back is what went in, of the same type."""

import collections
import dataclasses
import datetime as dt
import enum
import json
import math
import operator
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest.errors import UsageError
from backtest.runs.parameters import Named, as_kept, duration_of, duration_text, kept_params, read_params
from backtest.runs.spec import RunSpec, spec_of

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
Pair = collections.namedtuple("Pair", "fast slow")


class Side(enum.Enum):
    LONG = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Rule:
    size: int
    since: dt.date

    def held(self):
        return self.size


class Ticks(int):
    pass


DATA = [
    (5, 20),
    ((1, (2.5, None)), [True, ()]),
    {1, 2, 30},
    frozenset({"a", (1, 2)}),
    {10: 100, 20: 300},
    {"b": 1, "a": 2},
    {"$date": "2001-01-01"},
    {1: {2: {3: (4,)}}, None: "none", False: [], (1, 2): {}},
    dt.date(2001, 1, 1),
    dt.time(9, 30),
    dt.time(9, 30, 0, 5, tzinfo=dt.UTC),
    dt.datetime(2001, 1, 1, 9, 30, 0, 1),  # noqa: DTZ001
    dt.datetime(2001, 10, 28, 1, 30, tzinfo=NEW_YORK, fold=1),
    dt.datetime(2001, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5), "EST")),
    dt.timedelta(days=5),
    -dt.timedelta(days=1, microseconds=1),
    NEW_YORK,
    dt.UTC,
    Decimal("0.10"),
    Fraction(1, 3),
    complex(1, -0.0),
    math.inf,
    -0.0,
    b"\x00\xff",
    range(1, 10, 2),
    slice(None, 5),
    2**70,
    "\ud800",
    Path("signals/one.csv"),
    np.int64(5),
    np.float64(0.1),
    np.float32(0.1),
    np.bool_(True),
    np.str_("x"),
    np.datetime64("2001-01-01", "D"),
    np.timedelta64(5, "h"),
    pd.Timestamp("2001-01-01 09:30", tz="America/New_York"),
    pd.Timedelta("1D 00:00:00.000000001"),
]


def through_a_file(value):
    return read_params(json.loads(json.dumps(kept_params({"it": value}), sort_keys=True)))["it"]


@pytest.mark.parametrize("value", DATA, ids=range(len(DATA)))
def test_what_comes_back_is_equal_and_of_the_same_types(value):
    found = through_a_file(value)

    assert repr(found) == repr(value) or (found == value and isinstance(value, set | frozenset | Path))
    assert type(found) is type(value)
    assert found == value


def test_a_dict_comes_back_in_its_order():
    assert list(through_a_file({"b": 1, "a": {2: 3, 1: 4}})) == ["b", "a"]
    assert list(through_a_file({2: 3, 1: 4})) == [2, 1]


def test_a_number_that_is_none_and_an_array_come_back():
    array = np.array([[0.1, np.nan], [1.0, -0.0]], "float32")

    assert math.isnan(through_a_file(math.nan))
    found = through_a_file(array)
    assert (found.dtype, found.tobytes()) == (array.dtype, array.tobytes())
    days = np.array(["2001-01-01", "NaT"], "datetime64[D]")
    assert through_a_file(days).tobytes() == days.tobytes()


@pytest.mark.parametrize("value", [Side, Side.LONG, Rights.READ | Rights.WRITE, math.sqrt, operator.add,
                                   Rule.held, np.add, np.mean, dict.fromkeys, len, math, Rule(5, dt.date(2001, 1, 1)),
                                   Pair(5, 20), Ticks(3), collections.OrderedDict(b=1, a=2)])  # fmt: skip
def test_what_has_a_name_is_kept_by_it_and_equal_to_what_it_stands_for(value):
    found = through_a_file(value)

    assert isinstance(found, Named)
    assert found == value
    assert found == as_kept({"it": value})["it"]
    assert found != Side.LONG or value is Side.LONG


def test_forms_say_what_they_are():
    assert kept_params({"a": (5, dt.date(2001, 1, 1)), "b": dt.timedelta(hours=36), "c": Side.LONG, "d": {10: 1}}) == {
        "a": {"$tuple": [5, {"$date": "2001-01-01"}]},
        "b": {"$timedelta": "1d12h"},
        "c": {"$enum": f"{__name__}:Side.LONG"},
        "d": {"$dict": [[10, 1]]},
    }


PLAIN = {
    "n": 5,
    "x": 0.1,
    "s": "a",
    "t": True,
    "o": None,
    "l": [1, [2.5, "b"]],
    "d": {"z": 1, "a": 2},
    "f": np.float64(0.5),
}


def test_the_key_of_what_version_0_1_0_could_keep_stays():
    import hashlib

    spec = RunSpec("a.py:A", ("AAPL-STK-SMART-USD/1day/TRADES/rth",), params=PLAIN)
    flat = {"strategy": "a.py:A", "series": ["AAPL-STK-SMART-USD/1day/TRADES/rth"], "since": "", "until": "",
            "params": PLAIN, "cash": 100_000.0, "benchmark": "", "risk_free": 0.0, "sessions_a_year": 252.0,
            "costs": "ib-fixed"}  # fmt: skip

    formerly = hashlib.sha256(json.dumps(flat, sort_keys=True, indent=1).encode()).hexdigest()[:10]

    assert spec.key == formerly
    assert spec_of(json.loads(json.dumps(spec.flat, sort_keys=True))).key == formerly


def test_values_that_version_0_1_0_took_for_one_have_different_keys():
    from backtest.research.search.trials import key_of

    values = [[5, 20], (5, 20), {5, 20}, {"10": 1}, {10: 1}, dt.date(2001, 1, 1), "2001-01-01", 1, True, 1.0]

    assert len({key_of("case", {"it": value}) for value in values}) == len(values)
    assert len({RunSpec("a.py:A", ("B",), params={"it": value}).key for value in values}) == len(values)


class Unnamed:
    pass


@pytest.mark.parametrize(
    "value",
    [Unnamed(), lambda: 1, [object()], {1: (lambda: 2,)}, Rule(5, None).held, iter([])],
    ids=["an object", "a lambda", "in a list", "in a dict", "a method", "an iterator"],
)
def test_what_has_no_form_is_refused_with_the_name_of_the_parameter(value):
    with pytest.raises(UsageError, match="the parameter it cannot be saved with the run: it is, or holds, "):
        kept_params({"it": value})


def test_a_list_that_holds_itself_is_refused():
    value = []
    value.append(value)

    with pytest.raises(UsageError, match="contains itself"):
        kept_params({"it": value})


@pytest.mark.parametrize("form", [{"$date": "tomorrow"}, {"$decimal": "x"}, {"$tuple": 5}, {"$made": [1]},
                                  {"$zone": "Mars"}, {"$numpy": ["<f8"]}, {"$dict": [[1]]},
                                  {"$timedelta": "soon"}])  # fmt: skip
def test_a_form_that_was_tampered_with_is_refused(form):
    with pytest.raises(ValueError, match="not in the form they are kept in"):
        read_params({"it": form})


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("5d", dt.timedelta(days=5)),
        ("1w", dt.timedelta(weeks=1)),
        ("1d12h", dt.timedelta(hours=36)),
        ("-2h30m", -dt.timedelta(minutes=150)),
        ("1.5h", dt.timedelta(minutes=90)),
        ("0.000001s", dt.timedelta(microseconds=1)),
        ("1:30:00", dt.timedelta(minutes=90)),
        ("0:15", dt.timedelta(minutes=15)),
        ("5 days, 0:00:00", dt.timedelta(days=5)),
        ("-1 day, 23:59:59.500000", dt.timedelta(seconds=-0.5)),
        ("0s", dt.timedelta()),
    ],
)
def test_durations_are_read_as_people_and_python_write_them(text, duration):
    assert duration_of(text) == duration
    assert duration_of(duration_text(duration)) == duration
    assert duration_of(str(duration)) == duration


@pytest.mark.parametrize("text", ["", "5", "d", "5x", "1d 2", "--1d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        duration_of(text)
