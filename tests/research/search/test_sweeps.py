import hashlib
import json
import math
import re
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import NormalDist

import backtrader as bt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sweeps
from bucket import KEY, SECRET, Bucket
from market import store_with
from places import ROOT
from rights import HAVE_RIGHTS, unreadable
from unpacked import chart_in

from backtest.api import run
from backtest.cli.app import main
from backtest.errors import BadStore, BrokenPin, DamagedStore, StrategyError, UsageError
from backtest.market.calendars import span_asked
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.metrics.account import Account
from backtest.metrics.account import sample as account_of
from backtest.metrics.returns import returns_of
from backtest.metrics.sharpe_tests import probabilistic_sharpe
from backtest.metrics.table import METRICS
from backtest.metrics.trades import Trades
from backtest.research.out_of_sample.window import Window
from backtest.research.search.heatmap import medians
from backtest.research.search.job import Point, _measured, job_of, result_of, trials_of
from backtest.research.search.sweeps import Sweep, sweep
from backtest.research.search.trials import Trial, Trials
from backtest.store.store import Store

SMA = str(ROOT / "strategies" / "sma_cross.py")
YEARS = (date(2003, 1, 2), date(2004, 12, 31))
GRID = {"fast": [5, 10, 15], "slow": [20, 30]}


def swept(sample, folder, grid=GRID, strategy=SMA, **more):
    return sweep(strategy, "AAPL/1day", grid, store=sample, span=YEARS, folder=folder, **more)


def same(one, other):
    """Return whether two folders hold the same trials to the last bit, returns included."""
    first, second = (Trials(folder).read(returns=True) for folder in (one, other))
    numbers = [[(key, *map(repr, each[key].metrics.values())) for key in sorted(each)] for each in (first, second)]
    arrays = [[each[key].returns.tobytes() + each[key].sessions.tobytes() for key in sorted(each)]
              for each in (first, second)]  # fmt: skip
    return len(first) > 0 and numbers[0] == numbers[1] and arrays[0] == arrays[1]


