import json
import math
import re
from datetime import UTC, date, datetime, time

import numpy as np
import pytest
from unpacked import chart_in

from backtest.api import run
from backtest.cli.app import main
from backtest.errors import BadStore, NoBars, StrategyError, UsageError
from backtest.market.bars import table_of
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.table import METRICS
from backtest.report.rendering import typeset
from backtest.research.out_of_sample.cross_validation import cross_validate
from backtest.research.out_of_sample.walk_forward import WalkForward, request_of, walk_forward
from backtest.research.search.sweeps import sweep
from backtest.research.search.trials import Trials
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
DAYS = [one.day for one in sessions(hours_of(AAPL.instrument), date(2024, 1, 2), date(2024, 6, 28))]
CLOSES = [100.0 + n for n in range(30)] + [128.0 - n for n in range(30)]  # up to 129, then down to 99
HOLDS = """
import backtrader as bt

class Holds(bt.Strategy):
    params = dict(side=1)

    def next(self):
        if not self.position:
            self.buy(size=100) if self.p.side > 0 else self.sell(size=100)
"""
SIDES = {"side": [-1, 1]}


def store_of(folder, closes):
    """Return a store of daily bars; each opens at the close before."""
    store = Store(folder)
    opens = [closes[0], *closes[:-1]]
    rows = [
        (datetime.combine(day, time(), UTC), opened, max(opened, closed), min(opened, closed), closed, 1e6, None, None)
        for day, opened, closed in zip(DAYS, opens, closes, strict=False)
    ]
    store.write(AAPL, Span.of_dates(DAYS[0], DAYS[len(closes) - 1]), table_of(rows), source="made up")
    return store


@pytest.fixture
def market(tmp_path):
    (tmp_path / "holds.py").write_text(HOLDS)
    return store_of(tmp_path / "bars", CLOSES)


def test_a_window_in_which_a_series_has_no_bar_yet_is_refused_by_the_name_of_the_series(tmp_path):
    (tmp_path / "holds.py").write_text(HOLDS)
    store, late = store_of(tmp_path / "bars", CLOSES), Series.parse("IBM/1day")
    store.write(
        late,
        Span.of_dates(DAYS[50], DAYS[59]),
        table_of(
            [(datetime.combine(day, time(), UTC), 10.0, 10.0, 10.0, 10.0, 1e6, None, None) for day in DAYS[50:60]]
        ),
    )

    with pytest.raises(NoBars, match=r"IBM/1day has no bars before .*; begin where all series have bars"):
        walk_forward(str(tmp_path / "holds.py"), [AAPL, late], SIDES, train=20, test=10, store=store)


def test_a_kept_run_of_a_span_is_walked_through_up_to_the_last_session_before_its_end(market, tmp_path):
    kept = run(str(tmp_path / "holds.py"), AAPL, store=market, span=Span.of_dates(DAYS[0], DAYS[29]))

    assert request_of(kept, {}, None)["span"] == (DAYS[0], DAYS[29])


def forward(market, place, train=20, test=10, **more):
    strategy = str(place / "holds.py")
    asked = {"rank": "total_return", "costs": "none", "folder": place / "kept", **more}
    return walk_forward(strategy, AAPL, SIDES, train=train, test=test, store=market, **asked)


def equity(side, first, last):
    """Return what a window's run makes of 100,000: asked for at its first close, filled there at the next opening."""
    return [100_000 + side * 100 * (CLOSES[row] - CLOSES[first]) for row in range(first, last + 1)]


