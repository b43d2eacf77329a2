"""
What version 0.1.0 wrote is in `tests/support/kept/0.1.0`; this version reads it, checks it, and makes the same again.

Each expected value is read from what 0.1.0 left: its files, and what its commands printed (see kept/make_kept.py).
"""

import hashlib
import json
import math
import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kept.make_kept import BASELINES, FINISHED, RUNS, SMA, STOPPED, SWEEP, VALIDATE, arithmetic
from places import SUPPORT

from backtest import RunResult, Series, Store, measure, sweep
from backtest.engine.account import commissions, fees
from backtest.engine.account.borrowing import BookedBySize

pytestmark = pytest.mark.usefixtures("few_figures")

KEPT = SUPPORT / "kept" / "0.1.0"
KEPT_RUN = Path("runs", "many-options")
TABLES = ("record", "orders", "fills", "trades")
# 0.1.0 counted sessions that closed with a position; now bars are counted, of which these runs have several a session.
MOVED = {"future": ("exposure",), "forex": ("exposure",)}
# 0.1.0 left slippage, and borrow fees of open positions, out of the costs; and did not keep what they were.
COSTS = ("costs", "cost_drag")
MOVED_NOW = {**MOVED, "many-options": COSTS, "two-series": COSTS, "future": (*MOVED["future"], *COSTS)}
LATER = ("unslipped", "borrow")
NEAR = 1e-12  # relative, and of numbers near 0 absolute: where this machine's exp, log and sums end in other bits


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a copy of the kept working folder, in which commands run; names in it are relative to it."""
    monkeypatch.delenv("BACKTEST_STORE", raising=False)
    monkeypatch.chdir(shutil.copytree(KEPT, tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def fees_of_then(monkeypatch):
    """Let FINRA's fee be what 0.1.0 took it for: its table had no row for 2012-03-01, by Regulatory Notice 12-06."""
    now = fees.TRADING_ACTIVITY_FEE
    kept = [(day, rate) for day, rate in zip(now.dates, now.rates, strict=True) if rate != (0.000095, 4.75)]
    monkeypatch.setattr(fees, "TRADING_ACTIVITY_FEE", fees.Dated(*map(tuple, zip(*kept, strict=True))))


@pytest.fixture
def borrowed_as_then(monkeypatch):
    """Let the first fill that covers some of a short be booked all of the borrow fee, as in 0.1.0 and in Backtrader."""
    monkeypatch.setattr(BookedBySize, "pop", dict.pop)


@pytest.fixture
def parts_charged_as_then(monkeypatch):
    """Let each part of an order pay IB's minimum, as in 0.1.0: what a reversal closes, and what it opens."""
    monkeypatch.setattr(commissions, "OrderBill", lambda: None)


@pytest.fixture
def booked_as_then(monkeypatch):
    """Let a fill at a close be in the account a bar late, as in 0.1.0 and in Backtrader."""
    monkeypatch.setattr("backtest.engine.simulation.booked_at_close", lambda record, *_: record)


# --- the store, and its pins


def test_every_series_is_read_as_it_was_written(folder):
    store, before = Store("data/bars"), files_in(folder / "data")
    written = {
        place.relative_to(store.root).as_posix(): bars_in(place / "bars") for place in series_folders(store.root)
    }

    read = {series.key: store.read(series) for series in store.series()}

    assert len(written) == 5
    assert list(read) == sorted(written)
    assert all(read[name].equals(bars) for name, bars in written.items())
    assert files_in(folder / "data") == before


def test_bars_are_read_as_they_were_before_they_were_revised(folder):
    store, apple = Store("data/bars"), Series.parse("AAPL/1day")
    archived, bars = bars_in(store.root / str(apple) / "archive"), store.read(apple)

    before = store.read(apple, revision=1)

    assert before.equals(archived)
    assert [row for row in range(len(bars)) if before.slice(row, 1) != bars.slice(row, 1)] == [400]


@pytest.mark.slow
def test_the_store_is_found_sound(folder, call):
    code, out, _ = call("verify", "--json")

    found = json.loads(out)["series"]
    assert code == 0
    for key, row in printed("verify")["series"].items():
        name = str(Series.parse(key))
        assert (found[name]["ok"], found[name]["bars"], found[name]["sessions"]) == (True, row["bars"], row["sessions"])