@pytest.fixture(scope="module")
def finished(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return swept(sample, folder)


@pytest.mark.slow
def test_the_page_of_a_sweep_has_its_trials_and_leads_to_the_run_of_the_best(sample, finished):
    page = finished.report(store=sample)

    text = page.read_text(encoding="utf-8")
    about = json.loads(re.search(r'class="sweep-about">(.*?)</script>', text, re.DOTALL)[1])
    names = [one["name"] for one in about["metrics"]]
    frame = finished.to_frame()
    seen = [about["trials"][place]["numbers"] for place in about["order"]]
    assert page == finished.folder / "index.html"
    assert np.array(seen, float) == pytest.approx(frame[names].to_numpy(float), rel=1e-8, nan_ok=True)
    kept = json.loads((finished.best_folder / "metrics.json").read_text())["stats"]
    assert about["trials"][about["best"]]["numbers"] == pytest.approx([kept[name] for name in names], rel=1e-8)
    assert '<a href="best/index.html">' in text
    assert (finished.best_folder / "index.html").exists()
    growth = chart_in(text)[1][f"trial.{about['best']}"]
    assert growth[-1] == pytest.approx(100 * (1 + finished.best.metrics["total_return"]), abs=0.005)


@pytest.mark.slow
def test_a_notebook_shows_the_page_of_a_sweep(finished):
    view = finished.explore()

    assert repr(view).startswith("Chart of the trials of SmaCross on AAPL/1day")
    assert "srcdoc=" in view._repr_html_()


def test_a_trial_has_the_numbers_of_a_run_of_its_own(sample, finished):
    alone = run(SMA, "AAPL/1day", store=sample, span=YEARS, params={"fast": 10, "slow": 30})

    (trial,) = (one for one in finished.trials if finished.point(one) == {"fast": 10, "slow": 30})
    kept = Trials(finished.folder).read([trial.key], returns=True)[trial.key]
    assert {name: repr(value) for name, value in trial.metrics.items()} == {
        name: repr(float(value)) for name, value in alone.stats.items()
    }
    assert kept.returns.tolist() == alone.returns.tolist()
    assert [str(day) for day in kept.sessions] == [f"{day:%Y-%m-%d}" for day in alone.returns.index]


def test_the_best_has_the_highest_rank_and_its_run_is_kept(finished):
    ratios = [trial.metrics["sharpe"] for trial in finished.trials]

    assert [finished.point(trial) for trial in finished.trials][:3] == [
        {"fast": 5, "slow": 20}, {"fast": 5, "slow": 30}, {"fast": 10, "slow": 20},
    ]  # fmt: skip
    assert finished.best.metrics["sharpe"] == max(ratios)
    assert finished.best_run.stats["sharpe"] == max(ratios)
    assert finished.best_run.spec.params == finished.best.params
    assert Sweep.load(finished.folder).best == finished.best


def test_a_rank_with_a_minus_prefers_the_lowest(sample, tmp_path):
    found = swept(sample, tmp_path, rank="-volatility")

    assert found.best.metrics["volatility"] == min(trial.metrics["volatility"] for trial in found.trials)


def test_a_trial_that_is_kept_is_not_made_again(sample, tmp_path):
    told = []
    swept(sample, tmp_path, {"fast": [5], "slow": [20]})
    before = set((tmp_path / "trials").iterdir())

    swept(sample, tmp_path, tell=told.append)

    assert (told[-1].kept, told[-1].done, told[-1].total) == (1, 6, 6)
    assert told[-1].left == 0
    rows = [Trials(tmp_path).read(), *(path for path in (tmp_path / "trials").iterdir() if path not in before)]
    assert len(rows[0]) == 6


def test_other_code_other_bars_and_other_costs_are_other_trials(sample, tmp_path):
    changed = tmp_path / "sma.py"
    changed.write_text(Path(SMA).read_text() + "\n# a change\n")
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)
    others = [
        job_of(str(changed), "AAPL/1day", store=sample, span=YEARS, swept=GRID),
        job_of(SMA, "AAPL/1day", store=sample, span=(YEARS[0], date(2004, 12, 30)), swept=GRID),
        job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID, costs="none"),
        job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID, params={"invest": 0.5}),
    ]

    keys = {one.key(Point({"fast": 5, "slow": 20})) for one in [job, *others]}

    assert len(keys) == 5
    assert job.key(Point({"fast": 5, "slow": 20})) == job_of(
        SMA, "AAPL/1day", store=sample, span=YEARS, swept=["slow", "fast"]
    ).key(Point({"slow": 20, "fast": 5}))


@HAVE_RIGHTS
def test_a_folder_of_trials_that_cannot_be_listed_is_not_an_empty_one(tmp_path):
    (tmp_path / "trials").mkdir()

    with unreadable(tmp_path / "trials", 0o300), pytest.raises(DamagedStore, match="cannot be read"):
        Trials(tmp_path).read()


def test_trials_that_never_trade_are_not_counted_and_the_summary_says_so(sample, tmp_path):
    made = swept(sample, tmp_path, {"fast": [5], "slow": [20, 100_000]}, params={"invest": 0.5})

    assert (len(made.trials), len(made.ratios)) == (2, 1)
    assert "counting 1 trial on record with a Sharpe ratio" in made.summary


def test_a_change_in_a_module_that_the_strategy_imports_makes_other_trials(sample, tmp_path):
    (tmp_path / "mine.py").write_text("import helper_of_mine\n" + Path(SMA).read_text())
    keys = []
    for text in ("PERIOD = 1", "PERIOD = 2"):
        (tmp_path / "helper_of_mine.py").write_text(text)
        job = job_of(str(tmp_path / "mine.py"), "AAPL/1day", store=sample, span=YEARS, swept=GRID)
        keys.append(job.key(Point({"fast": 5, "slow": 20})))

    assert keys[0] != keys[1]


