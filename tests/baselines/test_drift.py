"""Each thing that can move a result, changed alone: it is seen, dated, and named as the cause."""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import backtrader as bt
import pyarrow as pa
import pytest
from market import span_of_sessions
from moved import (
    AAPL,
    CROSS,
    ENOUGH,
    MODULE,
    YEARS,
    baseline,
    commit,
    make_repository,
    other_bars,
    revise,
    scene_of,
    two_years,
    unload,
)
from rights import HAVE_RIGHTS, unreadable
from sent import of_path

from backtest.api import run
from backtest.baselines.baseline import Baseline, _digits, drift_between, load_baseline, month_digests, save_baseline
from backtest.baselines.causes import CAUSE, LIKELY, NO_PART, TOGETHER, UNKNOWN, repeat
from backtest.baselines.changes import Scene
from backtest.baselines.drift import FAILED, MOVED, SAME, accept_kept, check, check_kept, files, markdown, reproduce
from backtest.engine.account.commissions import COSTS
from backtest.errors import BadStore, DataError, UsageError
from backtest.market.span import Span
from backtest.store.publishing import publish
from backtest.store.store import Store, open_store

# Invested where the close is above a round number that bars do reach.
LEVEL = """
import backtrader as bt

class Level(bt.Strategy):
    def next(self):
        wanted = 100 if self.data.close[0] > {level} else 0
        if self.position.size != wanted:
            self.order_target_size(target=wanted)
"""

LEVERED = """
import backtrader as bt

class Levered(bt.Strategy):
    def next(self):
        if len(self) == 1:
            self.buy(size=int(1.5 * self.broker.getvalue() / self.data.close[0]))
"""


@pytest.fixture
def store(tmp_path, sample):
    """Return a store with two years of the sample."""
    return two_years(tmp_path / "bars", sample)


@pytest.fixture
def repository(tmp_path):
    """Return a repository in git with a strategy, and a module that it imports."""
    folder = make_repository(tmp_path / "repository")
    yield folder
    unload(folder)


@pytest.fixture
def scene(repository, store):
    """Return what a run of the strategy needs."""
    return scene_of(repository, store)


def first_equity(one, other):
    """Return the first session whose equity differs, straight from the records of two runs."""
    pairs = zip(*(result.record["equity"].to_pylist() for result in (one, other)), strict=True)
    row = next(n for n, (was, now) in enumerate(pairs) if was != now)
    return one.record["session"][row].as_py().isoformat()


def causes(judgement):
    return {one.what: one.verdict for one in judgement.causes}


def told(judgement, what):
    return "\n".join(next(one.told for one in judgement.causes if one.what == what))


@pytest.mark.slow
def test_a_close_moved_by_one_tick_is_the_cause_and_named_with_its_bar(scene):
    old, before = baseline(scene), repeat(scene)
    held = [
        day
        for day, size in zip(before.record["session"].to_pylist(), before.positions["AAPL/1day"], strict=True)
        if size
    ]
    day = held[40].isoformat()
    revise(scene.store, changed=day)

    judgement = check(old, "cross", scene)

    assert (judgement.status, judgement.difference.first) == (MOVED, day)
    assert causes(judgement) == {"data": CAUSE}
    assert day in told(judgement, "data")
    assert "close" in told(judgement, "data")
    assert first_equity(before, repeat(scene)) == day


@pytest.mark.slow
def test_a_bar_that_is_gone_is_the_cause_and_named(scene):
    old = baseline(scene)
    day = "2003-06-17"
    revise(scene.store, gone=day)

    judgement = check(old, "cross", scene)

    assert (judgement.status, judgement.difference.first) == (MOVED, day)
    assert causes(judgement) == {"data": CAUSE}
    assert told(judgement, "data") == f"AAPL/1day {day} was removed"
    assert judgement.difference.equity.new == ""