def test_each_pin_is_held(folder, call):
    code, out, _ = call("pin", "--check", "--json")

    assert code == 0
    pinned = json.loads((folder / "data.lock").read_text("utf-8"))["series"]
    found = {name: (row["status"], row["digest"]) for name, row in json.loads(out)["series"].items()}
    assert found == {str(Series.parse(key)): ("held", row["digest"]) for key, row in pinned.items()}
    assert len(pinned) == 5


# --- runs


def test_the_kept_runs_are_listed_with_their_numbers(folder, call):
    code, out, _ = call("runs", "ls", "--json")

    found = json.loads(out)["runs"]
    assert code == 0
    assert set(found) == {*RUNS, "sweep/best"}
    for name in RUNS:
        assert_same(found[name]["stats"], kept_numbers(name)["stats"], MOVED.get(name, ()))


@pytest.mark.parametrize("name", RUNS)
def test_a_kept_run_has_its_name_and_its_key(folder, call, name):
    code, out, _ = call("runs", "show", f"runs/{name}", "--json")

    assert code == 0
    assert json.loads(out)["run"] == kept_numbers(name)["run"]
    assert RunResult.load(f"runs/{name}").spec.key == json.loads((KEPT / "keys.json").read_text("utf-8"))[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_kept_run_is_reported_with_the_same_numbers_and_kept_on_as_it_is(folder, call, name, request):
    if name != "many-options":  # of one run all figures are drawn
        request.getfixturevalue("few_figures")
    before = files_in(folder / "runs" / name)

    code, _, _ = call("report", f"runs/{name}", "--out", "page")

    assert code == 0
    assert_same(json.loads(Path("page", "metrics.json").read_text("utf-8")), kept_numbers(name), MOVED.get(name, ()))
    assert tables_in(Path("page")) == tables_in(KEPT / "runs" / name)
    assert Path("page", "index.html").stat().st_size > 50_000
    assert files_in(folder / "runs" / name) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.usefixtures("fees_of_then", "borrowed_as_then", "booked_as_then", "parts_charged_as_then")
def test_a_run_that_is_asked_the_same_is_the_same_to_the_last_bit(folder, call, name):
    code, out, _ = call("run", *RUNS[name], "--out", "fresh", "--json")

    assert code == 0
    assert json.loads(out)["run"] == kept_numbers(name)["run"]
    a_year = float(kept_numbers(name)["basis"].partition(" sessions a year")[0])  # in 0.1.0 252 for each exchange
    assert_same(
        measure(RunResult.load("fresh"), periods=a_year).to_dict(), kept_numbers(name)["stats"], MOVED_NOW.get(name, ())
    )
    assert tables_in(Path("fresh")) == tables_in(KEPT / "runs" / name)


def test_a_future_is_annualised_by_its_own_exchange_and_a_kept_one_by_what_it_was_kept_with(folder, call):
    _, out, _ = call("run", *RUNS["future"], "--out", "fresh", "--json")

    assert json.loads(out)["basis"].startswith("258 sessions per year, ")
    assert RunResult.load("runs/future").stats.basis.startswith("252 sessions per year, ")
    fresh, kept = json.loads(out)["stats"], kept_numbers("future")["stats"]
    assert fresh["volatility"] / kept["volatility"] == pytest.approx(math.sqrt(258 / 252))
    assert fresh["total_return"] == kept["total_return"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RUNS, "sweep/best"])
@pytest.mark.usefixtures("fees_of_then", "borrowed_as_then", "parts_charged_as_then")
def test_a_kept_run_is_reproduced(folder, call, name):
    code, out, _ = call("reproduce", f"runs/{name}", "--json")

    found = json.loads(out)
    assert code == 0
    assert (found["equal"], found["error"], found["first"]) == (True, "", "")


@pytest.mark.usefixtures("borrowed_as_then", "parts_charged_as_then")
def test_only_what_finra_charged_in_the_spring_of_2012_moves_a_kept_run(folder, call):
    code, _, _ = call("run", *RUNS["many-options"], "--out", "fresh", "--json")

    now, then = (pq.read_table(place / "fills.parquet").to_pandas() for place in (Path("fresh"), KEPT / KEPT_RUN))
    spring = (now["time"] >= "2012-03-01") & (now["time"] < "2012-07-01")
    sold = -now["size"].clip(upper=0)
    assert code == 0
    assert (now["costs"] - then["costs"])[~spring].tolist() == [0.0] * int((~spring).sum())
    assert (now["costs"] - then["costs"])[spring].tolist() == pytest.approx((sold * 0.000005)[spring].tolist())
    assert (sold[spring] > 0).any()