def test_all_trials_that_a_folder_ever_got_count_when_the_best_is_judged(sample, tmp_path):
    first = swept(sample, tmp_path, {"fast": [5], "slow": [20, 30]})
    second = swept(sample, tmp_path, {"fast": [5], "slow": [20, 40, 50]})

    ratios = [trial.metrics["sharpe"] for trial in Trials(tmp_path).read().values()]
    assert (len(first.ratios), len(second.trials), len(second.ratios)) == (2, 3, 4)
    assert "counting 4 trials on record" in second.summary
    # The formula of Bailey and López de Prado (2014) from its parts.
    normal, run_of_best = NormalDist(), second.best_run.returns
    ratio = run_of_best.mean() / run_of_best.std()
    gamma, count = 0.5772156649015329, len(ratios)
    hurdle = (1 - gamma) * normal.inv_cdf(1 - 1 / count) + gamma * normal.inv_cdf(1 - 1 / (count * math.e))
    hurdle *= statistics.stdev(ratios) / math.sqrt(252)
    away = run_of_best - run_of_best.mean()
    skew, kurtosis = ((away**n).mean() / (away**2).mean() ** (n / 2) for n in (3, 4))
    score = (ratio - hurdle) * math.sqrt(len(run_of_best) - 1)
    score /= math.sqrt(1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2)
    assert second.deflated_sharpe == pytest.approx(normal.cdf(score), abs=1e-3)  # moments differ by n / (n - 1)


def test_a_trial_that_fails_is_kept_with_its_error_and_the_others_go_on(sample, tmp_path):
    found = swept(
        sample, tmp_path, {"fast": [10, 30], "slow": [20, 25]}, where=lambda point: point != {"fast": 30, "slow": 25}
    )

    assert [found.point(trial) for trial in found.failed] == [{"fast": 30, "slow": 20}]
    assert "fast=30 must be less than slow=20" in found.failed[0].error
    assert len(found.ranked) == 2


def test_where_all_trials_fail_it_is_said_why(sample, tmp_path):
    with pytest.raises(
        StrategyError, match=r"none of the 2 trials has a value for sharpe; first trial: .* must be less"
    ):
        swept(sample, tmp_path, {"fast": [30, 40], "slow": [20]})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rank": "sharp"}, "costs; did you mean sharpe?"),
        ({"jobs": 0}, "0 processes"),
        ({"slipage": "1"}, "has no option slipage"),
        ({"grid": {"fats": [1]}}, "did you mean fast"),
        ({"params": {"fast": 3}}, "both swept and set"),
        ({"where": lambda point: False}, "leaves none of the 6"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(sample, tmp_path, more, said):
    with pytest.raises(UsageError, match=said):
        swept(sample, tmp_path, **more)

    assert not any(tmp_path.iterdir())


def test_resume_refuses_another_sweep_and_says_what_differs(sample, tmp_path):
    swept(sample, tmp_path, {"fast": [5], "slow": [20]})

    with pytest.raises(UsageError, match=r"has other settings \(grid\)"):
        swept(sample, tmp_path, {"fast": [5], "slow": [30]}, resume=True)

    with pytest.raises(UsageError, match=r"has other settings \(cash\)"):
        swept(sample, tmp_path, {"fast": [5], "slow": [20]}, cash=5000, resume=True)

    assert swept(sample, tmp_path, {"fast": [5], "slow": [20]}, resume=True).trials


def test_a_trial_that_pays_the_spread_is_the_run_of_its_own(tmp_path):
    asked = {"store": quoted(tmp_path), "slippage": "spread"}

    found = sweep(SMA, "AAPL/1day", {"fast": [3], "slow": [8, 9]}, folder=tmp_path / "sweep", **asked)

    alone = run(SMA, "AAPL/1day", params=found.best.params, **asked)
    assert found.best_run.fills.equals(alone.fills)
    assert len(alone.fills)


def test_other_quotes_are_other_trials_where_the_spread_is_paid(tmp_path):
    store, bid = quoted(tmp_path), Series.parse("AAPL/1day/BID")
    words = ("", "spread")
    before = [job_of(SMA, "AAPL/1day", store=store, swept=GRID, slippage=word).case for word in words]
    bars = store.read(bid)
    lower = bars.set_column(1, bars.schema.field("open"), bars["low"])
    store.write(
        bid, span_asked(bid, hours_of(bid.instrument), (date(2024, 1, 2), date(2024, 6, 28))), lower, revise=True
    )

    after = [job_of(SMA, "AAPL/1day", store=store, swept=GRID, slippage=word).case for word in words]

    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


def quoted(folder):
    """Return a store with bars of trades, bid and ask."""
    every = [f"AAPL/1day{prices}" for prices in ("", "/BID", "/ASK")]
    return store_with(folder / "bars", dict.fromkeys(every, ("2024-01-02", "2024-06-28")))


def test_a_worker_with_another_strategy_or_other_bars_refuses(sample, tmp_path):
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)
    point = Point({"fast": 5, "slow": 20})

    with pytest.raises(BrokenPin, match="differs from the one"):
        result_of(replace(job, source="0" * 64, case="other code"), point)
    with pytest.raises(BrokenPin, match="the bars of AAPL/1day changed"):
        result_of(replace(job, digests={str(job.series[0]): "0"}, case="other bars"), point)


