"""Parameters that are no plain numbers: taken, kept, run again with the same values, swept, typed on a command line."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import backtrader as bt
import pytest
from stores.make_store import daily, days

from backtest import RunResult, run, sweep, walk_forward
from backtest.engine.code.strategy import load_strategy
from backtest.errors import UsageError
from backtest.market.series import Series
from backtest.store.store import Store

FILE = """
import collections, datetime, decimal, enum, math, re, threading
import backtrader as bt
from near import Level, twice

class Kind(enum.Enum):
    SMALL = 1
    LARGE = 30

class Own(bt.Indicator):
    lines = ("own",)
    def next(self):
        self.lines.own[0] = self.data.close[0]

class Other(Own):
    pass

def once(x):
    return x

class Odd(bt.Strategy):
    params = dict(
        average=bt.ind.SMA, own=Own, kind=Kind.SMALL, since=datetime.date(2001, 1, 1), at=datetime.time(9, 30),
        moment=datetime.datetime(2001, 1, 1, 9), hold=datetime.timedelta(days=5), pair=(5, 20), deep=((1, 2.5), ["a"]),
        names=frozenset({"a"}), sizes={1: 100, 20: 300}, price=decimal.Decimal("0.10"), rule=once, far=twice,
        lazy=lambda x: x, level=Level(3), lock=threading.Lock(), words=re.compile("a"), top=max, seen=[], none=None,
        n=2, text="a", counts=collections.defaultdict(int), up=float("inf"),
    )

    def next(self):
        p = self.p
        for name, value in self.params._getkwargs().items():
            if name not in ("lazy", "lock", "rule", "far"):
                self.notes[name] = f"{type(value).__name__} {value!r}"
        assert p.lazy(2) == 2 and p.level.number == 3 and not p.lock.locked() and p.words.match("a")
        p.seen.append(len(self))
        assert p.seen == list(range(p.seen[0], len(self) + 1)), p.seen
        if size := p.sizes.get(len(self)):
            self.buy(size=size + p.rule(0) + p.pair[0])

    def start(self):
        self.notes = {}
        assert issubclass(self.p.own, Own) and self.p.kind in Kind and hash(self.p.pair)
"""
NEAR = """
from dataclasses import dataclass

@dataclass
class Level:
    number: int

def twice(x):
    return 2 * x
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BACKTEST_STORE", raising=False)
    made = Store("data/bars")
    made.write(Series.parse("AAPL/1day"), days(2, 30), daily(2, 30))
    Path("odd.py").write_text(FILE)
    Path("near.py").write_text(NEAR)
    return tmp_path


def odd(**params):
    return run("odd.py:Odd", "AAPL/1day", store="data/bars", params=params)


@pytest.mark.slow
def test_odd_defaults_are_what_bare_backtrader_gives_and_come_back_from_the_file(project):
    defaults = load_strategy("odd.py:Odd").defaults
    result = odd()

    result.save("kept")
    again = RunResult.load("kept")

    plain = {name: f"{type(value).__name__} {value!r}" for name, value in defaults.items()}
    told = {name: value for name, value in result.manifest["notes"].items() if value}
    same = {name for name in told if told[name] == plain[name]}
    assert {*told} - same <= {"own", "kind", "level", "seen"}  # of another copy of the file; and changed by the run
    assert again.spec.params == result.spec.params
    assert again.spec.key == result.spec.key
    assert result.orders["size"].tolist() == [105, 305]


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"average": bt.ind.EMA, "pair": (7, 9), "sizes": {2: 5, 3: 6}, "hold": dt.timedelta(hours=1)},
        {"kind": "LARGE", "own": "Other", "rule": "math.floor", "none": (1, {2: 3})},
        {
            "none": {"b": 1, "a": 2},
            "names": {"x"},
            "price": Decimal("1.50"),
            "since": dt.datetime(2001, 1, 1, tzinfo=dt.UTC),
        },
    ],
    ids=["defaults", "given", "texts", "nested"],
)
def test_an_unchanged_strategy_is_reproduced_and_holds_its_baseline(project, call, params):
    odd(**params).save("runs/odd")

    assert call("reproduce", "runs/odd")[0] == 0
    assert call("baseline", "save", "runs/odd")[0] == 0
    assert call("baseline", "check")[0] == 0