@pytest.mark.usefixtures("fees_of_then", "borrowed_as_then")
def test_only_reversals_pay_one_minimum_less(folder, call):
    call("run", *RUNS["many-options"], "--out", "fresh")

    now, then = (pq.read_table(place / "fills.parquet").to_pandas() for place in (Path("fresh"), KEPT / KEPT_RUN))
    moved = (now["costs"] - then["costs"]).abs() > NEAR
    held = now["size"].cumsum()
    assert 0 < moved.sum() < 5
    assert (held * (held - now["size"]) < 0)[moved].all()  # long before and short after, or the other way round
    assert (then["costs"] - now["costs"])[moved].between(0, 0.35 * (1 + 0.000175 + 0.00056) + NEAR).all()


@pytest.mark.usefixtures("fees_of_then", "parts_charged_as_then")
def test_a_borrow_fee_moves_between_the_fills_that_cover_a_short_and_not_in_all(folder, call):
    call("run", *RUNS["many-options"], "--out", "fresh")

    places = (Path("fresh"), KEPT / KEPT_RUN)
    now, then = (pq.read_table(place / "fills.parquet").to_pandas() for place in places)
    moved = (now["costs"] - then["costs"]).abs() > NEAR
    short = now["size"].cumsum() - now["size"] < 0
    assert 0 < moved.sum() < len(now) / 2
    assert (short & (now["size"] > 0))[moved].all()
    assert now["costs"].sum() == pytest.approx(then["costs"].sum())
    same = [pq.read_table(place / "record.parquet") for place in places]
    assert bits_of(same[0].drop_columns("borrow")) == bits_of(same[1])


def test_a_fill_at_a_close_moves_its_own_bar_of_the_account_and_no_other(folder, call):
    call("run", *RUNS["forex"], "--out", "fresh")

    kept = KEPT / "runs" / "forex"
    now, then = (pq.read_table(place / "record.parquet").to_pandas() for place in (Path("fresh"), kept))
    fills = pq.read_table(kept / "fills.parquet").to_pandas()
    assert pq.read_table(Path("fresh", "fills.parquet")).equals(pq.read_table(kept / "fills.parquet"))
    filled = now["time"].isin(fills["time"])
    assert 0 < filled.sum() == len(fills)
    assert now[~filled].equals(then[~filled])
    assert now["position.0"][filled].tolist() == fills["size"].cumsum().tolist()
    assert (then["equity"] - now["equity"])[filled].tolist() == pytest.approx(fills["costs"].tolist())


AUTOCORRELATED = ("sharpe_low", "sharpe_high")
STUDENTISED = ("total_return", "cagr", "volatility", "sharpe")


def accept_what_moved(file):
    """
    Accept what moved since, and nothing else.

    There is no Cornish-Fisher shortfall where the value at risk is a gain: the quantiles do not rise. Excursions are by
    lows and highs. The interval of the Sharpe ratio allows for autocorrelation. Slippage and borrow fees count in the
    costs.
    """
    record = json.loads(file.read_text("utf-8"))
    if record["metrics"]["var_cornish_fisher"] > 0:
        record["metrics"]["es_cornish_fisher"] = None
    moved = COSTS if record["spec"]["slippage"] else ()
    for name in ("adverse_excursion", "favourable_excursion", *AUTOCORRELATED, *moved):
        del record["metrics"][name]
    file.write_text(json.dumps(record), "utf-8")


@pytest.mark.usefixtures("fees_of_then", "borrowed_as_then", "parts_charged_as_then")
def test_the_kept_baselines_hold(folder, call):
    for file in (folder / "strategies" / "baselines").glob("*.json"):
        accept_what_moved(file)

    code, out, _ = call("baseline", "check", "--json")

    assert code == 0
    statuses = {name: row["status"] for name, row in json.loads(out)["baselines"].items()}
    assert statuses == dict.fromkeys(BASELINES.values(), "same")


