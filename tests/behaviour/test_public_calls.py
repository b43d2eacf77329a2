"""Whatever is passed to a public callable, it ends in a result or in an error of ours that says what to write."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import backtrader as bt
import pyarrow.compute as pc
import pytest
from blank import blank_figures

import backtest
from backtest._clock import utc_now
from backtest.downloads.retry import Persistence
from backtest.errors import BacktestError
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.metrics import measurement
from backtest.report import figures
from backtest.report.comparison_page import write_comparison
from backtest.report.run_page import write_report
from backtest.research import lookahead
from backtest.sources.base import Patience
from backtest.sources.files.export import write_bars
from backtest.store import pins
from backtest.store.store import Store
from backtest.validity import validation
from backtest.validity.regimes import regimes

SINCE, UNTIL = date(2003, 1, 2), date(2003, 3, 31)
TEXT = "AAPL/1day"
AAPL, MSFT = Series.parse(TEXT), Series.parse("MSFT/1day")
SPAN = Span.of_dates(SINCE, UNTIL)


class Holds(bt.Strategy):
    """Buys once, of parameters that do nothing."""

    params = (("fast", 2), ("slow", 3))

    def next(self):
        if not self.position and len(self) > self.p.fast:
            self.buy()


# --- what is called


@dataclass(frozen=True)
class Call:
    """A public callable, and one of its parameters."""

    name: str
    parameter: str


def faces() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each function and class of the face, by its name, and what users import from a room."""
    # A protocol makes nothing, and a Cerebro takes what Backtrader's takes.
    for name in sorted({*backtest.__all__, "RunResult", "RunSpec", "Sweep"} - {"Cerebro"}):
        thing = getattr(backtest, name)
        if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception)):
            yield name, thing
    yield from (("warm_up", lookahead.warm_up), ("regimes", regimes))
    yield from (("write_report", write_report), ("write_comparison", write_comparison))


def kinds() -> dict[str, type]:
    """Return the classes whose objects a user has in hand, by name: those of the face, and what their calls return."""
    found = {name: thing for name, thing in faces() if isinstance(thing, type)}
    every = [thing for _, thing in faces()]
    every += [thing for kind in found.values() for thing in vars(kind).values() if inspect.isfunction(thing)]
    for thing in every:
        returned = getattr(thing, "__annotations__", {}).get("return", "")
        made = getattr(sys.modules[thing.__module__], str(returned), None)
        if isinstance(made, type) and made.__module__.startswith("backtest."):
            found[made.__name__] = made
    return {name: kind for name, kind in found.items() if name not in ("Source", "ArrowFeed")} | {
        "Stats": measurement.Stats
    }


def methods() -> Iterator[tuple[str, str]]:
    """Yield the class and the name of each public method of ours; and of `[]`, which is one too."""
    for name, kind in kinds().items():
        for member in dir(kind):
            raw = inspect.getattr_static(kind, member)
            raw = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
            public = not member.startswith("_") or member == "__getitem__"
            if public and inspect.isfunction(raw) and raw.__module__.startswith("backtest."):
                yield name, member


def calls() -> list[Call]:
    """Return every parameter of every public callable."""
    found = [Call(name, one) for name, thing in faces() for one in parameters(thing)]
    for kind, member in methods():
        found += [Call(f"{kind}.{member}", one) for one in parameters(getattr(kinds()[kind], member)) if one != "self"]
    return list(dict.fromkeys(found))