def test_other_bars_that_no_revision_kept_are_named_by_month_and_as_all_that_is_left(scene, tmp_path):
    old = replace(baseline(scene), months=month_digests(scene.spec, scene.store))
    other = Store(tmp_path / "other")
    other.write(AAPL, YEARS, other_bars(scene.store, gone="2003-06-17"))

    judgement = check(old, "cross", replace(scene, store=other))

    assert causes(judgement) == {"data": LIKELY}
    assert told(judgement, "data").startswith("AAPL/1day has bars other than those of the baseline in 2003-06; ")


@pytest.mark.slow
def test_other_bars_at_a_url_are_named_with_the_url(scene, tmp_path):
    old = replace(baseline(scene), months=month_digests(scene.spec, scene.store))
    other = Store(tmp_path / "other")
    other.write(AAPL, YEARS, other_bars(scene.store, gone="2003-06-17"))
    url = (tmp_path / "published").as_uri()
    publish(other, url)

    judgement = check(old, "cross", replace(scene, store=open_store(url)))

    assert told(judgement, "data").endswith("/published has the old ones")


def test_bars_that_were_appended_since_are_the_cause_and_the_first_is_named(scene, sample):
    old = baseline(scene)
    after = span_of_sessions(AAPL, date(2005, 1, 3), date(2005, 1, 31))
    scene.store.write(AAPL, after, sample.read(AAPL, after))

    judgement = check(old, "cross", scene)

    assert causes(judgement) == {"data": CAUSE}
    assert judgement.difference.first == "2005-01-03"
    assert told(judgement, "data").startswith("AAPL/1day 2005-01-03 was added\n")


@pytest.mark.slow
def test_other_dates_that_are_asked_for_are_no_other_bars(scene):
    shorter = replace(scene, spec=replace(scene.spec, until="2004-06-30"))

    judgement = check(baseline(shorter), "cross", scene)

    assert causes(judgement) == {"parameters": CAUSE}
    assert told(judgement, "parameters") == "until: 2004-06-30 -> "
    assert judgement.difference.first == "2004-07-01"


def test_another_parameter_is_the_cause(scene):
    old = baseline(scene)
    now = replace(scene, spec=replace(scene.spec, params={"fast": 6, "slow": 20}))

    judgement = check(old, "cross", now)

    assert judgement.status == MOVED
    assert causes(judgement) == {"parameters": CAUSE}
    assert told(judgement, "parameters") == "fast: 5 -> 6"
    assert judgement.difference.equity.date == first_equity(repeat(scene), repeat(now))


@pytest.mark.slow
def test_greater_turned_into_greater_or_equal_is_the_cause_and_shown(tmp_path, repository, store):
    close = store.read(AAPL)["close"][30].as_py()
    path = repository / "level.py"
    path.write_text(LEVEL.format(level=close))
    commit(repository)
    scene = Scene(run(path, "AAPL/1day", store=store).spec, store, path)
    old, before = baseline(scene), repeat(scene)
    path.write_text(path.read_text().replace(f"> {close}", f">= {close}"))

    judgement = check(old, "level", scene)

    assert judgement.status == MOVED
    assert causes(judgement) == {"code": CAUSE}
    assert f"+        wanted = 100 if self.data.close[0] >= {close} else 0" in told(judgement, "code")
    reached = [row["time"].date().isoformat() for row in store.read(AAPL).to_pylist() if row["close"] == close]
    assert judgement.difference.order.date == reached[0]
    assert judgement.difference.equity.date == first_equity(before, repeat(scene))


@pytest.mark.slow
def test_a_changed_module_is_the_cause_and_the_modules_of_now_are_loaded_again(scene, repository):
    old = baseline(scene)
    (repository / f"{MODULE}.py").write_text(ENOUGH.replace("True", "len(strategy) > 100"))

    judgement = check(old, "cross", scene)

    assert causes(judgement) == {"code": CAUSE}
    assert "-    return True" in told(judgement, "code")
    assert check(Baseline.of(repeat(scene)), "cross", scene).status == SAME


def test_old_code_that_git_lacks_is_the_only_difference_left(scene, repository):
    old = baseline(scene)
    (repository / ".git").rename(repository / "gone")
    (repository / "cross.py").write_text(CROSS.replace("size=100", "size=99"))

    judgement = check(old, "cross", scene)

    assert causes(judgement) == {"code": LIKELY}
    assert "git has no old source of the strategy's file" in told(judgement, "code")