def test_each_step_chooses_what_was_best_before_and_meets_what_came_after(market, tmp_path):
    found = forward(market, tmp_path)

    # From the rows 20 to 39 the price goes from 120 to 119: that is the first time that selling was better.
    assert [step.params["side"] for step in found.steps] == [1, 1, -1, -1]
    assert [(step.test.first, step.test.last) for step in found.steps] == [
        (DAYS[n], DAYS[n + 9]) for n in (20, 30, 40, 50)
    ]
    assert [(step.train.first, step.train.last) for step in found.steps] == [
        (DAYS[n], DAYS[n + 19]) for n in (0, 10, 20, 30)
    ]
    assert found.equity.iloc[-1] == pytest.approx(100_000 * 1.009 * 0.991 * 1.009 * 1.009)
    assert [f"{day:%Y-%m-%d}" for day in found.equity.index] == [str(day) for day in DAYS[20:60]]


def test_efficiency_compares_returns_outside_with_those_inside(market, tmp_path):
    found = forward(market, tmp_path)

    def mean(windows):
        moves = [np.diff(money) / money[:-1] for money in ([100_000, *equity(*one)] for one in windows)]
        return np.concatenate(moves).mean()

    outside = mean([(1, 20, 29), (1, 30, 39), (-1, 40, 49), (-1, 50, 59)])
    inside = mean([(1, 0, 19), (1, 10, 29), (-1, 20, 39), (-1, 30, 49)])
    assert found.efficiency == pytest.approx(outside / inside, rel=1e-9)
    assert found.stats["sharpe"] == pytest.approx(
        found.returns.mean() / found.returns.std(ddof=1) * math.sqrt(252), rel=1e-9
    )


def test_drift_is_how_far_a_parameter_moves_between_its_ends(market, tmp_path):
    found = forward(market, tmp_path)

    assert found.drift == {"side": pytest.approx(1 / 3)}  # of three moves one, from end to end


def test_an_anchored_walk_forward_learns_from_the_first_session_on(market, tmp_path):
    found = forward(market, tmp_path, anchored=True)

    assert {step.train.first for step in found.steps} == {DAYS[0]}
    assert [step.params["side"] for step in found.steps] == [1, 1, 1, 1]  # 109 at row 49 is above 100 still


@pytest.mark.slow
def test_steps_are_the_same_whatever_comes_after_them(market, tmp_path):
    known = store_of(tmp_path / "known", CLOSES[:40])
    otherwise = store_of(tmp_path / "otherwise", CLOSES[:40] + [200.0 + 7 * n for n in range(20)])

    steps = [
        [(step.params, str(step.test), step.outside.returns.tolist()) for step in found.steps]
        for found in (
            forward(store, tmp_path, folder=tmp_path / name)
            for name, store in (("a", market), ("b", known), ("c", otherwise))
        )
    ]

    assert steps[0][:2] == steps[1] == steps[2][:2]
    assert steps[0][2][2] != steps[2][2][2]
    assert steps[0][2][0] == steps[2][2][0]  # chosen from rows 20 to 39


@pytest.mark.slow
def test_a_walk_forward_goes_on_where_it_was_stopped_and_counts_its_trials(market, tmp_path):
    told = []
    forward(market, tmp_path)
    before = Trials(tmp_path / "kept").read()

    again = forward(market, tmp_path, tell=told.append)

    assert (len(before), len(again.steps), told) == (4 * 2 + 4, 4, [])  # each side in each window, and each choice
    assert len(Trials(tmp_path / "kept").read()) == len(before)


def test_a_window_in_which_nothing_has_a_rank_is_named(market, tmp_path):
    with pytest.raises(StrategyError, match=f"no point has a value for win_rate from {DAYS[0]} to {DAYS[19]}"):
        forward(market, tmp_path, rank="win_rate")  # as no trade is ever closed


SELDOM = """
import backtrader as bt

class Seldom(bt.Strategy):
    params = dict(above=125)

    def next(self):
        if not self.position and self.data.close[0] > self.p.above:
            self.buy(size=100)
"""