def test_a_worker_that_lacks_the_strategy_is_not_taken_for_a_trial_that_fails(sample):
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)

    with pytest.raises(UsageError, match="no such file"):
        trials_of(replace(job, strategy="/nowhere/sma.py:SmaCross", case="lost"), [Point({"fast": 5, "slow": 20})])


def test_the_best_run_names_the_strategy_as_it_was_asked_for(sample, tmp_path):
    found = swept(sample, tmp_path, {"fast": np.arange(5, 7), "slow": [20]}, "sma_cross")

    assert found.best_run.spec.strategy == "sma_cross:SmaCross"
    assert found.best_run.manifest["strategy"]["sha256"] == hashlib.sha256(Path(SMA).read_bytes()).hexdigest()
    assert found.asked["grid"] == {"fast": [5, 6], "slow": [20]}


def test_the_best_run_has_the_name_that_was_asked_for_after_a_sweep_by_another_name(sample, tmp_path):
    grid = {"fast": [5], "slow": [20]}
    by_path = swept(sample, tmp_path / "a", grid, SMA)

    by_word = swept(sample, tmp_path / "b", grid, "sma_cross")

    assert by_path.best_run.spec.strategy == "sma_cross.py:SmaCross"
    assert by_word.best_run.spec.strategy == "sma_cross:SmaCross"


def test_a_sweep_that_was_stopped_has_no_best_of_another(sample, tmp_path):
    whole = swept(sample, tmp_path)
    document = json.loads((tmp_path / "sweep.json").read_text())
    document["keys"] = [trial.key for trial in whole.ranked[1:]]  # as a kill leaves it before the last run
    (tmp_path / "sweep.json").write_text(json.dumps(document))

    with pytest.raises(BadStore, match="5 of 5 trials and was stopped before its end"):
        Sweep.load(tmp_path)


# --- through executors


def test_threads_give_the_same_trials(sample, finished, tmp_path):
    with ThreadPoolExecutor(3) as executor:
        swept(sample, tmp_path, executor=executor)

    assert same(finished.folder, tmp_path)


SUICIDAL = """
import os, signal
from pathlib import Path
import backtrader as bt

class Suicidal(bt.Strategy):
    params = dict(n=0, marks="")

    def start(self):
        mark = Path(self.p.marks) / "died"
        if self.p.n == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def next(self):
        if len(self) % (5 + self.p.n) == 0:
            self.buy() if not self.position else self.close()
"""


FINE = {"fast": list(range(2, 42)), "slow": list(range(10, 110))}


@pytest.mark.slow
def test_what_optuna_proposes_is_the_same_for_any_number_of_workers_and_made_once(sample, tmp_path):
    def wide(point):
        return point["fast"] + 20 < point["slow"]

    alone = swept(sample, tmp_path / "alone", FINE, optuna=20, seed=3, where=wide)
    with ThreadPoolExecutor(2) as threads:
        together = swept(sample, tmp_path / "threads", FINE, optuna=20, seed=3, where=wide, executor=threads)
    files = sorted((tmp_path / "alone").rglob("*.parquet"))
    again = swept(sample, tmp_path / "alone", FINE, optuna=20, seed=3, where=wide)

    assert same(tmp_path / "alone", tmp_path / "threads")
    assert [trial.key for trial in alone.trials] == [trial.key for trial in together.trials]
    assert alone.trials == again.trials
    assert sorted((tmp_path / "alone").rglob("*.parquet")) == files
    assert all(wide(trial.params) for trial in alone.trials)
    assert len({trial.key for trial in alone.trials}) == 20