class Buys(bt.Strategy):
    def next(self):
        if len(self) == 5:
            self.buy(size=10)


def test_of_a_class_the_code_is_compared_and_a_file_is_asked_for_to_put_it_back(store):
    result = run(Buys, "AAPL/1day", store=store)
    kept = Baseline.of(result)
    source = {"strategy": {**kept.inputs["strategy"], "sha256": "0" * 64}}
    old = replace(kept, inputs={**kept.inputs, **source}, order_count=2)

    judgement = check(old, "buys", Scene(result.spec, store, Buys))

    assert causes(judgement) == {"code": LIKELY}
    assert "a strategy in a file can be reverted" in told(judgement, "code")


@pytest.mark.slow
def test_a_changed_table_of_commissions_is_the_cause_with_its_rates(scene, monkeypatch):
    old, before = baseline(scene), repeat(scene)
    made = COSTS["ib-fixed"].make
    monkeypatch.setitem(COSTS, "ib-fixed", replace(COSTS["ib-fixed"], make=lambda: made(minimum=2.0)))

    judgement = check(old, "cross", scene)

    assert judgement.status == MOVED
    assert causes(judgement) == {"costs": CAUSE}
    assert told(judgement, "costs") == "minimum: 1 -> 2"
    assert judgement.difference.first == first_fill_date(before)
    assert COSTS["ib-fixed"].make().p.minimum == 2.0


def test_a_reworded_definition_of_costs_is_not_a_change(scene, monkeypatch):
    old = baseline(scene)
    monkeypatch.setitem(COSTS, "ib-fixed", replace(COSTS["ib-fixed"], definition="the same in other words"))

    judgement = check(old, "cross", scene)

    assert (judgement.status, judgement.noted) == (SAME, ())


@pytest.mark.slow
def test_the_public_table_of_costs_stays_as_it_is_while_causes_are_sought(scene, monkeypatch):
    old, made = baseline(scene), COSTS["ib-fixed"].make
    monkeypatch.setitem(COSTS, "ib-fixed", replace(COSTS["ib-fixed"], make=lambda: made(minimum=2.0)))
    seen, row = Seen(COSTS), COSTS["ib-fixed"]

    with seen:
        check(old, "cross", scene)

    assert seen.rows == {id(row)}


class Seen:
    """Which rows stand in the table of costs while it is in use: looked at by each call of Python's."""

    def __init__(self, table):
        self.table, self.rows = table, set()

    def __enter__(self):
        sys.setprofile(lambda *_: self.rows.add(id(self.table["ib-fixed"])))

    def __exit__(self, *_):
        sys.setprofile(None)


def first_fill_date(result):
    return result.fills_table["time"][0].as_py().date().isoformat()


def test_another_pandas_is_named_as_the_only_difference_left(scene):
    old = of_another_pandas(baseline(scene), "2003-05-07")

    judgement = check(old, "cross", scene)

    assert (judgement.status, judgement.difference.first) == (MOVED, "2003-05-07")
    assert causes(judgement) == {"versions": LIKELY}
    assert told(judgement, "versions").startswith("pandas 1.5.3 -> ")


def of_another_pandas(one, day):
    """Return a baseline as if it had been made by an old pandas, on which equity was another from a day on."""
    packages = {**one.inputs["packages"], "pandas": "1.5.3"}
    sessions = {when: f"{float(value) + 1:.9g}" if when >= day else value for when, value in one.sessions.items()}
    return replace(one, inputs={**one.inputs, "packages": packages}, sessions=sessions)


@pytest.mark.slow
def test_of_several_changes_each_gets_its_own_verdict(scene):
    old = baseline(scene)
    older = replace(old, inputs={**old.inputs, "packages": {**old.inputs["packages"], "pandas": "1.5.3"}})
    day = "2003-06-17"
    revise(scene.store, busier=day)
    now = replace(scene, spec=replace(scene.spec, params={"fast": 5, "slow": 21}))

    judgement = check(older, "cross", now)

    assert causes(judgement) == {"parameters": CAUSE, "data": NO_PART, "versions": NO_PART}