def test_a_strategy_gets_lists_and_dicts_of_its_own(project):
    given = {"sizes": {1: 100}, "seen": []}

    first, second = odd(**given), odd(**given)

    assert given == {"sizes": {1: 100}, "seen": []}
    assert first.name == second.name
    assert first.spec.params["seen"] == []


@pytest.mark.slow
def test_what_cannot_be_kept_is_refused_before_the_run_with_its_name(project):
    Path("odd.py").write_text(FILE + "    def __init__(self):\n        raise SystemError('it ran')\n")

    for value in (object(), lambda x: x, [iter(())]):
        with pytest.raises(UsageError, match=r"the parameter rule cannot be saved .* is, or holds"):
            odd(rule=value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("average=bt.ind.EMA", "backtrader.indicators.ema:EMA"),
        ("average=EMA", "backtrader.indicators.ema:EMA"),
        ("average=backtrader.indicators.EMA", "backtrader.indicators.ema:EMA"),
        ("own=Other", ":Other"),
        ("rule=twice", "near:twice"),
        ("rule=near.twice", "near:twice"),
        ("rule=math.sqrt", "math:sqrt"),
        ("kind=LARGE", ":Kind.LARGE"),
        ("kind=Kind.LARGE", ":Kind.LARGE"),
        ("kind=30", ":Kind.LARGE"),
        ("since=2002-02-03", "2002-02-03"),
        ("at=15:45", "15:45:00"),
        ("moment=2002-02-03T10:00", "2002-02-03T10:00:00"),
        ("hold=2d12h", "2d12h"),
        ("hold=1:30:00", "1h30m"),
        ("pair=7,9", [7, 9]),
        ("pair=(7, 9)", [7, 9]),
        ("pair=7,9,11", [7, 9, 11]),
        ("names=", []),
        ("pair=(7,)", [7]),
        ("deep=((3,4.5),[b])", [{"$tuple": [3, 4.5]}, ["b"]]),
        ("names=x,'y z'", ["x", "y z"]),
        ("sizes=10:1,20:2", [[10, 1], [20, 2]]),
        ("price=0.25", "0.25"),
    ],
)
def test_a_text_says_a_value_by_the_type_of_the_default(project, call, word, shown):
    code, _, err = call("run", "odd.py:Odd", "AAPL/1day", "--set", word, "--out", "kept")

    assert code == 0, err
    name = word.partition("=")[0]
    (form,) = json.loads(Path("kept/spec.json").read_text())["params"][name].values()
    assert form == shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("since=tomorrow", "since='tomorrow' is not a date such as 2024-03-28"),
        ("at=noon", "at='noon' is not a time such as 15:30"),
        ("hold=5", "hold='5' is not a duration such as 5d"),
        ("pair=7,x", "pair='7,x' is not a whole number"),
        ("sizes=10", "sizes='10' is not a dict"),
        ("kind=HUGE", "kind='HUGE' is not one of SMALL, LARGE"),
        ("average=bt.ind.EMAA", "average='bt.ind.EMAA' is not a class such as bt.ind.EMA"),
        ("rule=nowhere.at.all", "rule='nowhere.at.all' is not a function"),
        ("price=x", "price='x' is not a decimal number"),
        ("lock=x", "lock='x' cannot be read, because a lock cannot be written as text"),
        ("n=x", "n='x' is not a whole number; its default is 2"),
    ],
)
def test_a_text_that_says_none_is_a_sentence(project, call, word, told):
    code, _, err = call("run", "odd.py:Odd", "AAPL/1day", "--set", word)

    assert code == 2
    assert told in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_sweep_over_classes_tuples_and_durations_is_kept_and_goes_on(project, call):
    words = [
        "sweep",
        "odd.py:Odd",
        "AAPL/1day",
        "--grid",
        "average=bt.ind.SMA,bt.ind.EMA",
        "--grid",
        "pair=(5,20),(7,9)",
    ]
    words += ["--grid", "at=09:30,10:00", "--rank", "trades", "--out", "swept"]

    code, first, err = call(*words)
    code_again, out, err_again = call(*words, "--resume", "--json")

    assert (code, code_again) == (0, 0), err + err_again
    found = json.loads(out)
    assert (found["trials"], found["failed"]) == (8, 0)
    assert found["best"]["params"]["average"] == {"$class": "backtrader.indicators.sma:SMA"}
    assert found["top"][-1]["params"]["pair"] in ({"$tuple": [5, 20]}, {"$tuple": [7, 9]})
    assert len(list(Path("swept/trials").iterdir())) < 9
    assert "by trades: average=" in " ".join(first.split())
    assert all(word in first for word in ("SMA ", "EMA ", "(5, 20)", "(7, 9)", "09:30:00"))