@pytest.mark.slow
def test_a_worker_killed_midway_costs_only_trials_under_way_which_are_made_again(sample, tmp_path):
    (tmp_path / "suicidal.py").write_text(SUICIDAL)
    grid, marks = {"n": list(range(8))}, str(tmp_path)

    found = swept(sample, tmp_path / "a", grid, str(tmp_path / "suicidal.py"), jobs=2, params={"marks": marks})
    swept(sample, tmp_path / "b", grid, str(tmp_path / "suicidal.py"), params={"marks": marks})

    assert (tmp_path / "died").exists()
    assert not found.failed
    assert same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_a_trial_that_kills_each_worker_is_named(sample, tmp_path):
    (tmp_path / "suicidal.py").write_text(SUICIDAL.replace("not mark.exists()", "True"))

    with pytest.raises(StrategyError, match="died 3 times in a row, at one of: n=3"):
        swept(
            sample, tmp_path / "a", {"n": [3]}, str(tmp_path / "suicidal.py"), jobs=2, params={"marks": str(tmp_path)}
        )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_one_process_dask_and_a_killed_sweep_give_the_same_trials(tmp_path):
    ways = ["one process", "Dask, two workers", "killed and resumed"]  # `make soak PART=sweeps` goes all ways

    told = list(sweeps.run(tmp_path, fast=3, slow=4, years=1, only=ways))

    assert [line.partition(":")[0] for line in told] == ways
    assert all(": 12 trials" in line for line in told)