@pytest.mark.slow
def test_two_causes_that_only_together_explain_it_are_both_named(scene, repository):
    old = baseline(scene)
    (repository / "cross.py").write_text(CROSS.replace("size=100", "size=99"))
    now = replace(scene, spec=replace(scene.spec, cash=50_000.0))

    judgement = check(old, "cross", now)

    assert causes(judgement) == {"parameters": TOGETHER, "code": TOGETHER}


@pytest.mark.slow
def test_a_parameter_that_the_old_code_did_not_have_goes_back_with_the_code(scene, repository):
    old = baseline(scene)
    (repository / "cross.py").write_text(
        CROSS.replace("slow=20", "slow=20, size=99").replace("size=100", "size=self.p.size")
    )
    judgement = check(old, "cross", scene)

    assert judgement.new.spec.params["size"] == 99
    assert causes(judgement) == {"code": CAUSE, "parameters": NO_PART}


def test_models_that_a_strategy_notes_are_compared_and_are_no_cause_where_the_code_is(tmp_path, repository, store):
    path = repository / "learns.py"
    path.write_text(LEVEL.format(level=1) + "\n    def stop(self):\n        self.notes = {'models': ['a' * 64]}\n")
    commit(repository)
    scene = Scene(run(path, "AAPL/1day", store=store).spec, store, path)
    old = baseline(scene)
    path.write_text(path.read_text().replace("'a'", "'b'").replace("100 if", "99 if"))

    judgement = check(old, "learns", scene)

    assert old.inputs["notes"] != judgement.new.inputs["notes"]
    assert len(old.inputs["notes"]) == 16
    assert causes(judgement) == {"code": CAUSE, "notes": NO_PART}


@pytest.mark.slow
def test_what_cannot_be_told_apart_is_said_to_be_so(scene, repository):
    old = of_another_pandas(baseline(scene), "2003-05-07")
    (repository / ".git").rename(repository / "gone")
    (repository / "cross.py").write_text(CROSS.replace("size=100", "size=99"))

    judgement = check(old, "cross", scene)

    assert causes(judgement) == {"code": UNKNOWN, "versions": UNKNOWN}


def test_a_strategy_that_draws_is_told_from_one_that_changed(tmp_path, store):
    path = tmp_path / "draws.py"
    path.write_text(
        CROSS.replace(f"from {MODULE} import enough", "import random").replace("enough(self)", "random.random() > 0.5")
    )
    scene = Scene(run(path, "AAPL/1day", store=store).spec, store, path)

    judgement = check(baseline(scene), "draws", scene)

    assert judgement.status == MOVED
    assert causes(judgement) == {"chance": CAUSE}


def test_a_change_that_moves_nothing_is_noted_and_no_failure(scene):
    old = baseline(scene)
    day = "2003-06-17"
    revise(scene.store, busier=day)

    judgement = check(old, "cross", scene)

    assert judgement.status == SAME
    assert f"note         data changed, and the result did not: AAPL/1day {day} volume" in str(judgement)


def test_a_run_that_breaks_now_has_failed_and_says_why(scene, repository):
    old = baseline(scene)
    (repository / "cross.py").write_text(CROSS.replace("size=100", "size=1 / 0"))

    judgement = check(old, "cross", scene)

    assert judgement.status == FAILED
    assert "ZeroDivisionError" in str(judgement)


