"""The machine learning strategy: recomputed, blind to labels that are still to come, and lucky no more than luck."""

import hashlib
import pickle
import subprocess
import sys
from datetime import date

import luck
import numpy as np
import pandas as pd
import pytest
from ledger import Ledger, bars_of
from places import ROOT
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from backtest.api import run
from backtest.engine.code.strategy import load_strategy
from backtest.research.lookahead import look_ahead

pytestmark = pytest.mark.slow

FOUND = load_strategy("machine_learning").cls
features, known_rows, labels = (FOUND.learn.__globals__[name] for name in ("features", "known_rows", "labels"))

SCIKIT = FOUND.learn.__globals__["Scikit"]


def test_the_label_of_the_newest_row_is_just_known():
    # At bar 100 with a horizon of 5, row 95 is told by the close of bar 100; three more rows are kept away.
    assert known_rows(100, horizon=5, embargo=0, window=1000) == slice(20, 96)
    assert known_rows(100, horizon=5, embargo=3, window=1000) == slice(20, 93)
    assert known_rows(100, horizon=5, embargo=3, window=10) == slice(83, 93)


def test_a_label_says_whether_the_close_a_horizon_later_is_higher():
    closes = np.array([10.0, 11, 9, 12, 12, 8])

    assert labels(closes, slice(0, 4), 2).tolist() == [0, 1, 1, 0]


def table(close):
    """Return the features by pandas."""
    logs = np.log(close)
    columns = {bars: logs.diff(bars) for bars in (1, 5, 10, 20)}
    columns |= {"deviation": logs.diff().rolling(20).std(ddof=0), "away": logs - logs.rolling(20).mean()}
    return pd.DataFrame(columns)


def test_features_are_those_of_pandas_and_hang_on_no_later_close(sample):
    close = bars_of(sample, ["AAPL/1day"])["AAPL/1day"].close
    ours = features(close.to_numpy())

    np.testing.assert_allclose(ours[20:], table(close).to_numpy()[20:], rtol=0, atol=1e-12)
    assert np.isnan(ours[:20]).all(axis=1).sum() == 1  # the first has not even a return of one bar
    np.testing.assert_array_equal(features(close.to_numpy()[:500]), ours[:500])


def test_the_run_is_the_one_that_scikit_learn_leads_to(sample):
    bars = {name: frame[:"2006"] for name, frame in bars_of(sample, ["AAPL/1day"]).items()}
    close = bars["AAPL/1day"].close
    rows, rises = table(close).to_numpy(), (close.shift(-5) > close).astype(int).to_numpy()
    state = {"fitted": -63}

    def decide(ledger, number, day):
        if number < 20 + 250 + 5 + 5 or number % 5:
            return
        if number - state["fitted"] >= 63:
            train = slice(max(20, number - 10 + 1 - 750), number - 10 + 1)
            scaler = StandardScaler().fit(rows[train])
            model = LogisticRegression(C=0.1).fit(scaler.transform(rows[train]), rises[train])
            state.update(fitted=number, usual=rises[train].mean(), scaler=scaler, model=model)
        chance = state["model"].predict_proba(state["scaler"].transform(rows[number : number + 1]))[0, 1]
        likely, held = chance > state["usual"], ledger.held["AAPL/1day"]
        if likely != bool(held):
            yield "AAPL/1day", -held or ledger.shares("AAPL/1day", day)

    result = run("machine_learning", "AAPL/1day", store=sample, span=(None, date(2006, 12, 29)))

    ledger = Ledger(bars).run(decide)
    assert [(row.time, row.series, row.size, row.price) for row in result.fills.itertuples()] == ledger.fills
    assert len(ledger.fills) > 20
    assert result.equity.to_numpy() == pytest.approx(np.array(ledger.equity), rel=1e-11)


@pytest.mark.parametrize("model", ["logistic", "trees", "descent"])
def test_each_model_fits_predicts_and_is_saved_as_the_same_bytes(model):
    chance = np.random.default_rng(2)
    known = chance.normal(size=(400, 6))
    told = (known[:, 1] + 0.3 * chance.normal(size=400) > 0).astype(int)
    first, second = (FOUND.learn.__globals__["MODELS"][model](seed=4) for _ in range(2))

    first.fit(known, told)
    second.fit(known, told)

    fresh = chance.normal(size=(200, 6))
    assert np.mean((first.predict(fresh) > 0.5) == (fresh[:, 1] > 0)) > 0.85
    assert first.save() == second.save() != b""


def test_the_models_are_told_with_the_run_by_their_hashes(sample, tmp_path):
    params = {"keep": str(tmp_path), "refit": 1000}

    first, second = (run("machine_learning", "AAPL/1day", store=sample, params=params) for _ in range(2))

    told = first.manifest["notes"]["models"]
    assert told == second.manifest["notes"]["models"]
    assert told[0]["series"] == "AAPL/1day"
    assert told[0]["fitted"][:10] == str(first.record["session"][280])
    assert told[0]["rows"] == 280 - 10 + 1 - 20
    kept = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in tmp_path.iterdir()}
    assert set(kept) == {one["sha256"] for one in told}
    assert pickle.loads(kept[told[0]["sha256"]].read_bytes()).classes_.tolist() == [0, 1]


def test_without_scikit_learn_it_says_what_to_install_and_what_needs_nothing():
    code = "import sys; sys.modules['sklearn'] = None\nfrom backtest.cli.app import main\nmain(sys.argv[1:])"
    words = ["run", "machine_learning", "AAPL/1day", "--store", "data/sample", "--until", "2002-03-01"]

    ran = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 5
    assert "pip install 'ib-backtest[ml]'" in ran.stderr
    assert "--set model=descent" in ran.stderr
    assert "Traceback" not in ran.stderr


class Purged(FOUND):
    """The strategy, with the model of the longest memory: it will be as it was after the bars most alike."""

    def new_model(self):
        return SCIKIT(KNeighborsClassifier(1))


class Unpurged(Purged):
    """The mistake that purging prevents: a table of labels made beforehand, and all rows before the present learnt."""

    def rows(self, now):
        return slice(max(20, now - self.p.window), now)

    def labels(self, data, closes, rows):
        known = np.pad(np.array(data.close.array), (0, self.p.horizon), mode="edge")
        return labels(known, rows, self.p.horizon)


def test_without_purging_a_walk_at_random_seems_predictable(tmp_path):
    store = luck.wandering(tmp_path, bars=2500, seed=11)
    params = {"horizon": 10, "embargo": 0, "refit": 10, "window": 40, "least": 40}
    asked = {"store": store, "params": params, "costs": "none"}

    purged, leaking = (run(cls, "AAPL/1day", **asked) for cls in (Purged, Unpurged))

    assert abs(purged.stats["sharpe"]) < 0.5
    assert leaking.stats["sharpe"] > 1.3  # over ten years
    assert look_ahead(Unpurged, "AAPL/1day", cuts=1, **asked)


def test_with_shuffled_labels_it_is_luck_and_said_to_be(sample):
    found = luck.probabilities(sample, "AAPL/1day", seeds=range(1, 11))

    assert sum(one < 0.95 for one in found) >= 9
    assert len(set(found)) == 10