@pytest.mark.parametrize("rank", ["sharpe", "total_return"])
def test_a_window_in_which_no_parameters_traded_is_followed_by_cash(tmp_path, capsys, rank):
    closes = [100.0] * 25 + [126.0 + n % 3 for n in range(35)]  # nothing is traded in the rows 0 to 19
    (tmp_path / "seldom.py").write_text(SELDOM)
    asked = {"train": 20, "test": 10, "store": store_of(tmp_path / "bars", closes), "folder": tmp_path / "kept"}

    found = walk_forward(str(tmp_path / "seldom.py"), AAPL, {"above": [110, 125]}, rank=rank, costs="none", **asked)

    assert [step.cash for step in found.steps] == [True, False, False, False]
    assert [step.params["above"] for step in found.steps] == [None, 110, 110, 110]
    assert found.sessions.tolist() == DAYS[20:60]
    assert found.returns[:10].tolist() == [0.0] * 10
    assert found.returns[11:20].any()
    assert found.drift == {"above": 0.0}
    assert "Steps in cash, because no parameters traded in sample: 1." in found.summary
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["steps"][0]["above"] is None


def test_cash_out_of_sample_earns_what_idle_cash_is_asked_to(tmp_path):
    (tmp_path / "seldom.py").write_text(SELDOM)
    asked = {"train": 20, "test": 10, "store": store_of(tmp_path / "bars", [100.0] * 40), "folder": tmp_path / "kept"}

    found = walk_forward(str(tmp_path / "seldom.py"), AAPL, {"above": [110, 125]}, cash_rate=0.05, **asked)
    alone = run(str(tmp_path / "seldom.py"), AAPL, store=asked["store"], cash_rate=0.05, start=DAYS[20], end=DAYS[29])

    assert [step.cash for step in found.steps] == [True, True]
    assert found.returns[:10].tolist() == alone.returns.tolist()
    assert found.returns[9] > 0


def test_a_walk_forward_is_kept_below_its_trials_and_read_again(market, tmp_path):
    found = forward(market, tmp_path, anchored=True)

    again = WalkForward.load(tmp_path / "kept" / "walk-forward-20-10-anchored")

    assert again == found
    assert again.summary == found.summary
    assert again.to_dict() == found.to_dict()
    assert (again.strategy, again.series, again.currency) == ("Holds", (AAPL.key,), "USD")


def test_a_walk_forward_with_steps_in_cash_is_read_again(tmp_path):
    (tmp_path / "seldom.py").write_text(SELDOM)
    closes = [100.0] * 25 + [126.0 + n % 3 for n in range(15)]
    asked = {"train": 20, "test": 10, "store": store_of(tmp_path / "bars", closes), "folder": tmp_path / "kept"}
    found = walk_forward(str(tmp_path / "seldom.py"), AAPL, {"above": [110, 125]}, cash_rate=0.05, **asked)

    again = WalkForward.load(found.folder)

    assert [step.cash for step in again.steps] == [True, False]
    assert again.returns.tolist() == found.returns.tolist()
    assert again.sessions.tolist() == found.sessions.tolist()
    assert again.to_dict() == found.to_dict()


def test_a_walk_forward_that_cannot_be_read_says_why(market, tmp_path):
    folder = forward(market, tmp_path).folder
    text = (folder / "walk_forward.json").read_text()

    def load_with(old, new):
        assert old in text
        (folder / "walk_forward.json").write_text(text.replace(old, new))
        return WalkForward.load(folder)

    with pytest.raises(BadStore, match=r"steps\[0\].train.first"):
        load_with('"first": "2024-01-02"', '"first": "2024-01-32"')
    with pytest.raises(BadStore, match="it lacks 1 of its 8 trials"):
        load_with(json.loads(text)["steps"][0]["outside"], "0" * 16)
    with pytest.raises(BadStore, match="unknown metric 'luck'"):
        load_with('"rank": "total_return"', '"rank": "luck"')
    with pytest.raises(BadStore, match="holds no walk-forward"):
        WalkForward.load(tmp_path)


