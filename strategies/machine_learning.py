"""Machine learning: a model that is retrained at intervals on past bars, and predicts the next ones."""

import hashlib
import pickle
from pathlib import Path
from typing import Protocol

import backtrader as bt
import numpy as np

LONGEST = 20  # bars that the features look back


class Model(Protocol):
    """The interface of a model; `MODELS` lists the built-in ones."""

    def fit(self, features, labels):
        """Fit the model to features of shape (rows, columns) and to labels: 1 if the price rose, 0 if not."""

    def predict(self, features):
        """Return the probability of a rise for each row."""

    def save(self):
        """Return the fitted model as bytes, equal for equal models: the run saves their hash."""


class Scikit:
    """
    An adapter for classifiers with scikit-learn's interface.

    LightGBM and XGBoost have it, too: `Scikit(LGBMClassifier(random_state=seed))`.
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, features, labels):
        self.estimator.fit(features, labels)

    def predict(self, features):
        return self.estimator.predict_proba(features)[:, list(self.estimator.classes_).index(1)]

    def save(self):
        return pickle.dumps(self.estimator)


class Descent:
    """
    A model trained in a loop: here a logistic regression in numpy.

    With PyTorch or TensorFlow, `fit` creates the network and the optimiser and runs the same loop (forward pass, error,
    gradient, step); `predict` is the forward pass, and `save` returns the bytes of the `state_dict`.
    """

    def __init__(self, rate=0.5, steps=200):
        self.rate, self.steps = rate, steps

    def fit(self, features, labels):
        self.mean, self.deviation = features.mean(axis=0), features.std(axis=0) + 1e-12
        self.weights = np.zeros(features.shape[1] + 1)
        for _ in range(self.steps):
            error = self.predict(features) - labels
            self.weights -= self.rate * self._inputs(features).T @ error / len(labels)

    def predict(self, features):
        return 1 / (1 + np.exp(-self._inputs(features) @ self.weights))

    def save(self):
        return np.concatenate([self.mean, self.deviation, self.weights]).tobytes()

    def _inputs(self, features):
        return np.column_stack([(features - self.mean) / self.deviation, np.ones(len(features))])


def logistic(seed):
    """Return scikit-learn's logistic regression on scaled features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return Scikit(make_pipeline(StandardScaler(), LogisticRegression(C=0.1, random_state=seed)))


def trees(seed):
    """Return scikit-learn's random forest: slower, but not limited to linear boundaries."""
    from sklearn.ensemble import RandomForestClassifier

    return Scikit(RandomForestClassifier(n_estimators=50, max_depth=4, min_samples_leaf=20, random_state=seed))


MODELS = {"logistic": logistic, "trees": trees, "descent": lambda seed: Descent()}


def features(closes):
    """
    Return a row of features per close, computed from it and the closes before; the first LONGEST rows are NaN.

    The columns are log returns over 1, 5, 10 and 20 bars, the standard deviation of the last 20 returns, and the
    distance of the log close from its average.
    """
    logs = np.log(closes)
    table = np.full((len(logs), 6), np.nan)
    for column, bars in enumerate((1, 5, 10, LONGEST)):
        table[bars:, column] = logs[bars:] - logs[:-bars]
    if len(logs) > LONGEST:
        windows = np.lib.stride_tricks.sliding_window_view
        table[LONGEST:, 4] = windows(np.diff(logs), LONGEST).std(axis=1)
        table[LONGEST:, 5] = logs[LONGEST:] - windows(logs, LONGEST).mean(axis=1)[1:]
    return table


def known_rows(now, horizon, embargo, window):
    """
    Return the rows that a model may learn from at bar `now`: those whose labels are known by then.

    The label of a row is the rise over the next `horizon` bars, so a row closer to `now` than that would leak future
    prices: it is purged. `embargo` drops that many more rows, since neighbouring rows share most of their features
    and labels. `window` is the largest number of rows.
    """
    last = now - horizon - embargo
    return slice(max(LONGEST, last + 1 - window), max(LONGEST, last + 1))


def labels(closes, rows, horizon):
    """Return 1 for each row whose close was higher `horizon` bars later, and 0 for the others."""
    at = np.arange(rows.start, rows.stop)
    return (closes[at + horizon] > closes[at]).astype(int)


