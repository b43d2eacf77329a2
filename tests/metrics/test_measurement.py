"""When the metrics of a run are computed, and that nobody sees it in the numbers."""

import copy
import gc
import math
import pickle
import weakref

import numpy as np
import pytest
from handmade import fill, result_of

from backtest.metrics import METRICS
from backtest.metrics.account import alone
from backtest.metrics.measurement import measure
from backtest.metrics.table import metric_value


def unread():
    run = result_of([110.0, 99.0, 120.0, 132.0], [fill(0, 1, 10.0)])
    return run.stats, run.account


def test_a_metric_is_computed_when_it_is_read():
    stats, account = unread()

    assert stats["sharpe"] == stats["Sharpe ratio"] == stats.get("sharpe")
    assert "intervals" not in vars(alone(account))  # which only the confidence interval needs
    assert not math.isnan(stats["sharpe_low"])
    assert "intervals" in vars(alone(account))


@pytest.mark.parametrize(
    "handed_on",
    [lambda stats: stats, copy.copy, lambda stats: pickle.loads(pickle.dumps(stats))],
    ids=["itself", "a copy", "pickled"],
)
def test_whatever_is_read_first_all_numbers_and_reasons_are_the_same(handed_on):
    stats, account = unread()
    assert stats["win_rate"] != stats["win_rate"]  # there is no closed trade

    stats = handed_on(stats)

    expected = {name: metric_value(row, account) for name, row in METRICS.items()}
    assert list(stats) == list(METRICS) == list(stats.numbers)
    assert np.array_equal([*stats.values()], [*expected.values()], equal_nan=True)
    assert {type(value) for value in stats.values()} == {float}
    assert stats.reasons == {name: value.reason for name, value in expected.items() if math.isnan(value)}
    assert stats.to_dict() == {name: None if math.isnan(value) else value for name, value in expected.items()}


def test_only_the_latest_keep_the_accounts_of_their_runs_in_memory():
    every, accounts = [], []
    for _ in range(20):
        stats, account = unread()
        every.append(stats)
        accounts.append(weakref.ref(account))
    del stats, account
    gc.collect()

    kept = [account() is not None for account in accounts]
    assert kept == [False] * 4 + [True] * 16
    assert len({stats["sharpe_low"] for stats in every}) == 1

    every[-1].text("sharpe")  # which may have to give a reason, so that all are computed

    assert accounts[-1]() is None


def test_equity_that_has_no_returns_is_refused_before_a_metric_is_read():
    run = result_of([110.0, 0.0, 120.0], [])  # money out of nothing

    with pytest.raises(ValueError, match="returns must be finite"):
        measure(run)