@pytest.mark.slow
@pytest.mark.parametrize("repetitions", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_undisturbed_repetitions_raise_no_alarm(scene, tmp_path, repetitions):
    save_baseline(baseline(scene), tmp_path / "cross.json")
    old = load_baseline(tmp_path / "cross.json")

    moved = [drift_between(old, Baseline.of(repeat(scene))).any for _ in range(repetitions)]

    assert moved == [False] * repetitions


@pytest.mark.slow
def test_two_processes_and_any_order_give_the_same(scene):
    asked = [(str(scene.strategy), series, str(scene.store.root)) for series in ("AAPL/1day", "IBM/1day")]
    here = [of_path(*one) for one in asked]

    with ProcessPoolExecutor(2) as pool:
        there = list(pool.map(of_path, *zip(*asked, strict=True)))

    assert there == here
    assert [of_path(*one) for one in reversed(asked)] == here[::-1]


def test_the_chain_is_that_of_every_bar_and_changes_from_the_year_on_that_differs(scene):
    one = repeat(scene)
    other = with_equity(one, -1, 0.01)

    years = [Baseline.of(result).years for result in (one, other)]

    assert years[0]["2003"] == years[1]["2003"]
    assert years[0]["2004"] != years[1]["2004"]


def with_equity(result, row, money):
    """Return a run whose equity after a bar is another."""
    equity = result.record["equity"].to_pylist()
    equity[row] += money
    column = result.record.schema.get_field_index("equity")
    return replace(result, record=result.record.set_column(column, "equity", pa.array(equity)))


@pytest.mark.slow
def test_of_minutes_the_ends_of_sessions_are_kept_and_what_lies_between_is_seen_by_its_hash(intraday):
    result = run("sma_cross", "AAPL/1min", store=intraday)
    old = Baseline.of(result)
    days = result.record["session"].to_pylist()
    between, end = days.index(days[-1]) - 5, days.index(days[-1]) - 1

    inside, outside = (drift_between(old, Baseline.of(with_equity(result, row, 1.0))).equity for row in (between, end))

    assert len(old.sessions) == len(set(days)) == 10
    assert inside.date == "2024"
    assert inside.old.startswith("within sessions, ")
    assert outside.date == days[end].isoformat()
    first = result.orders["created"].iloc[0]
    assert old.orders[0].startswith(f"{first:%Y-%m-%dT%H:%M:%S} ")


def test_the_last_bit_of_a_number_is_no_difference():
    assert _digits(100012.53125) == _digits(100012.53125 * (1 + 2**-52)) == _digits(100012.53125 * (1 - 2**-52))
    assert _digits(100012.531) != _digits(100012.532)


@pytest.mark.parametrize(("tolerance", "moved"), [(0.01, set()), (0.0001, {"sharpe"})])
def test_a_metric_may_move_within_its_own_tolerance(scene, tolerance, moved):
    new = baseline(scene)
    old = replace(
        new, metrics={**new.metrics, "sharpe": new.metrics["sharpe"] * 1.005}, tolerances={"sharpe": tolerance}
    )

    assert {one.name for one in drift_between(old, new).metrics} == moved


def test_orders_and_equity_may_move_within_theirs(scene):
    new = baseline(scene)
    sessions = {day: f"{float(value) * 1.0005:.9g}" for day, value in new.sessions.items()}
    old = replace(new, sessions=sessions, orders=tuple(line.replace("costs 1", "costs 1.0001") for line in new.orders))

    assert drift_between(old, new).order is not None
    assert not drift_between(replace(old, tolerances={"equity": 0.001, "orders": 0.001}), new).any


def test_a_metric_that_is_new_moves_no_baseline_and_one_that_is_gone_does(scene):
    one = baseline(scene)
    fewer = replace(one, metrics={name: value for name, value in one.metrics.items() if name != "sharpe"})

    assert not drift_between(fewer, one).any
    assert [moved.name for moved in drift_between(one, fewer).metrics] == ["sharpe"]


def test_an_order_given_alike_parts_on_the_date_of_its_fill(scene):
    one = baseline(scene)
    was = "2004-02-27 buy 100 AAPL/1day Market Completed 2004-03-01 100 at 12.045 costs 1"
    filled, smaller = was.replace("03-01 100 at 12.045", "03-02 100 at 12"), was.replace("buy 100", "buy 99")
    refused = "2004-02-27 buy 100 AAPL/1day Market Margin"

    dates = [
        drift_between(replace(one, orders=(was,)), replace(one, orders=(now,) if now else ())).order.date
        for now in (filled, refused, smaller, "")
    ]

    assert dates == ["2004-03-01", "2004-03-01", "2004-02-27", "2004-02-27"]


def test_orders_beyond_those_listed_are_seen_in_their_hash(scene):
    one = baseline(scene)
    old = replace(one, orders=one.orders[:1], order_count=2000, order_chain="a")
    new = replace(one, orders=one.orders[:1], order_count=2000, order_chain="b")

    assert drift_between(old, new).order_number == 1001


def test_a_file_is_small_and_gives_back_what_was_kept(scene, tmp_path):
    one = replace(baseline(scene), months=month_digests(scene.spec, scene.store), tolerances={"sharpe": 0.1})

    save_baseline(one, tmp_path / "one.json")
    save_baseline(load_baseline(tmp_path / "one.json"), tmp_path / "again.json")

    assert load_baseline(tmp_path / "one.json") == one
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert (tmp_path / "one.json").stat().st_size < 25_000
    assert max(map(len, (tmp_path / "one.json").read_text().splitlines())) < 400


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"format": 2}'])
def test_what_is_no_baseline_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "one.json").write_text(text)

    with pytest.raises(DataError, match=r"one\.json"):
        load_baseline(tmp_path / "one.json")