@pytest.mark.slow
@pytest.mark.usefixtures("fees_of_then", "borrowed_as_then", "parts_charged_as_then")
def test_a_kept_baseline_of_which_an_order_differs_does_not_hold(folder, call):
    file = folder / "strategies" / "baselines" / "rsi2.json"
    record = json.loads(file.read_text("utf-8"))
    record["orders"]["lines"][10] = record["orders"]["lines"][11]
    file.write_text(json.dumps(record), "utf-8")

    code, out, _ = call("baseline", "check", "rsi2", "--json")

    assert code == 1
    assert json.loads(out)["baselines"]["rsi2"]["difference"]["order_number"] == 11


# --- sweeps, and what is made of them


def test_a_finished_sweep_is_opened_and_nothing_is_made_again(folder, call):
    before = files_in(folder / FINISHED / "trials")

    code, out, _ = call("sweep", *SWEEP, "--resume", "--out", FINISHED, "--json")

    assert code == 0
    assert_same(json.loads(out), printed("sweep"))
    assert files_in(folder / FINISHED / "trials") == before
    assert tables_in(folder / FINISHED / "best") == tables_in(KEPT / FINISHED / "best")


def test_a_finished_sweep_is_judged_as_it_was(folder, call):
    code, out, _ = call("validate", FINISHED, "--bootstrap", "50", "--json")

    assert code == 0
    assert_same(json.loads(out)["sweep"], printed("sweep"))


@pytest.mark.slow
def test_a_stopped_sweep_makes_what_it_lacks_and_nothing_twice(folder, call):
    before = files_in(folder / STOPPED / "trials")
    kept, asked = keys_in(folder / STOPPED), json.loads((KEPT / STOPPED / "sweep.json").read_text("utf-8"))["keys"]

    code, out, _ = call("sweep", *SWEEP, "--resume", "--out", STOPPED, "--json")

    after = files_in(folder / STOPPED / "trials")
    assert 0 < len(kept) < len(asked)
    assert code == 0
    assert {path: after[path] for path in before} == before
    assert sorted(keys_in(folder / STOPPED)) == sorted(asked)  # each once
    assert_same(json.loads(out), printed("sweep"))
    assert_same(trials_in(folder / STOPPED), trials_in(KEPT / FINISHED))
    assert tables_in(folder / STOPPED / "best") == tables_in(KEPT / FINISHED / "best")


def test_a_finished_sweep_has_the_same_trials_and_tells_of_none(folder):
    told = []

    found = swept_again(FINISHED, told)

    kept = trials_in(KEPT / FINISHED)
    assert told == []
    assert [trial.key for trial in found.trials] == json.loads((KEPT / FINISHED / "sweep.json").read_text("utf-8"))[
        "keys"
    ]
    for trial in found.trials:
        assert (trial.params, bool(trial.error)) == (kept[trial.key]["params"], kept[trial.key]["failed"])
        assert_same(trial.metrics, {name: kept[trial.key][name] for name in trial.metrics})
    assert [len(trial.metrics) > 50 for trial in found.trials].count(False) == 1  # the one whose averages are the same


@pytest.mark.slow
def test_a_stopped_sweep_begins_with_what_is_kept_and_tells_of_the_rest(folder):
    told, kept = [], len(keys_in(folder / STOPPED))

    found = swept_again(STOPPED, told)

    assert len(found.trials) == told[-1].done == told[-1].total == 24
    assert {progress.kept for progress in told} == {kept}


def test_a_walk_forward_and_a_cross_validation_make_no_trial_again(folder, call):
    before = files_in(folder / "runs" / "walked" / "trials")

    code, out, _ = call("validate", *VALIDATE, "--json")

    assert code == 0
    assert_same(json.loads(out), printed("validate"), ("costs", "break_even"))  # which are runs again now
    assert files_in(folder / "runs" / "walked" / "trials") == before


def swept_again(into, told):
    """Ask in Python for the sweep that is in a folder, and collect what it tells."""
    grid = {"fast": [5, 10, 15, 20], "slow": [20, 30, 40, 50, 60, 70]}
    return sweep(
        SMA, "AAPL/1day", grid, store="data/bars", folder=into, resume=True, params={"invest": 0.9}, costs="bp:1",
        cash=50_000.0, cash_rate=0.01, span=(date(2010, 3, 1), date(2012, 6, 29)), tell=told.append,
    )  # fmt: skip


# --- what 0.1.0 left, read without this version


def series_folders(root):
    """Return the folder of each series of a store."""
    return sorted(path.parent for path in root.rglob("manifest.json"))