class MachineLearning(bt.Strategy):
    """
    Be invested while the model predicts a rise with a higher probability than rises had in its training data.

    A threshold of one half would show no skill: if most bars rise, a model that knows nothing predicts a rise every
    time. The strategy decides once per horizon. It retrains the model of a series every `refit` bars, only on rows
    whose labels are known by then. `notes` lists the hash of each model; the run saves it in its manifest.
    """

    params = dict(
        model="logistic",  # one of MODELS
        horizon=5,  # bars that a prediction covers, and that a position is held at least
        embargo=5,  # bars between the latest label and the bar of the prediction
        window=750,  # largest number of rows to learn from
        least=250,  # smallest number of rows to learn from
        refit=63,  # bars between two trainings
        edge=0.0,  # how far the probability of a rise has to be above the usual one
        seed=1,  # random seed of the models
        shuffled=0,  # a seed to shuffle the labels with, for a run that must find nothing; 0 for none
        keep="",  # a folder to save the models in
        invest=0.95,  # fraction of the account to invest; the rest covers the gap to the next open and the costs;
        # 0 leaves sizes to --size
    )

    def __init__(self):
        if self.p.model not in MODELS:
            raise ValueError(f"model={self.p.model!r} is not known; there are {', '.join(MODELS)}")
        self.models, self.usual, self.fitted = {}, {}, {}
        self.notes = {"models": []}
        self.random = np.random.default_rng(self.p.shuffled)

    def prenext(self):
        self.next()  # do not wait for series that begin late

    def next(self):
        self.free = self.broker.getcash()  # cash not yet used by orders of this bar
        for data in self.datas:
            now = len(data) - 1
            if now < LONGEST + self.p.least + self.p.horizon + self.p.embargo or now % self.p.horizon:
                continue
            if now - self.fitted.get(data, -self.p.refit) >= self.p.refit:
                self.learn(data, now)
            if data in self.models:
                self.decide(data)

    def learn(self, data, now):
        closes = np.array(data.close.get(size=now + 1))
        rows = self.rows(now)
        told = self.labels(data, closes, rows)
        if self.p.shuffled:
            told = self.random.permutation(told)
        if told.min() == told.max():
            return  # only rises, or none: there is nothing to learn
        self.models[data] = self.new_model()
        self.models[data].fit(features(closes)[rows], told)
        self.usual[data], self.fitted[data] = told.mean(), now
        self.note(data, len(told))

    def new_model(self):
        try:
            return MODELS[self.p.model](self.p.seed)
        except ImportError as error:
            raise ImportError(
                f"{error}; install it: pip install 'ib-backtest[ml]', or take the model that needs nothing: "
                "--set model=descent"
            ) from error

    def rows(self, now):
        return known_rows(now, self.p.horizon, self.p.embargo, self.p.window)

    def labels(self, data, closes, rows):
        return labels(closes, rows, self.p.horizon)

    def decide(self, data):
        closes = np.array(data.close.get(size=LONGEST + 1))
        (chance,) = self.models[data].predict(features(closes)[-1:])
        likely, held = chance > self.usual[data] + self.p.edge, self.getposition(data).size
        if likely and not held:
            self.buy(data=data, size=self.shares(data))
        elif held and not likely:
            self.close(data=data)

    def note(self, data, rows):
        saved, day = self.models[data].save(), f"{data.datetime.datetime():%Y-%m-%dT%H:%M}"
        digest = hashlib.sha256(saved).hexdigest()
        self.notes["models"].append({"series": data._name, "fitted": day, "rows": rows, "sha256": digest})
        if self.p.keep:
            Path(self.p.keep).mkdir(parents=True, exist_ok=True)
            (Path(self.p.keep) / f"{digest[:16]}.model").write_bytes(saved)

    def shares(self, data):
        """Return the shares that an equal part of the account, or the cash left, can buy; None leaves it to --size."""
        if not self.p.invest:
            return None
        money = self.p.invest * min(self.broker.getvalue() / len(self.datas), self.free)
        self.free -= money
        return int(money / self.worth(data))

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