@pytest.mark.slow
def test_the_page_of_a_walk_forward_has_its_numbers_windows_and_parameters(market, tmp_path):
    found = forward(market, tmp_path)

    text = found.report().read_text(encoding="utf-8")

    about, columns = chart_in(text)
    windows, side = about["panes"][2:]
    assert columns["pane.0.0"] == pytest.approx(found.equity.to_numpy(), abs=0.005)
    assert columns["pane.1.0"].min() == pytest.approx(found.stats["max_drawdown"], abs=5e-7)
    assert [one["kind"] for one in windows["bands"]] == [
        "learnt",
        "gained",
        "learnt",
        "lost",
        *["learnt", "gained"] * 2,
    ]
    assert (windows["bands"][0]["from"], windows["bands"][0]["to"]) == (days_since(DAYS[0]), days_since(DAYS[19]) + 1)
    assert (side["title"], side["choices"]) == ("side", ["-1", "1"])
    assert columns["pane.3.0"].tolist() == [1.0] * 20 + [0.0] * 20
    shown = dict(re.findall(r'<tr data-metric="(\w+)"><td>[^<]*</td><td class="number">([^<]*)</td>', text))
    known = [name for name in found.stats if METRICS[name].group != "benchmark"]
    assert shown == {name: typeset(found.stats.text(name)) for name in known}
    first, outside = found.steps[0], METRICS["total_return"].text(found.steps[0].outside.metrics["total_return"])
    assert f"<td>{first.test.first} to {first.test.last}</td><td>1</td>" in text
    assert f'<td class="number">{typeset(outside)}</td>' in text
    assert "srcdoc=" in found.explore()._repr_html_()


def days_since(day):
    return (day - date(1970, 1, 1)).days


def crossed(market, folder, **more):
    asked = {"rank": "total_return", "costs": "none", "folder": folder / "kept", "groups": 6, **more}
    return cross_validate(str(folder / "holds.py"), AAPL, SIDES, store=market, **asked)


@pytest.mark.parametrize(("tested", "purge", "embargo"), [(1, 0, 0), (2, 0, 0), (2, 3, 4)])
def test_each_fold_chooses_without_its_test_and_paths_are_stitched_of_tests(market, tmp_path, tested, purge, embargo):
    from itertools import combinations

    found = crossed(market, tmp_path, tested=tested, purge=purge, embargo=embargo)

    made = {
        side: [
            np.diff(money) / money[:-1] for money in ([100_000.0, *equity(side, n, n + 9)] for n in range(0, 60, 10))
        ]
        for side in (-1, 1)
    }
    expected = []
    for test in combinations(range(6), tested):
        rows = {row for group in test for row in range(10 * group - purge, 10 * group + 10 + purge + embargo)}
        learnt = [row for row in range(60) if row not in rows]
        gains = {side: math.prod(1 + np.concatenate(made[side])[learnt]) for side in made}
        expected.append((test, {"side": max(gains, key=gains.get)}))
    assert found.chosen == expected
    assert len(found.paths) == math.comb(5, tested - 1)
    for number, path in enumerate(found.paths):
        sides = [[params["side"] for test, params in expected if group in test][number] for group in range(6)]
        whole = np.concatenate([made[side][group] for group, side in enumerate(sides)])
        assert path == pytest.approx(whole, rel=1e-9, abs=1e-15)


def test_cross_validation_ranks_by_what_returns_can_tell(market, tmp_path):
    with pytest.raises(UsageError, match="win_rate cannot be computed from returns alone"):
        crossed(market, tmp_path, rank="win_rate")


def test_points_that_fail_are_left_out_and_counted(sample, tmp_path):
    grid, span = {"fast": [5, 30], "slow": [20]}, (date(2003, 1, 2), date(2003, 12, 31))

    found = cross_validate("sma_cross", AAPL, grid, store=sample, span=span, folder=tmp_path, groups=3, tested=1)

    assert found.failed == 1
    assert {params["fast"] for _, params in found.chosen} == {5}
    with pytest.raises(StrategyError, match=r"each point fails .* must be less than"):
        cross_validate(
            "sma_cross", AAPL, {"fast": [30]}, params={"slow": 20}, store=sample, span=span, folder=tmp_path, groups=3
        )