def bars_in(folder):
    """Return the bars of a folder's files, in the order of their names, which is that of their periods."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def files_in(folder):
    """Return the hash of each file, and when it was written; but for locks, which readers may leave."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def printed(name):
    """Return what a command of 0.1.0 printed."""
    return json.loads((KEPT / "printed" / f"{name}.json").read_text("utf-8"))


def kept_numbers(name):
    """Return what 0.1.0 wrote of a run's numbers."""
    return json.loads((KEPT / "runs" / name / "metrics.json").read_text("utf-8"))


def tables_in(folder):
    """Return the tables of a run's folder, each float by all its bits; without columns that 0.1.0 had not."""
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in TABLES}
    return {name: bits_of(table.select([one for one in table.column_names if one not in LATER]))
            for name, table in tables.items()}  # fmt: skip


def bits_of(table):
    """
    Return names, types and values of a table, such that equal ones are equal to the last bit.

    A series is what its spelling means: 0.1.0 wrote BRK%20B/1day, and now it is shown as BRK B/1day.
    """
    columns = {column.name: str(column.type) for column in table.schema}
    values = [
        [value.hex() if isinstance(value, float) else value for value in column.to_pylist()] for column in table.columns
    ]
    if "series" in columns:
        place = list(columns).index("series")
        values[place] = [Series.parse(text).key for text in values[place]]
    return columns, values


def keys_in(folder):
    """Return the key of each trial in a sweep's folder, as often as it is there."""
    tables = [pq.read_table(path, columns=["key"]) for path in (folder / "trials").glob("*.parquet")]
    return [key for table in tables for key in table["key"].to_pylist()]


def trials_in(folder):
    """Return the trials in a sweep's folder by their keys: all that is kept of them, and whether they failed."""
    tables = [pq.read_table(path) for path in (folder / "trials").glob("*.parquet")]
    rows = [row for table in tables for row in with_sessions(table.to_pylist())]
    return {row["key"]: {**row, "params": json.loads(row["params"]), "failed": bool(row["error"])} for row in rows}


def with_sessions(rows):
    """Yield the rows of a file, each with its sessions; since 0.1.0 those of the row before are not repeated."""
    last = []
    for row in rows:
        last = row["sessions"] or last
        yield {**row, "sessions": last if row["returns"] else []}


def assert_same(found, kept, moved=()):
    """
    Assert that every number that was kept is found in its place, and is the same, but for those that moved.

    To the last bit, where this machine reckons as the one on which it was kept; else to twelve digits. Texts may be put
    in other words, and there may be more than there was.
    """
    exact = arithmetic() == (KEPT / "arithmetic.txt").read_text("utf-8").strip()
    assert list(differing(found, kept, exact, moved)) == []


def differing(found, kept, exact, moved=(), place=""):
    """Yield the place of each number that is not the same."""
    if isinstance(kept, dict):
        for name, value in kept.items():
            if name not in found:
                yield f"{place}/{name} is gone"
            elif name in moved or name in AUTOCORRELATED:
                continue
            elif name in STUDENTISED and place.endswith("/intervals/intervals"):
                continue  # 0.1.0 took those of the percentiles
            elif name in ("adverse_excursion", "favourable_excursion") and isinstance(value, float) and value == value:
                if not abs(found[name]) >= abs(value) - NEAR:  # by lows and highs, which reach further than closes
                    yield f"{place}/{name} is {found[name]}, nearer than {value}"
            elif name == "es_cornish_fisher" and (found[name] is None or found[name] != found[name]):
                continue  # 0.1.0 gave a number where it is not defined, a gain in many runs
            else:
                yield from differing(found[name], value, exact, moved, f"{place}/{name}")
    elif isinstance(kept, list) and not (kept and isinstance(kept[0], str)):
        if len(found) != len(kept):
            yield f"{place} has {len(found)} rows, not {len(kept)}"
        for number, (now, then) in enumerate(zip(found, kept, strict=False)):
            yield from differing(now, then, exact, moved, f"{place}/{number}")
    elif isinstance(kept, float) and math.isnan(kept):
        if not (isinstance(found, float) and math.isnan(found)):
            yield f"{place} is {found}, not {kept}"
    elif isinstance(kept, float) and not exact:
        if found is None or not math.isclose(found, kept, rel_tol=NEAR, abs_tol=NEAR):
            yield f"{place} is {found}, not {kept}"
    elif not isinstance(kept, str | list) and found != kept:
        yield f"{place} is {found}, not {kept}"