def test_accepting_takes_what_is_now_and_says_what_moved(scene, tmp_path):
    folder = tmp_path / "baselines"
    old = baseline(scene)
    spec = replace(old.spec, strategy=str(scene.strategy))
    save_baseline(
        replace(old, spec=spec, metrics={**old.metrics, "trades": 99.0}, tolerances={"cagr": 0.5}),
        folder / "cross.json",
    )

    (before,) = check_kept([], folder, scene.store)
    (accepted,) = accept_kept(["cross"], folder, scene.store)
    (after,) = check_kept([], folder, scene.store)

    assert [one.status for one in (before, accepted, after)] == [MOVED, "accepted", SAME]
    assert [one.name for one in accepted.difference.metrics] == ["trades"]
    assert load_baseline(folder / "cross.json").tolerances == {"cagr": 0.5}


@pytest.mark.slow
def test_baselines_are_judged_alike_in_several_processes(scene, tmp_path):
    old = baseline(scene)
    kept = replace(old, spec=replace(old.spec, strategy=str(scene.strategy)))
    save_baseline(kept, tmp_path / "same.json")
    save_baseline(replace(kept, metrics={**old.metrics, "trades": 99.0}), tmp_path / "moved.json")

    judged = check_kept([], tmp_path, scene.store, jobs=2)

    assert [(one.name, one.status) for one in judged] == [("moved", MOVED), ("same", SAME)]
    assert [str(one) for one in judged] == [str(one) for one in check_kept([], tmp_path, scene.store)]


def test_an_unknown_baseline_is_refused_with_those_there_are(tmp_path):
    (tmp_path / "cross.json").write_text("{}")

    with pytest.raises(UsageError, match="did you mean cross"):
        files(["cros"], tmp_path)
    with pytest.raises(UsageError, match="backtest baseline save"):
        files([], tmp_path / "none")


def test_what_a_killed_writer_left_is_no_baseline(tmp_path):
    for name in ("cross.json", ".tmp-4194304-1-cross.json"):
        (tmp_path / name).write_text("{}")

    assert files([], tmp_path) == [tmp_path / "cross.json"]


@HAVE_RIGHTS
def test_a_folder_of_baselines_without_rights_is_not_an_empty_one(tmp_path):
    (tmp_path / "cross.json").write_text("{}")

    with unreadable(tmp_path), pytest.raises(BadStore, match=f"{tmp_path.name} cannot be read"):
        files([], tmp_path)


@pytest.mark.slow
def test_the_summary_of_a_pull_request_has_a_table_and_the_cause(scene):
    old = baseline(scene)
    now = replace(scene, spec=replace(scene.spec, params={"fast": 6, "slow": 20}))
    judgements = [check(old, "cross", now), check(old, "calm", scene)]

    text = markdown(judgements)

    assert text.startswith("### Baselines: 1 unchanged, 1 moved\n")
    assert "| metric | was | is | by |" in text
    assert "fast: 5 -> 6" in text
    assert "**calm**" not in text