@pytest.mark.slow
def test_values_of_a_grid_from_python_may_be_such_as_no_set_holds(project):
    grid = {"sizes": [{1: 10}, {1: 20}], "seen": [[], []][:1], "own": ["Own", "Other"], "none": [None, [1], (1,)]}

    found = sweep("odd.py:Odd", "AAPL/1day", grid, store="data/bars", folder="swept", rank="costs")
    again = sweep("odd.py:Odd", "AAPL/1day", grid, store="data/bars", folder="swept", rank="costs", resume=True)

    assert found.failed == []
    assert [trial.key for trial in again.trials] == [trial.key for trial in found.trials]
    assert len({trial.key for trial in found.trials}) == 12
    assert found.plot("sizes", "none").axes
    assert len(found.to_frame()) == 12
    assert type(found).load("swept").best.params == found.best.params


@pytest.mark.slow
def test_other_processes_get_the_classes_of_a_strategys_own_file(project):
    grid = {
        "own": ["Own", "Other"],
        "level": [load_strategy("odd.py:Odd").defaults["level"]],
        "pair": [(5, 20), (7, 9)],
    }

    one = sweep("odd.py:Odd", "AAPL/1day", grid, store="data/bars", folder="one", rank="trades")
    two = sweep("odd.py:Odd", "AAPL/1day", grid, store="data/bars", folder="two", rank="trades", jobs=2)

    assert one.failed == two.failed == []
    assert [trial.key for trial in one.trials] == [trial.key for trial in two.trials]
    assert [trial.params for trial in one.trials] == [trial.params for trial in two.trials]


@pytest.mark.slow
def test_a_walk_forward_chooses_among_them_and_of_what_a_sweep_kept(project, call):
    grid = {"pair": [(5, 20), (7, 9)], "average": [bt.ind.SMA, bt.ind.EMA]}
    found = walk_forward(
        "odd.py:Odd", "AAPL/1day", grid, train=8, test=4, store="data/bars", rank="volatility", folder="wf"
    )
    sweep("odd.py:Odd", "AAPL/1day", grid, store="data/bars", folder="runs/swept", rank="trades", params={"hold": "3d"})

    code, out, err = call("validate", "runs/swept", "--walk-forward", "8/4", "--json", "--bootstrap", "10")

    assert code == 0, err
    assert found.steps[0].params["pair"] in [(5, 20), (7, 9)]
    assert json.loads(json.dumps(found.to_dict()))["steps"][0]["pair"]["$tuple"] in [[5, 20], [7, 9]]
    assert json.loads(out)["walk_forward"]["steps"][0]["average"]["$class"].startswith("backtrader.indicators")


def test_a_class_of_a_script_is_found_in_the_strategys_own_copy(project, monkeypatch):
    monkeypatch.syspath_prepend(project)
    import near

    monkeypatch.setitem(__import__("sys").modules, "near", near)

    result = odd(rule=near.twice, level=near.Level(3))

    assert result.spec.params["rule"] == near.twice
    assert repr(result.spec.params["rule"]) == "near.twice"


@pytest.mark.slow
def test_the_page_shows_them_in_words(project):
    page = odd(hold=dt.timedelta(days=3)).report("page").read_text()

    assert "hold = 3d" in page
    assert "pair = (5, 20)" in page
    assert "average = SMA" in page


class Mine(bt.Strategy):
    params = (("average", bt.ind.SMA), ("hold", dt.timedelta(days=5)), ("own", None))

    def next(self):
        assert self.p.average in (bt.ind.SMA, bt.ind.EMA)


def test_a_class_from_python_takes_them_too(project):
    first, second = (
        run(Mine, "AAPL/1day", store="data/bars", params={"average": one}) for one in (bt.ind.SMA, bt.ind.EMA)
    )
    own = run(Mine, "AAPL/1day", store="data/bars", params={"own": Mine})

    assert len({first.name, second.name, own.name}) == 3
    assert first.spec.params["average"] == bt.ind.SMA
    assert own.spec.params["own"] == Mine