def test_a_store_in_a_bucket_gives_the_same_trials_and_is_fetched_once(sample, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with Bucket() as bucket:
        for path in sample.root.rglob("*"):
            if path.is_file():
                bucket.objects[f"store/{path.relative_to(sample.root).as_posix()}"] = path.read_bytes()

        swept(bucket.url(), tmp_path)
        fetched = [one for one in bucket.requests if one.startswith("GET") and one.endswith(".parquet")]

    assert same(finished.folder, tmp_path)
    assert 0 < len(fetched) <= 2 * len(set(fetched))  # once to tell the bars, and once for the trials at most


# --- on disk


def trial(key="a", **more):
    days = np.array(["2024-01-02", "2024-01-03"], "datetime64[D]")
    return Trial(
        key, "case", {"n": 1}, "", {"sharpe": 1.5, "cagr": math.nan}, "", days, np.array([0.01, -0.02]), **more
    )


def test_a_trial_comes_back_as_it_was_and_counts_once(tmp_path):
    failed = Trial("b", "case", {"n": 2, "kind": "ema"}, error="it failed")
    Trials(tmp_path).add([trial(), failed])
    Trials(tmp_path).add([trial()])

    found = Trials(tmp_path).read(returns=True)

    assert list(found) == ["a", "b"]
    assert found["a"].params == {"n": 1}
    assert repr(found["a"].metrics) == "{'sharpe': 1.5, 'cagr': nan}"
    assert found["a"].returns.tolist() == [0.01, -0.02]
    assert found["a"].sessions.astype(str).tolist() == ["2024-01-02", "2024-01-03"]
    assert (found["b"].error, found["b"].metrics, len(found["b"].returns)) == ("it failed", {}, 0)


def test_what_a_kill_left_half_written_is_not_read(tmp_path):
    Trials(tmp_path).add([trial()])
    (tmp_path / "trials" / ".tmp-1-1-x.parquet").write_bytes(b"PAR1")

    assert list(Trials(tmp_path).read()) == ["a"]


def test_a_damaged_file_is_named(tmp_path):
    Trials(tmp_path).add([trial()])
    (path,) = (tmp_path / "trials").iterdir()
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(DamagedStore, match=path.name):
        Trials(tmp_path).read()


def test_sessions_that_trials_have_in_common_are_kept_once(tmp_path):
    one, shorter = trial(), replace(trial(), key="c", sessions=trial().sessions[:1], returns=np.array([0.5]))
    failed = Trial("b", "case", {"n": 2}, error="it failed")

    Trials(tmp_path).add([one, replace(one, key="d"), failed, replace(one, key="e"), shorter, replace(one, key="f")])

    (path,) = (tmp_path / "trials").iterdir()
    kept = pq.read_table(path)["sessions"]
    assert [len(days) for days in kept.to_pylist()] == [2, 0, 0, 0, 1, 2]
    found = Trials(tmp_path).read(returns=True)
    assert [len(found[key].sessions) for key in "abcdef"] == [2, 0, 1, 2, 2, 2]
    assert found["e"].sessions.tolist() == one.sessions.tolist()


def test_trials_that_keep_their_sessions_each_are_read_as_before(tmp_path):
    Trials(tmp_path).add([trial(), replace(trial(), key="d")])
    (path,) = (tmp_path / "trials").iterdir()
    table = pq.read_table(path)
    days = pa.array([table["sessions"][0].as_py()] * 2, table.schema.field("sessions").type)
    pq.write_table(table.set_column(table.column_names.index("sessions"), "sessions", days), path)

    found = Trials(tmp_path).read(returns=True)

    assert [one.sessions.tolist() for one in found.values()] == [trial().sessions.tolist()] * 2


def test_trials_with_fewer_sessions_than_returns_are_damaged(tmp_path):
    Trials(tmp_path).add([replace(trial(), sessions=trial().sessions[:1])])

    with pytest.raises(DamagedStore, match="1 sessions for 2 returns"):
        Trials(tmp_path).read(returns=True)


def test_more_trials_than_bytes_could_hold_are_damaged_and_not_decoded(tmp_path):
    path = Trials(tmp_path).add([trial()])
    pq.write_table(pa.concat_tables([pq.read_table(path)] * 5000).combine_chunks(), path, compression="zstd")

    with pytest.raises(DamagedStore, match="5,000 rows, which is impossible"):
        Trials(tmp_path).read()


def test_how_far_the_best_overfits_is_known_without_reading_the_returns_again(sample, tmp_path):
    grid = {"fast": [5, 10], "slow": [20, 30]}
    found = swept(sample, tmp_path, grid)
    loaded = Sweep.load(tmp_path)
    for path in (tmp_path / "trials").iterdir():
        path.rename(path.with_suffix(".gone"))

    known = found.overfitting

    with pytest.raises(DamagedStore, match="4 trials are missing"):
        _ = loaded.overfitting
    for path in (tmp_path / "trials").iterdir():
        path.rename(path.with_suffix(".parquet"))
    assert Sweep.load(tmp_path).overfitting == known
    assert swept(sample, tmp_path, {**grid, "fast": [5, 10]}).overfitting == known  # of trials that were kept already


def test_trials_that_stop_at_other_sessions_leave_overfitting_undefined(sample, tmp_path):
    found = swept(sample, tmp_path, {"bars": [200, 400, 900]}, Stops)

    assert found.overfitting.reason == "other sessions"


class Stops(bt.Strategy):
    params = (("bars", 0),)

    def next(self):
        if not self.position:
            self.buy(size=10)
        if len(self) == self.p.bars:
            self.env.runstop()


def test_a_trial_has_the_numbers_of_its_run_whatever_it_shares_with_others(sample):
    asked = {"store": sample, "span": YEARS, "benchmark": "IBM/1day", "risk_free": 0.02, "swept": GRID}
    job = job_of(SMA, ["AAPL/1day", "IBM/1day"], **asked)
    windows = [None, Window(date(2003, 6, 2), date(2003, 12, 31)), Window(date(2004, 1, 2), date(2004, 6, 30))]
    points = [Point({"fast": fast, "slow": 20}, window) for window in windows for fast in (5, 10, 30)]

    made = [trial for place in range(len(points)) for trial in trials_of(job, points[place : place + 1])]
    together = list(made_together(job, points))

    for point, trial, other in zip(points, made, together, strict=True):
        assert trial.key == other.key == job.key(point)
        assert repr(trial.metrics) == repr(other.metrics)
        assert trial.returns.tobytes() == other.returns.tobytes()
        if point.params["fast"] == 30:
            assert "fast=30 must be less than slow=20" in trial.error
            continue
        alone = result_of(job, point).account
        assert repr(trial.metrics) == repr({name: float(row.function(alone)) for name, row in METRICS.items()})
        assert trial.returns.tobytes() == alone.returns.tobytes()
        assert trial.sessions.tolist() == alone.days.tolist()


def test_a_trial_whose_returns_cannot_be_measured_fails_alone():
    days, equity = np.arange("2024-01-01", "2024-01-04", dtype="datetime64[D]"), np.array([100.0, 110.0, 0.0, 50.0])
    good = Account(days, equity[[0, 1, 0, 1]], returns_of(equity[[0, 1, 0, 1]]), np.ones(3), Trades.none(), 0, 0.0, 0.0,
                   0.0, 252.0)  # fmt: skip
    bad = replace(good, equity=equity, returns=returns_of(equity))

    first, second = _measured([(Trial("a", "case", {}), bad), (Trial("b", "case", {}), good)])

    assert "not below -1" in first.error
    assert not first.metrics
    assert (second.error, second.metrics["total_return"]) == ("", equity[1] / equity[0] - 1)


def made_together(job, points):
    """Yield the trials of points, however many a task makes."""
    while points:
        made = trials_of(job, points)
        yield from made
        points = points[len(made) :]


def test_a_file_of_trials_is_read_once_and_new_ones_are_seen(tmp_path):
    trials = Trials(tmp_path)
    trials.add([trial()])
    (first,) = (tmp_path / "trials").iterdir()
    before = trials.read()
    first.write_bytes(b"damaged since")
    Trials(tmp_path).add([replace(trial(), key="b")])

    found = trials.read()

    assert (list(before), sorted(found)) == (["a"], ["a", "b"])
    with pytest.raises(DamagedStore):
        Trials(tmp_path).read()


def test_trials_that_somebody_removed_are_missed(sample, tmp_path):
    swept(sample, tmp_path, {"fast": [5, 10], "slow": [20]})
    found = Sweep.load(tmp_path)
    for path in (tmp_path / "trials").iterdir():
        path.unlink()

    with pytest.raises(DamagedStore, match="2 trials are missing from"):
        found.to_dict()


@pytest.mark.slow
def test_a_task_gives_back_what_it_did_and_one_trial_at_least(sample):
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)
    points = [Point({"fast": 5, "slow": slow}) for slow in range(20, 400)]

    made = trials_of(job, points)

    assert 1 <= len(made) < len(points)
    assert [one.key for one in made] == [job.key(point) for point in points[: len(made)]]


