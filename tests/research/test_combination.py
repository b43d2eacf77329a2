"""Kept runs as one account: equal to a recomputation in pandas, with parts that add up, kept and judged like a run."""

import json
import math
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from handmade import AAPL, fill, result_of

import backtest
from backtest.api import RunResult
from backtest.baselines.drift import reproduce, save_runs
from backtest.errors import BadStore, UsageError
from backtest.metrics.account import column
from backtest.metrics.combination import Combination
from backtest.report.run_page import page
from backtest.research.lookahead import look_ahead_of
from backtest.validity.validation import validate

COUNT = 70
EVERY = [date(2024, 1, 1) + timedelta(days=n * 7 // 5) for n in range(COUNT)]  # three months and a bit
RANDOM = np.random.default_rng(3)
CLOSES = 50 * np.cumprod(1 + RANDOM.normal(0, 0.02, COUNT))
IBM, MSFT = (AAPL.replace("AAPL", name) for name in ("IBM", "MSFT"))


def made(name, series, days, seed, cash=1000.0):
    """Return a run of random equity and positions, some of them short, on a series of its own."""
    chance = np.random.default_rng(seed)
    count = len(days)
    equity = cash * np.cumprod(1 + chance.normal(0.001, 0.02 * seed, count))
    closes = 50 * np.cumprod(1 + chance.normal(0, 0.02, count))
    run = result_of(equity.tolist(), days=days, closes=closes.tolist(), cash=cash, strategy=f"x.py:{name}",
                    series=(series,))  # fmt: skip
    held = pa.array(np.round(chance.normal(0, 5, count)), pa.float64())
    names = run.record.column_names
    times = pa.array([pd.Timestamp(one, tz="UTC") for one in days], run.record.schema.field("time").type)
    record = run.record.set_column(names.index("position.0"), "position.0", held)
    return replace(run, record=record.set_column(names.index("time"), "time", times))


RUNS = [made("One", AAPL, EVERY, 1), made("Two", IBM, EVERY[2:], 2), made("Three", MSFT, EVERY[:40] + EVERY[43:], 3)]
LETTERS = {"weekly": "W-SUN", "monthly": "M", "quarterly": "Q", "yearly": "Y"}


def recomputed(runs, weights, rebalance, basis_points, cash):
    """Return equity and contributions by pandas alone, from the records of runs on daily bars."""
    frames = [run.record.to_pandas().set_index("session") for run in runs]
    common = sorted(set.intersection(*(set(one.index) for one in frames)))
    before = [one[one.index < max(frame.index[0] for frame in frames)].tail(1) for one in frames]
    equity = pd.DataFrame({n: one["equity"] for n, one in enumerate(frames)}).loc[common]
    held = pd.DataFrame({n: one["position.0"] for n, one in enumerate(frames)}).loc[common]
    close = pd.DataFrame({n: one["close.0"] for n, one in enumerate(frames)}).loc[common]
    start = pd.Series({n: one["equity"].iloc[0] if len(one) else runs[n].spec.cash for n, one in enumerate(before)})
    worth = pd.concat([start.to_frame().T, equity], ignore_index=True)
    periods = pd.PeriodIndex(common, freq=LETTERS[rebalance]) if rebalance in LETTERS else [0] * len(common)
    due = [True, *(one != other for one, other in pairwise(periods)), False]
    returns = worth.pct_change().iloc[1:]
    units, left, total, brought = pd.Series(0.0, index=worth.columns), cash, [], []
    for row in range(len(worth)):
        money = left + (units * worth.iloc[row]).sum()
        gained = units * (worth.iloc[row] - worth.iloc[row - 1]) if row else units * 0
        if row == 0:
            shares, price = [one["position.0"].iloc[0] if len(one) else 0.0 for one in before], None
            price = [one["close.0"].iloc[0] if len(one) else 0.0 for one in before]
        else:
            shares, price = held.iloc[row - 1], close.iloc[row - 1]
        if due[row]:
            wanted = weights(returns.iloc[:row]) * money / worth.iloc[row]
            paid = ((wanted - units) * shares * price).abs() * basis_points / 10_000
            money, units, gained = money - paid.sum(), wanted, gained - paid
            left = money - (units * worth.iloc[row]).sum()
        total.append(money)
        brought.append(gained)
    return np.array(total[1:]), pd.DataFrame(brought)


def equal(_):
    return pd.Series([1 / 3] * 3)


def inverse_volatility(returns):
    if len(returns) < 20:
        return equal(returns)
    inverse = 1 / returns.tail(252).std()
    return inverse / inverse.sum()


GIVEN = {"One": 0.5, "Two": 0.2, "Three": 0.2}


RULES = {"equal": equal, "vol": inverse_volatility, "given": lambda _: pd.Series([*GIVEN.values()])}


@pytest.mark.parametrize(
    ("rebalance", "weights", "basis_points"),
    [("never", "equal", 0), ("weekly", "vol", 7), ("monthly", "given", 7), ("quarterly", "equal", 7)],
)
def test_it_equals_an_independent_recomputation_in_pandas(rebalance, weights, basis_points):
    asked = {run.name: GIVEN[run.spec.name] for run in RUNS} if weights == "given" else weights

    found = backtest.combine(RUNS, weights=asked, rebalance=rebalance, costs=f"bp:{basis_points}", cash=5000)
    equity, brought = recomputed(RUNS, RULES[weights], rebalance, basis_points, 5000.0)

    assert found.equity.to_numpy() == pytest.approx(equity, rel=1e-12)
    contributions = found.combination.to_frame()["contribution"].to_numpy()
    assert contributions == pytest.approx(brought.sum().to_numpy(), rel=1e-10, abs=1e-10)
    assert contributions.sum() == pytest.approx(equity[-1] - 5000, rel=1e-12, abs=1e-9)


def test_correlation_risk_and_drawdown_are_those_of_the_returns():
    found = backtest.combine(RUNS, costs="none")
    equity, brought = recomputed(RUNS, equal, "monthly", 0, 3000.0)
    every = pd.concat([pd.Series([3000.0]), pd.Series(equity)], ignore_index=True)
    moved, returns = brought.iloc[1:].div(every[:-1].to_numpy(), axis=0), every.pct_change().iloc[1:]
    depth = every / every.cummax() - 1
    common = backtest.compare(RUNS, samples=1).returns

    combination = found.combination

    assert combination.correlation_frame().to_numpy() == pytest.approx(pd.DataFrame(common.T).corr().to_numpy())
    risks = [np.cov(moved[n], returns)[0, 1] / returns.var() for n in range(3)]
    assert [one.risk for one in combination.runs] == pytest.approx(risks)
    assert sum(risks) == pytest.approx(1)
    assert combination.depth == pytest.approx(depth.min()) == found.stats["max_drawdown"]
    trough = int(depth.argmin())
    peak = int(every[: trough + 1].argmax())
    assert sum(one.fall for one in combination.runs) == pytest.approx(every[trough] - every[peak])
    alone = np.hstack([np.ones((3, 1)), np.cumprod(1 + common, axis=1)])
    below = (alone < np.maximum.accumulate(alone, axis=1))[:, 1:].all(axis=0).mean()
    assert combination.all_below == pytest.approx(below)
    assert f"{below * 100:.1f} %" in combination.drawdown


def test_who_begins_late_has_the_others_buy_what_they_hold_by_then():
    early = made("One", AAPL, EVERY, 1)

    found = backtest.combine([early, made("Two", IBM, EVERY[30:], 2)], costs="bp:10", rebalance="never", cash=2000)

    held, close, worth = (column(early.record, name)[29] for name in ("position.0", "close.0", "equity"))
    first = found.fills.iloc[0]
    assert (first["series"], first["size"], first["price"]) == ("AAPL/1day", held * 1000 / worth, close)
    assert first["costs"] == pytest.approx(abs(held) * 1000 / worth * close * 0.001)
    assert len(found.record) == COUNT - 30


@pytest.fixture(scope="module")
def real(sample):
    """Return two runs on the sample, of which one trades AAPL alone and one AAPL and IBM."""
    asked = {"store": sample, "start": "2003-01-02", "end": "2003-12-31", "lines": False}
    first = backtest.run("sma_cross", "AAPL/1day", params={"fast": 5, "slow": 15}, **asked)
    return [first, backtest.run("buy_and_hold", ["AAPL/1day", "IBM/1day"], slippage="5bp", **asked)]


@pytest.fixture(scope="module")
def both(real):
    return backtest.combine(real, rebalance="quarterly")


@pytest.mark.slow
def test_cash_and_positions_make_the_equity_and_fills_the_positions(both):
    record = both.record
    worth = sum(column(record, f"position.{n}") * column(record, f"close.{n}") for n in range(2))

    assert column(record, "cash") + worth == pytest.approx(column(record, "equity"), rel=1e-12)
    for n, name in enumerate(both.series):
        fills = both.fills[both.fills["series"] == name]
        after = [fills["size"][fills["time"] <= time].sum() for time in both.record["time"].to_pylist()]
        assert column(record, f"position.{n}") == pytest.approx(np.array(after), abs=1e-9)
    paid = (both.fills["size"] * both.fills["price"] + both.fills["costs"]).sum()
    assert both.spec.cash - paid == pytest.approx(column(record, "cash")[-1])
    slipped = (both.fills["size"] * (both.fills["price"] - both.fills["unslipped"])).sum()
    assert both.stats["costs"] == pytest.approx(both.fills["costs"].sum() + slipped)


@pytest.mark.slow
def test_what_a_rebalancing_costs_is_what_each_run_is_charged(both, real):
    at = both.fills[both.fills["ref"].isin(both.orders["ref"][both.orders["kind"] == "Close"])]
    moved = at[at["series"] == "IBM/1day"]  # held by the second run alone, whose slippage is 5 bp

    assert len(moved) == both.combination.rebalanced == 3
    value = (moved["size"].abs() * moved["price"]).to_numpy()
    fee = np.minimum(np.maximum(0.005 * moved["size"].abs(), 1.0), 0.01 * value)
    assert moved["costs"].to_numpy() == pytest.approx(fee + 0.0005 * value)
    assert at["costs"].sum() == pytest.approx(sum(one.costs for one in both.combination.runs))


@pytest.mark.slow
def test_a_combination_is_kept_measured_and_judged_like_a_run(both, real, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    for run, name in zip(real, ("sma", "hold"), strict=True):
        run.save(f"runs/{name}")
    (tmp_path / "weights.csv").write_text("run,weight\nsma,0.25\nhold,0.5\n")

    code, out, _ = call("combine", "sma", "hold", "--weights", "weights.csv", "--out", "runs/both", "--json")
    told = json.loads(out)
    kept = RunResult.load("runs/both")

    assert code == 0
    assert told["combination"] == kept.combination.to_dict()
    assert kept.combination.runs[0].label == "sma"
    assert 0.2 < kept.combination.runs[0].weight < 0.3
    assert "ib-fixed, slippage 5bp" in kept.stats.basis
    again = backtest.combine(["sma", "hold"], weights={"sma": 0.25, "hold": 0.5})
    assert (kept.name, kept.stats.to_dict(), kept.stats.basis) == (again.name, again.stats.to_dict(), again.stats.basis)
    assert isinstance(kept.combination, Combination)
    assert "both" in call("runs", "ls")[1]
    assert "Sharpe difference from both" in call("compare", "both", "sma", "--bootstrap", "20")[1].replace("\n", " ")
    assert "alpha over" in call("validate", "both", "--bootstrap", "20", "--regimes")[1]
    validity = validate(kept, samples=10)
    shown = page(kept, validity)
    assert "combine runs that were made at each multiple" in validity.costs_basis
    assert all(words in shown for words in ("Combined runs", "Correlation of returns", "every run was below"))
    shown = call("runs", "show", "both")[1]
    assert "correlation" in shown
    assert "of all sessions every run was below its own peak" in " ".join(shown.split())


@pytest.mark.slow
def test_there_is_nothing_to_run_again(both, sample, call, tmp_path):
    both.save(tmp_path / "both")

    for again in (lambda: look_ahead_of(both.spec, sample), lambda: reproduce(both, "both", sample),
                  lambda: save_runs([both], tmp_path, sample)):  # fmt: skip
        with pytest.raises(UsageError, match="no strategy to run again"):
            again()
    assert (
        "no strategy to run again" in call("validate", tmp_path / "both", "--bootstrap", "10", "--cost-cases", "1")[2]
    )


def plain(name="One", days=3, **spec):
    return result_of([100.0 + n for n in range(days)], strategy=f"x.py:{name}", **spec)


LATER = result_of([100.0, 101.0], days=[date(2030, 1, 1), date(2030, 1, 2)], strategy="x.py:Later")
IN_EUR = plain("Two", series=(AAPL.replace("USD", "EUR"),))
ADDS = replace(plain("Two"), record=plain().record.append_column("flow", pa.array([0.0, 5.0, 0.0])))
OTHER_CLOSES = result_of([100.0, 101.0, 102.0], closes=[1.0, 2.0, 3.0], strategy="x.py:Two")


@pytest.mark.parametrize(
    ("runs", "options", "reason"),
    [
        ([plain()], {}, "nothing to combine"),
        ([plain(), plain()], {}, "named twice"),
        ([plain(), IN_EUR], {}, "base currencies .*USD.*EUR"),
        ([plain(), LATER], {}, "have no session in common"),
        ([plain(), plain("Two", risk_free=0.02)], {}, "risk-free rates"),
        (
            [plain(), plain("Two", dividends="derived", withholding=0.15)], {},
            r"\(One\S*: none; Two\S*: derived, 15 % withheld\), .* the same dividends and withholding tax",
        ),
        ([plain(), ADDS], {}, "adds or withdraws cash"),
        ([plain(), OTHER_CLOSES], {}, "other closes of AAPL/1day"),
        ([plain(), plain("Two", slippage="impact:0.1")], {}, "needs bars"),
        ([plain(), plain("Two")], {"weights": "vol", "rebalance": "never"}, "by volatility need rebalancing"),
        ([plain(), plain("Two")], {"weights": {"x": 0.5}}, "no run 'x'"),
        ([plain(), plain("Two")], {"weights": "missing.csv"}, "cannot be read"),
        ([plain(), plain("Two")], {"weights": 5}, "write .equal., .vol., or the path"),
        ([plain(), plain("Two")], {"rebalance": "daily"}, "write one of never, weekly, monthly"),
        ([plain(), plain("Two")], {"costs": "bp"}, "unknown costs 'bp'"),
        ([plain(), plain("Two")], {"cash": -1}, "cash is -1"),
        ("runs", {}, "name two or more runs"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined_is_refused_with_the_reason(runs, options, reason):
    with pytest.raises(UsageError, match=reason):
        backtest.combine(runs, **options)


@pytest.mark.parametrize(
    ("given", "reason"),
    [([0.7, 0.7], "add up to 1.4"), ([0.5, None], "no weight for"), ([-0.1, 0.5], "a share of the account"),
     ([0.0, 0.0], "add up to 0"), ([math.nan, 0.5], "is nan")],
)  # fmt: skip
def test_weights_are_shares_of_the_account(given, reason):
    runs = [plain(), plain("Two")]

    with pytest.raises(UsageError, match=reason):
        backtest.combine(runs, weights={run.name: one for run, one in zip(runs, given, strict=True) if one is not None})


def test_the_rest_of_the_weights_stays_cash():
    runs = [plain(), plain("Two", days=3)]

    found = backtest.combine(runs, weights={runs[0].name: 0.5, runs[1].name: 0.0}, costs="none", cash=1000)

    assert found.equity.tolist() == [1000.0, 1005.0, 1010.0]
    assert column(found.record, "cash")[0] == 500 + 5 * 100  # the run's own cash, as its record has it


def test_a_combination_of_combinations_names_its_costs():
    inner = backtest.combine(RUNS[:2], costs="none")

    with pytest.raises(UsageError, match="is a combination itself"):
        backtest.combine([inner, RUNS[2]])
    assert len(backtest.combine([inner, RUNS[2]], costs="bp:5").combination.runs) == 2


def test_what_one_who_lost_all_had_stays_lost():
    lost = result_of([50.0, 0.0, 0.0], closes=[100.0, 101.0, 102.0], strategy="x.py:Lost")

    found = backtest.combine([lost, plain("Two")], rebalance="weekly", costs="none")

    assert found.equity.iloc[-1] == pytest.approx(102.0)


@pytest.mark.slow
def test_a_damaged_combination_is_said_to_be_one(both, tmp_path):
    both.save(tmp_path)
    path = tmp_path / "manifest.json"
    kept = json.loads(path.read_text())
    kept["combination"]["runs"][0]["gain"] = "much"
    path.write_text(json.dumps(kept))

    with pytest.raises(BadStore, match=r"combination\.runs\[0\]\.gain"):
        _ = RunResult.load(tmp_path).stats


def test_trades_are_matched_across_rebalancings():
    days = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1)]
    fills = [fill(0, 2.0, 100.0), fill(2, -2.0, 120.0)]
    run = result_of([100.0, 110.0, 120.0], fills, days=days, closes=[100.0, 110.0, 120.0])
    idle = result_of([100.0, 100.0, 100.0], days=days, closes=[100.0, 110.0, 120.0], strategy="x.py:Idle")

    found = backtest.combine([run, idle], costs="none")

    # 2 bought at 100; at the end of January 210 are 105 each, 21/22 of the units; the rest is sold at 120.
    assert found.trades["size"].tolist() == pytest.approx([2 / 22, 2 * 21 / 22])
    assert found.trades["net"].tolist() == pytest.approx([10 * 2 / 22, 20 * 2 * 21 / 22])


def test_what_a_contract_is_worth_stays_and_each_run_says_how_it_is_paid():
    future = plain("Two", series=("ES-FUT-CME-USD-202412/1day",), costs="futures:2.25:50:15000")

    found = backtest.combine([future, plain()], rebalance="weekly")

    assert found.spec.points == (50.0, 1.0)
    assert "a point of ES worth 50 USD" in found.spec.conditions
    assert "paid for in full" not in found.stats.basis
    assert "costs futures:2.25:50:15000" in found.stats.basis