def parameters(thing: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters of a callable."""
    every = inspect.signature(thing).parameters.values()
    named = [one.name for one in every if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return named + [one.name for one in every if one.kind is one.VAR_POSITIONAL]


# --- what it is called with


@pytest.fixture(scope="module")
def base(tmp_path_factory, sample) -> dict[str, Any]:
    """Return what is made once: a store of a quarter of two series, a folder of files, a run, a sweep."""
    folder = tmp_path_factory.mktemp("base")
    store = Store(folder / "bars")
    for series in (AAPL, MSFT):
        bars = sample.read(series, SPAN)
        volume = pc.add(bars["volume"], 1.0)
        other = bars.set_column(bars.column_names.index("volume"), bars.schema.field("volume"), volume)
        store.write(series, SPAN, other, source="sample")
        store.write(series, SPAN, bars, source="sample", revise=True)
    files = folder / "files"
    files.mkdir()
    write_bars(store.read(AAPL), files / "AAPL_1day.csv", AAPL)
    first = backtest.run(Holds, AAPL, store=store)
    second = backtest.run(Holds, AAPL, store=store, params={"fast": 5})
    sweep = backtest.sweep(Holds, AAPL, {"fast": [2, 4]}, store=store, folder=folder / "sweep")
    first.save(folder / "run")
    pins.add(store, folder / "data.lock", [AAPL, MSFT])
    (folder / "paid.csv").write_text("date,amount,currency,series\n2004-02-02,0.1,USD,AAPL\n")
    comparison = backtest.compare([first, second], samples=10)
    cerebro = bt.Cerebro()
    cerebro.adddata(backtest.replay(store.read(AAPL), AAPL))
    cerebro.addstrategy(Holds)
    windows = {"train": 40, "test": 20, "store": store, "folder": folder / "windows"}
    return {
        "folder": folder,
        "pins": folder / "data.lock",
        "store": store,
        "bars": store.read(AAPL),
        "returns": first.returns,
        "files": files,
        "first": first,
        "second": second,
        "strategy": cerebro.run()[0],
        "sweep": sweep,
        "Sweep": sweep,
        "RunResult": first,
        "Comparison": comparison,
        "SeriesRuns": backtest.run_each(Holds, AAPL, store=store, folder=folder / "each"),
        "Regimes": regimes(first),
        "Manifest": store.manifest(AAPL),
        "NextOrders": backtest.next_orders(Holds, AAPL, store=store),
        "Stats": first.stats,
        "RunSpec": first.spec,
        "Brokerage": first.spec.brokerage,
        "Series": AAPL,
        "Instrument": AAPL.instrument,
        "Span": SPAN,
        "BarSize": AAPL.size,
        "Validity": validation.validate(first, samples=10),
        "WalkForward": backtest.walk_forward(Holds, AAPL, {"fast": [2, 4]}, **windows),
        "CrossValidation": backtest.cross_validate(
            Holds, AAPL, {"fast": [2, 4]}, store=store, folder=folder / "groups", groups=2, tested=1
        ),
        "DownloadReport": backtest.download(folder / "empty", f"csv:{files}", AAPL, SPAN),
    }


def good(base: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return an argument that is right, by the name of the parameter; the same in all callables, but for `special`."""
    return {
        "accept_revision": False,
        "account": "backtrader",
        "accept_split": False,
        "adjusted": False,
        "address": f"csv:{base['files']}",
        "align": "as-is",
        "anchored": False,
        "asked": {},
        "at": datetime(2024, 1, 2, tzinfo=UTC),
        "bars": base["bars"],
        "benchmark": "MSFT/1day",
        "best_run": base["first"],
        "borrow": "0.01",
        "brokerage": backtest.Brokerage(),
        "cash": 1e5,
        "cash_rate": 0.02,
        "dividends": str(base["folder"] / "paid.csv"),
        "interest": "none",
        "withholding": 0.0,
        "clock": utc_now,
        "contract": ContractDetails(1),
        "costs": "ib-fixed",
        "currency": "USD",
        "cuts": 1,
        "default": None,
        "embargo": 0,
        "end": UNTIL,
        "exchange": "SMART",
        "executor": None,
        "expiry": "",
        "extra": (),
        "fills_table": base["first"].fills_table,
        "lines": True,
        "warm_up": "",
        "factors": (1.0,),
        "fills": "next-bar",
        "field": "close",
        "figures": [],
        "file": folder / "run.xlsx",
        "folder": folder / "out",
        "force": False,
        "frame": base["bars"],
        "found": base["Comparison"],
        "grid": {"fast": [2, 4]},
        "groups": 2,
        "instrument": AAPL.instrument,
        "jobs": 1,
        "keep": 1,
        "key": "primary",
        "kept_as": "",
        "kind": "STK",
        "label": "1 day",
        "leave_out": "",
        "legacy": "1 Y",
        "looks_ahead": (),
        "manifest": {},
        "most": 3,
        "measured_by": "252 sessions",
        "moment": datetime(2024, 1, 2, tzinfo=UTC),
        "margin": "",
        "metrics": [],
        "multiplier": 0.0,
        "multipliers": (),
        "name": "sharpe",
        "names": "fast",
        "nan": "refuse",
        "now": datetime(2024, 1, 2, tzinfo=UTC),
        "number": 1,
        "optuna": 0,
        "engine": "event",
        "other": SPAN,
        "orders_table": base["first"].orders_table,
        "others": [SPAN],
        "overwrite": True,
        "own": {},
        "pins": base["pins"],
        "params": {"slow": 4},
        "patience": Patience(),
        "periods": 252.0,
        "persistence": Persistence(),
        "place": base["folder"] / "bars",
        "prices": "TRADES",
        "provenance": {},
        "purge": 0,
        "qualifiers": {"primary": "NASDAQ"},
        "quoted_in": "",
        "conversion": "at-once",
        "random": 0,
        "rebalance": "monthly",
        "rank": "sharpe",
        "ratios": base["sweep"].ratios,
        "record": base["first"].record,
        "reason": "not believed",
        "recheck": False,
        "regular_hours": True,
        "result": base["first"],
        "results": [base["first"], base["second"]],
        "resume": False,
        "returns": base["returns"],
        "revise": False,
        "revision": 1,
        "right": "",
        "risk_free": 0.01,
        "period": "session",
        "practical": "68 Y",
        "rates": "",
        "root": base["folder"] / "bars",
        "request": "",
        "rough": 20,
        "runs": [base["first"], base["second"]],
        "samples": 10,
        "seconds": 86_400,
        "seed": 1,
        "series": TEXT,
        "sessions_a_year": 252.0,
        "since": SINCE,
        "size": AAPL.size,
        "skipped": 0.25,
        "slippage": "5bp",
        "source": f"csv:{base['files']}",
        "span": (SINCE, UNTIL),
        "spec": base["first"].spec,
        "splits": [("2005-02-28", 2)],
        "universe": "",
        "missing_members": "refuse",
        "fill_bars": "",
        "staged": base["store"],
        "start": SINCE,
        "state": folder / "state",
        "store": base["store"],
        "strategy": Holds,
        "strike": "",
        "symbol": "AAPL",
        "tell": lambda _: None,
        "test": 20,
        "tested": 1,
        "text": TEXT,
        "trades_table": base["first"].trades_table,
        "extremes_table": base["first"].extremes_table,
        "cost_table": base["first"].cost_table,
        "time_scale": 1.0,
        "train": 40,  # of a quarter, so that there is one window
        "trend": 20,
        "tz": "UTC",
        "trial": base["sweep"].trials[0],
        "trials": (),
        "until": UNTIL,
        "url": (folder / "published").as_uri(),
        "validity": base["Validity"],
        "volume_cap": 0.1,
        "weights": "equal",
        "where": "fast<slow",
        "why": "",
        "workers": 1,
    }


ON_A_STORE = ("run", "run_each", "sweep", "walk_forward", "cross_validate", "look_ahead", "warm_up", "next_orders")


def special(name: str, base: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments that are right for one callable and wrong for others."""
    known = {
        "ingest": {"symbol": "", "store": folder / "ingested", "columns": (), "day_first": None, "stamped": ""},
        "BarSize.parse": {"text": "1day"},
        "Instrument.parse": {"text": "AAPL"},
        "Regimes.__getitem__": {"name": "bull"},
        "RunResult.load": {"folder": base["folder"] / "run"},
        "RunResult": {"lines": base["first"].lines, "bars_from": base["store"]},
        "RunResult.of": {"record": base["first"]},
        "Sweep.load": {"folder": base["sweep"].folder},
        "WalkForward.load": {"folder": base["WalkForward"].folder},
        "Span": {"start": SPAN.start, "end": SPAN.end},
        "members": {"strategy": base["strategy"]},
        "measure_returns": {"benchmark": base["returns"]},
        "Series": {"instrument": AAPL.instrument},
        "sweep": {"where": "fast<9"},
        "walk_forward": {"where": "fast<9"},
        "cross_validate": {"where": "fast<9"},
        "Store.write": {"source": "sample", "text": ""},
        "Store.quarantine": {"bars": base["bars"]},
    }
    sized = {} if "." in name or name in ("Series", "BarSize") else {"size": "percent:50"}
    zoned = {"tz": ""} if name in ON_A_STORE else {}  # a zone is of frames
    return known.get(name, {}) | sized | zoned


def wrong_values(right: Any) -> dict[str, Any]:
    """Return arguments that are wrong where `right` is right, in seven ways; a call may take one all the same."""
    far = date.max if isinstance(right, date) else "9" * 300 if isinstance(right, str) else -1
    misspelt = right[:-2] + right[-1] + right[-2] if isinstance(right, str) and len(right) > 1 else "xyzzy"
    empty = type(right)() if isinstance(right, list | tuple | dict) else ""
    return {
        "wrong type": object(),
        "None": None,
        "empty": empty,
        "out of range": far,
        "misspelt": misspelt,
        "list": [object()],
    }


def target(name: str, base: dict[str, Any], folder: Path) -> Callable[..., Any]:
    """Return what a name stands for; methods on objects of their own, so that a call that writes harms no other."""
    kind, _, member = name.partition(".")
    if not member:
        return dict(faces())[name]
    if kind == "Store":
        shutil.copytree(base["store"].root, folder / "bars")
        return getattr(Store(folder / "bars"), member)
    return getattr(base[kind], member)


# --- the laws


@pytest.mark.slow
def test_every_parameter_of_the_face_has_an_argument_that_is_right(base, tmp_path):
    known = good(base, tmp_path)

    assert [
        call
        for call in calls()
        if call.parameter not in known and call.parameter not in special(call.name, base, tmp_path)
    ] == []


def test_no_public_callable_hides_its_options():
    every = {name: inspect.signature(thing).parameters.values() for name, thing in faces()}

    assert {name for name, found in every.items() for one in found if one.kind is one.VAR_KEYWORD} == {
        "replay"  # takes what any feed of Backtrader's does
    }


def test_the_face_is_gone_through():
    names = {call.name for call in calls()}

    assert {
        "run",
        "sweep",
        "download",
        "connect",
        "publish",
        "compare",
        "measure",
        "Store.read",
        "Span.of_dates",
    } < names
    assert {"RunResult.save", "Sweep.plot", "Stats.text", "Stats.__getitem__", "Regimes.__getitem__"} < names


@pytest.mark.slow
@pytest.mark.parametrize("name", list(dict.fromkeys(call.name for call in calls())))
def test_right_arguments_give_a_result(name, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.endswith(".report"):  # which draw what `write_report` draws
        monkeypatch.setattr(figures, "FIGURES", blank_figures())

    call_with(name, base, tmp_path, {})


def with_marks(call):
    """Return a call; those that look ahead spawn a process each, for arguments that `run` reads by the same code."""
    mark = pytest.mark.soak if call.name == "look_ahead" and call.parameter not in ("strategy", "cuts") else ()
    return pytest.param(call, marks=mark, id=f"{call.name}-{call.parameter}")


@pytest.mark.slow
@pytest.mark.parametrize("call", [with_marks(call) for call in calls()])
def test_a_wrong_argument_ends_in_a_result_or_in_an_error_of_ours(call, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "FIGURES", blank_figures())  # one takes the arguments as all do
    right = (good(base, tmp_path) | special(call.name, base, tmp_path))[call.parameter]

    for number, (how, wrong) in enumerate(wrong_values(right).items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            call_with(call.name, base, folder, {call.parameter: wrong})
        except BacktestError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(f"{call.name}({call.parameter}={wrong!r}), {how}: {type(error).__name__}") from error
        else:
            continue
        assert len(said) > 20, how


def call_with(name: str, base: dict[str, Any], folder: Path, given: dict[str, Any]) -> Any:
    """Call with right arguments, but for what is given."""
    thing = target(name, base, folder)
    known = good(base, folder) | special(name, base, folder) | given
    signature = inspect.signature(thing)
    asked = {one: known[one] for one in parameters(thing)}
    asked = {one: value for one, value in asked.items() if one in given or not clashes(one, asked, given, signature)}
    rest = [one.name for one in signature.parameters.values() if one.kind is one.VAR_POSITIONAL]
    positional = [one.name for one in signature.parameters.values() if one.kind is one.POSITIONAL_ONLY]
    args = [asked.pop(one) for one in [*positional, *rest]]
    made = thing(*args, **asked)
    if hasattr(made, "__exit__") and hasattr(made, "close"):
        made.close()
    return made


def clashes(name: str, asked: dict[str, Any], given: dict[str, Any], signature: inspect.Signature) -> bool:
    """Return whether a parameter is left out since another way to say the same is taken."""
    dates = {"start", "end"} & {*given}
    if name in ("start", "end"):
        return "span" in asked and "span" in signature.parameters and not dates
    return name == "span" and bool(dates) and signature.parameters["span"].default is None