@pytest.mark.slow
def test_validate_says_regimes_walk_forward_and_cross_validation_of_a_sweep(sample, tmp_path, capsys):
    span, grid = (date(2003, 1, 2), date(2006, 12, 29)), {"fast": [5, 10], "slow": [20, 40]}
    sweep("sma_cross", AAPL, grid, store=sample, span=span, folder=tmp_path, where=lambda point: point["fast"] < 10)
    words = ["validate", str(tmp_path), "--store", str(sample.root), "--bootstrap", "10", "--regimes"]
    words += ["--walk-forward", "1y/6m", "--cpcv", "4,2", "--purge", "5"]

    out = said(capsys, words)
    document = json.loads(said(capsys, [*words, "--json"]))

    assert [row["fast"] for row in document["walk_forward"]["steps"]] == [5] * 6  # 4 years but the first, by half years
    assert f"efficiency {document['walk_forward']['efficiency']:.2f}" in " ".join(out.split())
    assert len(document["cpcv"]["paths"]) == 3
    assert set(document["regimes"]["regimes"]) >= {"bull", "bear", "high volatility", "low volatility"}
    assert document["sweep"]["recorded"] == 2  # trials in windows do not count as ones on all bars
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_validate_of_a_run_walks_with_its_own_parameters_or_a_grid(sample, tmp_path, capsys):
    run("sma_cross", AAPL, store=sample, span=(date(2003, 1, 2), date(2005, 12, 30)), params={"slow": 40}).save(
        tmp_path
    )
    words = ["validate", str(tmp_path), "--store", str(sample.root), "--bootstrap", "10", "--walk-forward", "252/126"]

    own = json.loads(said(capsys, [*words, "--json"]))
    other = json.loads(said(capsys, [*words, "--json", "--grid", "slow=20,40", "--where", "slow<30"]))

    params = [trial.params for trial in Trials(tmp_path).read().values()]
    assert own["walk_forward"]["drift"] == {}
    assert {row["slow"] for row in other["walk_forward"]["steps"]} == {20}
    assert {one["slow"] for one in params} == {20, 40}


@pytest.mark.parametrize(
    "words", [("--walk-forward", "3y"), ("--walk-forward", "0/5"), ("--cpcv", "6"), ("--cpcv", "3,3")]
)
def test_validate_refuses_lengths_that_are_none(sample, tmp_path, capsys, words):
    run("sma_cross", AAPL, store=sample, span=(date(2003, 1, 2), date(2004, 12, 30))).save(tmp_path)

    with pytest.raises(SystemExit) as ended:
        main(["validate", str(tmp_path), "--store", str(sample.root), "--bootstrap", "10", *words])

    assert ended.value.code == 2
    assert "write " in capsys.readouterr().err or words[1] == "0/5"


def said(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.slow
def test_two_series_and_minutes_walk_forward_too(sample, intraday, tmp_path):
    span = (date(2003, 1, 2), date(2004, 12, 31))
    pair = walk_forward(
        "sma_cross", ["AAPL/1day", "IBM/1day"], {"slow": [20, 40]}, train=252, test=126, store=sample, span=span,
        folder=tmp_path / "a",
    )  # fmt: skip
    minutes = walk_forward(
        "sma_cross", "AAPL/1min", {"slow": [60, 90]}, train=4, test=2, store=intraday, folder=tmp_path / "b",
        rank="total_return",
    )  # fmt: skip

    assert [len(step.outside.returns) for step in pair.steps] == [126, 126]
    assert pair.sessions.astype(str).tolist()[:: len(pair.sessions) - 1] == ["2004-01-02", "2004-12-31"]
    assert [str(day) for day in minutes.sessions] == [f"2024-03-{day:02}" for day in (8, 11, 12, 13, 14, 15)]