@pytest.mark.slow
def test_a_kept_run_reproduces_equal_and_with_other_bars_says_which(scene):
    result = repeat(scene)
    equal = reproduce(result, "one", scene.store, str(scene.strategy))
    day = result.trades["exit"].iloc[0].date().isoformat()
    revise(scene.store, gone=day)

    other = reproduce(result, "one", scene.store, str(scene.strategy))

    assert equal.status == SAME
    assert other.status == MOVED
    assert told(other, "data") == f"AAPL/1day {day} was removed"


@pytest.mark.slow
def test_dates_and_spans_are_asked_for_again_as_they_were(scene):
    whole = Span(datetime(2003, 3, 3, tzinfo=UTC), datetime(2003, 9, 2, tzinfo=UTC))
    for span in (whole, (date(2003, 3, 3), None), (None, date(2003, 9, 1)), (date(2003, 3, 3), date(2003, 9, 1))):
        result = run(scene.strategy, "AAPL/1day", store=scene.store, span=span)
        again = repeat(replace(scene, spec=result.spec))
        assert again.record.equals(result.record)


def test_a_changed_account_is_the_cause_and_shown(tmp_path, repository, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, rates = repository / "level.py", Path("rates.csv")
    path.write_text(LEVERED)
    rates.write_text("product,initial_long,maintenance_long\nSTK,0.5,0.25\n")
    old = Baseline.of(run(path, "AAPL/1day", store=store, account="rates.csv"))
    rates.write_text("product,initial_long,maintenance_long\nSTK,0.9,0.25\n")
    scene = Scene(run(path, "AAPL/1day", store=store, account="rates.csv").spec, store, path)
    word = replace(scene, spec=replace(scene.spec, brokerage=replace(scene.spec.brokerage, account="reg-t")))

    of_file, of_word = check(old, "level", scene), check(old, "level", word)

    assert causes(of_file) == {"account": CAUSE}
    assert "'initial_long': 0.5" in told(of_file, "account")
    assert "'initial_long': 0.9" in told(of_file, "account")
    assert causes(of_word) == {}  # reg-t lends as much as the file did


def test_another_account_is_the_cause(repository, store):
    path = repository / "level.py"
    path.write_text(LEVERED)
    old = Baseline.of(run(path, "AAPL/1day", store=store, account="reg-t"))
    scene = Scene(run(path, "AAPL/1day", store=store, account="cash").spec, store, path)

    judgement = check(old, "level", scene)

    assert causes(judgement) == {"parameters": CAUSE}
    assert told(judgement, "parameters") == "account: reg-t -> cash"


@pytest.mark.slow
def test_a_verdict_is_json(scene):
    old = baseline(scene)
    judgement = check(old, "cross", replace(scene, spec=replace(scene.spec, params={"fast": 6, "slow": 20})))

    document = json.loads(json.dumps(judgement.to_dict()))

    assert document["status"] == "moved"
    assert document["causes"][0] == {"what": "parameters", "verdict": "cause", "told": ["fast: 5 -> 6"]}


def test_a_changed_table_of_dividends_is_the_cause_and_shown(tmp_path, repository, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, paid = repository / "level.py", Path("paid.csv")
    path.write_text(LEVEL.format(level=0))
    paid.write_text("date,amount,currency\n2003-06-17,0.10,USD\n2003-09-16,0.10,USD\n")
    asked = {"store": store, "dividends": str(paid)}
    old = Baseline.of(run(path, "AAPL/1day", **asked))
    paid.write_text("date,amount,currency\n2003-06-17,0.10,USD\n2003-09-16,0.12,USD\n")
    scene = Scene(run(path, "AAPL/1day", **asked).spec, store, path)

    judgement = check(old, "level", scene)

    assert causes(judgement) == {"dividends": CAUSE}
    assert told(judgement, "dividends") == "AAPL/1day 2003-09-16: 0.1 -> 0.12"
    assert judgement.difference.first == "2003-09-16"