def test_no_bars_are_left_in_the_way_of_a_job(sample):
    import pickle

    job = job_of(SMA, "AAPL/1day", store=Store("data/sample") if Path("data/sample").exists() else sample, swept=GRID)

    assert len(pickle.dumps(job)) < 2000
    assert job.store.root.is_absolute()


# --- seen


def test_a_place_of_the_map_is_the_median_over_the_other_parameters():
    rows = [({"a": a, "b": b, "c": c}, float(10 * a + b + c**2)) for a in (1, 2) for b in (3, 4) for c in (0, 1, 3)]
    rows.append(({"a": 3, "b": 3, "c": 0}, math.nan))

    cells = medians(rows, ["a", "b"])

    assert cells[:, :2].tolist() == [[14.0, 24.0], [15.0, 25.0]]
    assert np.isnan(cells[:, 2]).all()


def test_a_sweep_is_drawn_over_two_parameters_or_one(finished):
    both, one = finished.plot(), finished.plot("slow")

    assert (both.axes[0].get_xlabel(), both.axes[0].get_ylabel()) == ("fast", "slow")
    assert [text.get_text() for text in both.axes[0].get_xticklabels()] == ["5", "10", "15"]
    assert one.axes[0].get_ylabel() == "Sharpe ratio"
    with pytest.raises(UsageError, match="name one or two of fast, slow"):
        finished.plot("invest")


