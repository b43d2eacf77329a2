"""`Brokerage`: what a run is asked of its broker and its market, in one object or by name; and keys that it keeps."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, fields, replace
from datetime import date

import backtrader as bt
import pytest

from backtest import Brokerage, RunResult, Series, Span, Store, run, sweep
from backtest.baselines.causes import repeat
from backtest.baselines.changes import Scene
from backtest.cli.options import takes_brokerage
from backtest.errors import UsageError
from backtest.research.lookahead import look_ahead_of
from backtest.research.out_of_sample.walk_forward import request_of
from backtest.research.search.job import Point, job_of
from backtest.runs.spec import BrokerageOptions, RunSpec, spec_of

WORDS = {  # of each field: what may be written, and the plain value of it
    "costs": (0.001, "bp:10"),
    "slippage": (0.25, "0.25"),
    "volume_cap": ("0.5", 0.5),
    "fills": ("next-bar", "next-bar"),
    "borrow": (0.01, "0.01"),
    "cash_rate": ("0.02", 0.02),
    "align": ("intersection", "intersection"),
    "size": (7, "shares:7"),
    "dividends": ("derived", "derived"),
    "interest": ("ib", "ib"),
    "withholding": ("0.15", 0.15),
    "currency": ("usd", "USD"),
    "conversion": ("ib-forex", "ib-forex"),
    "quoted_in": ("AAPL/1day=usd", "AAPL/1day=USD"),
    "margin": ("", ""),  # of futures, which there are none of
    "splits": ([("2005-02-28", 2)], "2005-02-28=2"),
    "account": ("reg-t", "reg-t"),
    "universe": ("", ""),  # in a spec it is but the text of one: tests/engine/markets has its laws
    "missing_members": ("allow", "allow"),
    "fill_bars": ("", ""),  # which the store would have to have: tests/engine/markets
}
# Not all go together: interest by IB's tiers and by a rate of one's own are two ways to earn.
TOGETHER = {name: words for name, words in WORDS.items() if name != "interest"}
WRITTEN = {name: word for name, (word, _) in TOGETHER.items()}
PLAIN = Brokerage(**{name: value for name, (_, value) in TOGETHER.items()})


class Turns(bt.Strategy):
    """Buys and closes in turns."""

    params = (("every", 5),)

    def next(self):
        if len(self) % self.p.every == 0:
            self.close() if self.position else self.buy()


class PerOrder(bt.CommInfoBase):
    """Charges a fee an order."""

    params = (("fee", 3.0), ("stocklike", True))

    def _getcommission(self, size, price, pseudoexec):
        return self.p.fee if size else 0.0


@dataclass(frozen=True, slots=True)
class Wider(Brokerage):
    """A brokerage of a later version, with a new field."""

    patience: int = 0


@pytest.fixture(scope="module")
def store(tmp_path_factory, sample):
    made, half = Store(tmp_path_factory.mktemp("bars")), Span.of_dates(date(2003, 1, 2), date(2003, 6, 30))
    for name in ("AAPL/1day", "AAPL/1day/ADJUSTED_LAST"):
        made.write(Series.parse(name), half, sample.read(name, half))
    return made


@pytest.fixture
def turns(store):
    return lambda **asked: run(Turns, "AAPL/1day", store=store, **asked)


def key(store, **asked):
    """Return the key of a trial."""
    return job_of(Turns, "AAPL/1day", store=store, swept=["every"], **asked).key(Point({"every": 5}))


# --- one way to say it, or the other


def test_every_field_has_a_typed_argument_and_an_option_of_the_command_line():
    names = [one.name for one in fields(Brokerage)]

    shown = inspect.signature(takes_brokerage(lambda **options: None)).parameters.values()
    assert [one.name for one in shown] == names
    assert all(one.annotation.__metadata__[0].help.endswith(".") for one in shown)
    assert sorted(BrokerageOptions.__annotations__) == sorted(WORDS) == sorted(names)


def test_the_help_of_a_run_tells_of_every_field_of_a_brokerage_in_its_words():
    of_run, of_brokerage = (
        re.findall(r"^    (\w+): (.+)", inspect.getdoc(one).partition("Raises:")[0], re.MULTILINE)
        for one in (run, Brokerage)
    )

    assert [name for name, _ in of_brokerage] == [one.name for one in fields(Brokerage)]
    assert of_run[-len(of_brokerage) :] == of_brokerage
    assert of_run[-len(of_brokerage) - 1][0] == "brokerage"


def test_options_by_name_and_in_an_object_are_the_same_run(turns):
    by_name, in_one = turns(**WRITTEN), turns(brokerage=Brokerage(**WRITTEN))

    assert by_name.spec == in_one.spec
    assert by_name.spec.brokerage == PLAIN
    assert by_name.record.equals(in_one.record)
    assert by_name.name == in_one.name


def test_an_object_may_be_completed_by_name(turns):
    result = turns(brokerage=Brokerage(slippage="5bp"), cash_rate=0.02, costs="none")

    assert result.spec.brokerage == Brokerage("none", "5bp", cash_rate=0.02)


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"fills", "margin", "universe", "fill_bars"}))
def test_an_option_that_is_said_twice_is_refused(turns, name):
    with pytest.raises(UsageError, match=rf"{name} .*given twice, by brokerage= and by its own name; leave out one"):
        turns(brokerage=PLAIN, **{name: WRITTEN[name]})


@pytest.mark.parametrize("asked", [run, job_of])
def test_a_misspelt_option_is_answered_with_the_right_one(store, asked):
    with pytest.raises(UsageError, match=r"has no option slipage; choose from costs, .*did you mean slippage\?"):
        asked(Turns, "AAPL/1day", store=store, slipage="5bp")


@pytest.mark.parametrize("wrong", ["careful", {"slippage": "5bp"}, Brokerage, 5])
def test_what_is_no_brokerage_is_refused(turns, wrong):
    with pytest.raises(UsageError, match=r'brokerage is .*; write Brokerage\(slippage="5bp"\)'):
        turns(brokerage=wrong)


def test_costs_in_an_object_may_be_a_commission_and_the_spec_has_its_name(turns, store, tmp_path):
    asked = Brokerage(costs=PerOrder(fee=4.0))
    result = turns(brokerage=asked)
    found = sweep(Turns, "AAPL/1day", {"every": [5]}, store=store, folder=tmp_path, brokerage=asked)

    assert result.spec.brokerage.costs.startswith('PerOrder{"fee": 4.0')
    assert set(result.fills["costs"]) == {4.0}
    assert found.best_run.record.equals(result.record)


# --- handed on


def test_a_sweep_makes_its_trials_with_what_it_is_asked(store, tmp_path, turns):
    found = sweep(Turns, "AAPL/1day", {"every": [5]}, store=store, folder=tmp_path, **WRITTEN)

    assert found.best_run.spec.brokerage == PLAIN
    assert found.best_run.record.equals(turns(**WRITTEN).record)


def test_a_kept_run_is_repeated_and_judged_as_it_was_asked(turns, store):
    result = turns(**WRITTEN)

    assert repeat(Scene(result.spec, store, Turns)).spec == result.spec
    assert request_of(result, {}, None)["brokerage"] == PLAIN


@pytest.mark.slow
def test_a_kept_run_is_looked_at_for_the_future_with_its_own_fills(store, tmp_path):
    (tmp_path / "buys.py").write_text(
        "import backtrader as bt\n\n\nclass Buys(bt.Strategy):\n    def next(self):\n"
        "        if len(self) == 5:\n            self.buy()\n"
    )
    result = run(tmp_path / "buys.py", "AAPL/1day", store=store, fills="this-close")
    asked = replace(result.spec, strategy=str(tmp_path / "buys.py"))
    honest = replace(asked, brokerage=replace(asked.brokerage, fills="next-bar"))

    assert [leak.change for leak in look_ahead_of(asked, store, cuts=0)] == ["filled in its own bar"]
    assert look_ahead_of(honest, store, cuts=0) == []


@pytest.mark.parametrize(
    "asked", [replace(PLAIN, size="shares:3"), Brokerage(fills="this-close")], ids=["most", "fills"]
)
@pytest.mark.parametrize("command", ["run", pytest.param("sweep", marks=pytest.mark.slow)])
def test_a_command_hands_on_every_option(call, store, tmp_path, command, asked):
    (tmp_path / "turns.py").write_text(
        "import backtrader as bt\n\n\nclass Turns(bt.Strategy):\n    params = (('every', 5),)\n\n    def next(self):\n"
        "        if len(self) % self.p.every == 0:\n            self.close() if self.position else self.buy()\n"
    )
    words = [word for name, value in asked.flat.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    grid = ["--grid", "every=5"] if command == "sweep" else []
    out = tmp_path / "out"

    code, _, err = call(
        command, str(tmp_path / "turns.py"), "AAPL/1day", *grid, *words, "--store", str(store.root), "--out", str(out)
    )

    assert code == 0, err
    assert RunResult.load(out / "best" if grid else out).spec.brokerage == asked


# --- what is kept, and keys


FLAT = json.loads(
    '{"strategy": "a.py:A", "series": ["AAPL/1day"], "since": "", "until": "2004-06-30", "params": {"fast": 5},'
    ' "cash": 5000.0, "costs": "bp:1", "benchmark": "", "risk_free": 0.0, "sessions_a_year": 252.0, "align": "strict",'
    ' "size": "", "slippage": "5bp", "volume_cap": 0.0, "fills": "next-bar", "borrow": "", "cash_rate": 0.0}'
)


def test_a_spec_is_kept_flat_as_by_the_first_version():
    spec = spec_of(FLAT)

    assert spec == RunSpec(
        "a.py:A", ("AAPL/1day",), "", "2004-06-30", {"fast": 5}, 5000.0,
        brokerage=Brokerage("bp:1", "5bp", align="strict"),
    )  # fmt: skip
    assert json.loads(json.dumps(spec.flat)) == FLAT


def test_a_later_field_that_is_not_used_changes_neither_key_nor_name_nor_file(turns, tmp_path):
    now, later = turns(), turns(brokerage=Wider())

    assert isinstance(later.spec.brokerage, Wider)
    assert (later.spec.key, later.name) == (now.spec.key, now.name)
    files = [result.save(tmp_path / name) / "spec.json" for name, result in (("now", now), ("later", later))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_later_field_that_is_not_used_changes_no_key_of_a_trial(store):
    assert key(store, brokerage=Wider()) == key(store)
    assert key(store, brokerage=Wider(slippage="5bp")) == key(store, slippage="5bp")


def test_a_later_field_that_is_used_makes_another_run_and_another_trial(turns, store):
    assert turns(brokerage=Wider(patience=1)).spec.key != turns().spec.key
    assert key(store, brokerage=Wider(patience=1)) != key(store)


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"fills", "margin", "universe", "fill_bars"}))
def test_a_trial_counts_whichever_way_it_was_asked_for(store, name):
    word, plain = WORDS[name]
    beside = {"dividends": "derived"} if name == "withholding" else {}  # there is no tax without dividends

    written, plainly = key(store, **beside, **{name: word}), key(store, brokerage=Brokerage(**beside, **{name: plain}))

    assert written == plainly != key(store, **beside)