def test_a_sweep_is_a_frame_with_the_best_first_and_says_how_far_it_can_be_believed(finished):
    frame = finished.to_frame()

    assert frame["sharpe"].is_monotonic_decreasing
    assert list(frame.columns[:2]) == ["fast", "slow"]
    assert "Deflated Sharpe ratio of total returns" in repr(finished)
    assert "probability of overfitting" in finished._repr_html_()


@pytest.mark.slow
def test_the_winner_of_noise_is_not_believed(tmp_path, sample):
    (tmp_path / "noise.py").write_text(NOISE)

    found = swept(sample, tmp_path, {"seed": list(range(20))}, str(tmp_path / "noise.py"), costs="none")

    alone = probabilistic_sharpe(*account_of(found.best_run).moments)
    assert found.deflated_sharpe < min(0.95, alone - 0.1)
    assert found.verdict.words != "no red flags"


NOISE = """
import random
import backtrader as bt

class Noise(bt.Strategy):
    params = dict(seed=0)

    def start(self):
        self.random = random.Random(self.p.seed)

    def next(self):
        self.order_target_percent(target=self.random.choice([-0.9, 0.9]))
"""


@pytest.mark.slow
def test_the_command_line_says_the_same_as_json_within_80_columns(tmp_path, sample, capsys):
    words = ["sweep", SMA, "AAPL/1day", "--grid", "fast=5,10", "--grid", "slow=20,30", "--where", "fast<slow"]
    words += ["--store", str(sample.root), "--out", str(tmp_path)]
    told, document = said(capsys, words), json.loads(said(capsys, [*words, "--json"]))

    assert document["trials"] == document["recorded"] == 4
    assert f"Deflated Sharpe ratio of total returns {document['deflated_sharpe']:.2f}" in " ".join(told.split())
    assert document["best"]["params"] == document["top"][0]["params"]
    assert max(map(len, told.splitlines())) <= 80
    assert (tmp_path / "heatmap.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_command_line_asks_of_each_trial_what_it_asks_of_a_run(sample, tmp_path, capsys):
    asked = ["--slippage", "50bp", "--costs", "bp:10", "--since", "2003-01-02", "--until", "2004-12-31"]
    words = ["sweep", SMA, "AAPL/1day", "--grid", "fast=5,10", "--store", str(sample.root), "--out", str(tmp_path)]
    run_of = run(SMA, "AAPL/1day", store=sample, span=YEARS, params={"fast": 5}, slippage="50bp", costs="bp:10")

    with pytest.raises(SystemExit):
        main([*words, *asked, "--json"])

    capsys.readouterr()
    (trial,) = (one for one in Sweep.load(tmp_path).trials if one.params["fast"] == 5)
    assert trial.metrics["total_return"] == run_of.stats["total_return"]


def said(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("place", ["", "best"])
def test_validate_counts_all_trials_of_a_sweep_against_its_best(finished, capsys, place):
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(finished.folder / place), "--bootstrap", "10", "--json"])
    document = json.loads(capsys.readouterr().out)

    assert not ended.value.code
    assert document["sweep"]["deflated_sharpe"] == finished.deflated_sharpe
    assert f"best of {len(finished.ratios)} trials: deflated Sharpe" in " ".join(document["verdict"]["reasons"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "fast"], "not a valid range"),
        (["--grid", "fats=5,10"], "has no parameter 'fats'; it has fast=10, slow=30, invest=0.95; did you mean fast?"),
        (["--grid", "fast=5", "--where", "fast>9"], "leaves none of the 1 points"),
        (["--grid", "fast=5", "--rank", "sharp"], "costs; did you mean sharpe?"),
        (["--grid", "fast=5", "--set", "fast=6"], "both swept and set"),
        (["--grid", "fast=5", "--resume"], "holds no sweep"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_a_sentence(sample, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(["sweep", SMA, "AAPL/1day", *words, "--store", str(sample.root), "--out", str(tmp_path)])

    assert ended.value.code in (2, 3)
    assert said in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
