"""
`combine`: several saved runs as one account, rebalanced to its weights on a schedule, with costs.

The account holds a number of units of each run's account. Between two rebalancings the units do not change. At a
rebalancing each run gets its weight of the total; the account trades the change in its positions at the close, and pays
the costs from cash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest._suggest import did_you_mean
from backtest.api import RunResult
from backtest.engine.account.commissions import MonthlyVolume, costs_of, is_own, model_for, per_contract
from backtest.engine.account.contracts import Terms, trade_by
from backtest.engine.account.schedules import costs_for
from backtest.engine.execution import Slippage
from backtest.errors import UsageError, quoted, reason
from backtest.market import arrays
from backtest.market.series import Series
from backtest.metrics.account import column, flows_of
from backtest.metrics.combination import AS_RUN, Combination, CombinedRun
from backtest.metrics.drawdown import underwater
from backtest.metrics.measurement import Measured
from backtest.runs.currencies import base_currency, unit_named
from backtest.runs.dividends import BESIDE, dividend_column, with_dividends_of_trips
from backtest.runs.kept import locate
from backtest.runs.record import RunRecord
from backtest.runs.round_trips import round_trips
from backtest.runs.spec import COMBINED, Brokerage, RunSpec
from backtest.validity.comparison import CommonSessions, labels_of_runs

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

REBALANCE = ("never", "weekly", "monthly", "quarterly", "yearly")
EQUAL, VOL = "equal", "vol"
_LEAST = 20  # sessions from which a volatility is estimated
_SAME_CLOSE = 1e-9
_OF_EACH_RUN = "of each run"  # how a spec names costs that differ between runs
_WEIGHTS = (
    'write "equal", "vol", or the path of a CSV file with the columns run,weight; '
    'in Python, a dict such as {"runs/sma": 0.6, "runs/ema": 0.4} also works'
)


def combine(
    runs: Iterable[RunRecord | str | Path],
    *,
    weights: str | Path | Mapping[str, float] = EQUAL,
    rebalance: str = "monthly",
    costs: Any = AS_RUN,
    cash: float | str | None = None,
) -> RunResult:
    """
    Combine several runs into a portfolio, one account; like a run, it can be saved, measured, validated and reported.

    It is sampled at the common sessions of all runs, as in `compare`, and begins with the run that begins last. The
    account holds units of each run, as a portfolio holds shares of funds; positions, fills and costs scale with them.
    At the close of the last common session of each week, month, quarter or year it is rebalanced to the weights.
    `combination` of the result says what each run contributed, how their returns correlate, and how they fell together.

    Args:
        runs: two or more runs, or the folders of saved runs, or their names in runs/.
        weights: "equal"; "vol", the inverse of the volatility of the last year up to that close (equal weights until
            there are 20 sessions, and an equal weight for a run whose equity did not move); or a weight for each run,
            in a dict by the name of the run or in a CSV file with the columns run,weight: fractions of the account that
            add up to at most 1; the rest stays in cash.
        rebalance: "never", "weekly", "monthly", "quarterly" or "yearly".
        costs: of the trades at a rebalancing, and of the positions that runs hold when the combination begins: "as-run"
            for each run's own commission, and slippage in basis points or in money per share; or costs as in `run`.
            Fills of the runs keep their own costs.
        cash: initial cash. Default: the sum of that of the runs.

    Raises:
        BadStore: a folder holds no run.
        UsageError: an argument is invalid; or runs have different currencies, risk-free rates, dividends or closes
            of one series, no session in common, or cash that their strategy added.
    """
    given = _arguments.several(runs, "the runs", _RUNS)
    measured = [_run_of(one) for one in given]
    _check(measured)
    labels = labels_of_runs(measured)
    if rebalance not in REBALANCE:
        _arguments.refuse("rebalance", rebalance, f"write one of {', '.join(REBALANCE)}")
    fixed = _weights(weights, labels, [_names_of(*one) for one in zip(given, measured, labels, strict=True)])
    if fixed is None and rebalance == "never":
        raise UsageError("weights by volatility need rebalancing, because no volatility is known at the start; write "
                         "--rebalance monthly, or other weights")  # fmt: skip
    money = sum(one.spec.cash for one in measured)
    money = money if cash in (None, "") else _arguments.number(cash, "cash")
    if not 0 < money < math.inf:
        raise UsageError(f"cash is {money}; it must be more than 0")
    common = CommonSessions.of(measured)
    sources = [
        _Source.of(run, common.rows_of(run), _charges(run, label, costs))
        for run, label in zip(measured, labels, strict=True)
    ]
    account = _account(sources, common, money, fixed, rebalance)
    return RunResult.of(_record(measured, labels, sources, common, account, _asked(weights, fixed, rebalance, costs)))


_RUNS = "name two or more runs, or the folders of saved runs, such as ['runs/sma', 'runs/ema']"


# --- arguments


def _run_of(given: Any) -> Measured:
    if isinstance(given, RunRecord):
        return Measured.of(given)
    return Measured.load(locate("runs", str(_arguments.path(given, "a run", _RUNS))))


def _names_of(given: Any, run: Measured, label: str) -> set[str]:
    """Return the names by which weights may refer to a run."""
    return {label, run.label, run.name, *([] if isinstance(given, RunRecord) else [str(given)])}


def _check(runs: Sequence[Measured]) -> None:
    if len(runs) < 2:
        raise UsageError(f"there is nothing to combine in {len(runs)} run; name two or more")
    labels = labels_of_runs(runs)
    names = [run.name for run in runs]
    for label, run in zip(labels, runs, strict=True):
        if names.count(run.name) > 1:
            raise UsageError(
                f"the run {label} is named twice; name each once, and give it the weight that it is to have"
            )
        if flows_of(run.record) is not None:
            raise UsageError(f"the strategy of {label} adds or withdraws cash, so that its positions cannot be "
                             "scaled to a combined account; combine runs that do not")  # fmt: skip
        if not run.is_converted:
            raise UsageError(f"{label} added amounts of several currencies without converting them; run it again first")
    _check_alike(runs, "base currencies", [run.currency for run in runs], "whose amounts cannot be added; run them "
                 "with the same --currency")  # fmt: skip
    rates = [run.spec.rates[:8] or f"{run.spec.risk_free:g}" for run in runs]
    _check_alike(runs, "risk-free rates", rates, "but a combination has one; run them with the same rate")
    paid = [_dividend_words(run.spec.brokerage) for run in runs]
    _check_alike(
        runs, "dividends", paid, "but the combination is compared with one buy and hold; run them with the same "
        "dividends and withholding tax"
    )  # fmt: skip


def _dividend_words(brokerage: Brokerage) -> str:
    kept = brokerage.withholding * 100
    return f"{brokerage.dividends}, {kept:g} % withheld" if kept else str(brokerage.dividends)


def _check_alike(runs: Sequence[Measured], what: str, values: Sequence[str], why: str) -> None:
    if len(set(values)) > 1:
        told = "; ".join(f"{label}: {value}" for label, value in zip(labels_of_runs(runs), values, strict=True))
        raise UsageError(f"the runs have different {what} ({told}), {why}")


def _weights(given: Any, labels: Sequence[str], names: Sequence[set[str]]) -> np.ndarray | None:
    """Return the weights of runs, None for those by volatility."""
    if given == EQUAL:
        return np.full(len(labels), 1 / len(labels))
    if given == VOL:
        return None
    told = _read_weights(Path(given)) if isinstance(given, str | Path) and given else given
    found = np.full(len(labels), np.nan)
    for name, value in _arguments.mapping(told, "weights", _WEIGHTS).items():
        places = [n for n, own in enumerate(names) if str(name) in own]
        if len(places) != 1:
            hint = did_you_mean(str(name), labels)
            raise UsageError(
                f"there is no run {quoted(name)} to give a weight to; choose from {', '.join(labels)}{hint}"
            )
        weight = _arguments.number(value, f"the weight of {name}", "write 0.6 for 60 %")
        if not 0 <= weight <= 1:
            raise UsageError(f"the weight of {name} is {weight:g}; write a share of the account, 0.6 for 60 %")
        if not math.isnan(found[places[0]]):
            raise UsageError(f"two weights are given for {labels[places[0]]}; give one")
        found[places[0]] = weight
    if missing := [label for label, weight in zip(labels, found, strict=True) if math.isnan(weight)]:
        raise UsageError(f"there is no weight for {', '.join(missing)}; give one for each run, 0 for none")
    if not 0 < found.sum() <= 1 + 1e-9:
        raise UsageError(
            f"the weights add up to {found.sum():g}; they are shares of the account and must not exceed 1 in total"
        )
    return found


def _read_weights(path: Path) -> dict[str, str]:
    try:
        rows = _arguments.rows_of(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"the weights {quoted(path)} cannot be read ({reason(error)}); {_WEIGHTS}") from error
    rows = rows[1:] if rows and [cell.lower() for cell in rows[0]] == ["run", "weight"] else rows
    for row in rows:
        if len(row) != 2:
            raise UsageError(f"the weights {quoted(path)} have the line {','.join(row)!r}; write run,weight")
    names = [row[0] for row in rows]
    if len(set(names)) < len(names):
        raise UsageError(f"the weights {quoted(path)} name a run twice; give one weight for each run")
    return {row[0]: row[1] for row in rows}


def _asked(weights: Any, fixed: np.ndarray | None, rebalance: str, costs: Any) -> dict[str, Any]:
    named = weights if isinstance(weights, str) and weights in (EQUAL, VOL) else "given"
    charged = AS_RUN if isinstance(costs, str) and costs == AS_RUN else costs_of(costs).name
    return {"weights": named, "given": None if fixed is None or named == EQUAL else fixed.tolist(),
            "rebalance": rebalance, "costs": charged}  # fmt: skip


# --- what a change of positions costs

_Charge = Callable[[float, float, float, int], float]  # of size, price, rate and day: money of the account


def _charges(run: Measured, label: str, costs: Any) -> list[_Charge]:
    """Return for each series of a run the costs of a trade at a rebalancing."""
    as_run = isinstance(costs, str) and costs == AS_RUN
    if as_run and run.spec.strategy == COMBINED:
        raise UsageError(f"{label} is a combination itself, of runs with costs of their own; combine these runs, or "
                         "name costs, such as --costs bp:5")  # fmt: skip
    charged = costs_of(run.spec.brokerage.costs if as_run else costs)
    slippage = Slippage.parse(run.spec.brokerage.slippage if as_run else "")
    if slippage.kind not in ("", "basis points", "money"):
        raise UsageError(f"the slippage {run.spec.brokerage.slippage} of {label} needs bars, and a saved run has none; "
                         "name the costs of a rebalancing, such as --costs bp:10")  # fmt: skip
    units = run.manifest.get("currencies", {}).get("prices", {})
    found: list[_Charge] = []
    for key, point in zip(run.spec.series, run.spec.points, strict=True):
        series, feed = Series.parse(key), SimpleNamespace(datetime=[0.0])
        terms = Terms(point, model=is_own(charged) or per_contract(charged) is not None)
        model = trade_by(model_for(costs_for(charged, series), feed, MonthlyVolume()), terms)
        share = unit_named(units[key]).share if key in units else 1.0
        found.append(partial(_charge, model, feed, slippage, point, share))
    return found


def _charge(
    model: Any, feed: Any, slippage: Slippage, point: float, share: float, size: float, price: float, rate: float,
    day: int,
) -> float:  # fmt: skip
    """
    Return what a trade costs, in money of the account.

    Args:
        share: the fraction of a unit of money in a unit of price, 0.01 for pence.
        rate: money of the account per unit of price.
        day: the day, counted as by `date.toordinal`.
    """
    feed.datetime[0] = float(day)
    commission = float(model.getcommission(size, price * share)) * rate / share
    worse = {"basis points": slippage.amount * price, "money": slippage.amount}.get(slippage.kind, 0.0)
    return commission + abs(size) * worse * point * rate


# --- the account


@dataclass(frozen=True, eq=False)
class _Source:
    """A run at the common sessions: a column for the common start, and one for the end of each session."""

    rows: np.ndarray  # of its record; -1 before the first
    worth: np.ndarray  # of its account, shape (n + 1,)
    positions: np.ndarray  # shape (series, n + 1)
    closes: np.ndarray
    rates: np.ndarray  # money of the account per unit of price
    charges: list[_Charge]

    @classmethod
    def of(cls, run: Measured, rows: np.ndarray, charges: list[_Charge]) -> _Source:
        record, count = run.record, range(len(run.spec.series))
        held = np.array([_at(column(record, f"position.{n}"), rows, 0.0) for n in count])
        closes = np.array([_at(column(record, f"close.{n}"), rows, math.nan) for n in count])
        rates = np.array([
            _at(column(record, f"rate.{n}"), rows, 1.0) if f"rate.{n}" in record.column_names else np.ones(len(rows))
            for n in count
        ])  # fmt: skip
        return cls(rows, _at(column(record, "equity"), rows, run.spec.cash), held, closes, rates, charges)

    def costs(self, place: int, change: float, day: int) -> np.ndarray:
        """Return the costs of changing this run's units after a session by these amounts, one per series."""
        sizes, prices, rates = change * self.positions[:, place], self.closes[:, place], self.rates[:, place]
        rows = zip(self.charges, sizes.tolist(), prices.tolist(), rates.tolist(), strict=True)
        return np.array([charge(size, price, rate, day) if size else 0.0 for charge, size, price, rate in rows])


def _at(values: np.ndarray, rows: np.ndarray, before: float) -> np.ndarray:
    return np.where(rows < 0, before, values[rows])


@dataclass(frozen=True, eq=False)
class _Account:
    """The combined account: a column for the common start, and one for the end of each session."""

    units: np.ndarray  # of each run's account, from each of these ends on, shape (runs, n + 1)
    costs: list[np.ndarray]  # of each run and its series, shape (series, n + 1)
    cash: np.ndarray  # money beside the units, shape (n + 1,)
    equity: np.ndarray  # shape (n + 1,)
    money: float  # before anything was bought
    rebalanced: int

    def gains(self, sources: Sequence[_Source]) -> np.ndarray:
        """Return the profit of each run in each session, shape (runs, n)."""
        worth = np.array([one.worth for one in sources])
        return np.asarray(self.units[:, :-1] * np.diff(worth, axis=1))


def _account(
    sources: Sequence[_Source], common: CommonSessions, money: float, fixed: np.ndarray | None, rebalance: str
) -> _Account:
    worth, days = np.array([one.worth for one in sources]), np.append(common.begins, common.days)
    ordinals = days.astype("datetime64[D]").astype(np.int64) + _EPOCH
    due = np.append(True, np.append(_ends(common.days, rebalance), False))
    units, cash, equity = np.zeros(worth.shape), np.zeros(len(days)), np.zeros(len(days))
    costs = [np.zeros(one.positions.shape) for one in sources]
    own, left = np.zeros(len(sources)), money
    for place in range(len(days)):
        total = left + float(own @ worth[:, place])
        if due[place]:
            shares = _by_volatility(common, place) if fixed is None else fixed
            alive = worth[:, place] > 0  # a run without equity gets no more money
            wanted = np.divide(shares * total, worth[:, place], out=np.zeros(len(own)), where=alive)
            for n, source in enumerate(sources):
                costs[n][:, place] = source.costs(place, wanted[n] - own[n], int(ordinals[place]))
            own = wanted
            total -= float(sum(one[:, place].sum() for one in costs))
            left = total - float(own @ worth[:, place])
        units[:, place], cash[place], equity[place] = own, left, total
    return _Account(units, costs, cash, equity, money, int(due[1:].sum()))


_EPOCH = 719_163  # the ordinal of 1970-01-01


def _ends(days: np.ndarray, rebalance: str) -> np.ndarray:
    """Return for each session but the last whether the next one is in another week, month, quarter or year."""
    months = days.astype("datetime64[M]").astype(np.int64)
    counted = {
        "never": np.zeros(len(days)),
        "weekly": (days.astype("datetime64[D]").astype(np.int64) + 3) // 7,  # 1970-01-01 was a Thursday
        "monthly": months,
        "quarterly": months // 3,
        "yearly": months // 12,
    }[rebalance]
    return np.asarray(np.diff(counted) != 0)


def _by_volatility(common: CommonSessions, place: int) -> np.ndarray:
    """Return weights by the inverse of the volatility of the last year, up to a session."""
    count, window = len(common.returns), max(round(common.yearly.count), _LEAST)
    equal = np.full(count, 1 / count)
    if place < _LEAST:
        return equal
    spread = common.returns[:, max(place - window, 0) : place].std(axis=1, ddof=1)
    moved = spread > 0
    inverse = np.divide(1.0, spread, out=np.zeros(count), where=moved)
    return np.where(moved, inverse / inverse.sum() * moved.mean(), equal) if moved.any() else equal


# --- its record


def _record(
    runs: Sequence[Measured],
    labels: Sequence[str],
    sources: Sequence[_Source],
    common: CommonSessions,
    account: _Account,
    asked: dict[str, Any],
) -> RunRecord:
    import pyarrow as pa

    keys = list(dict.fromkeys(key for run in runs for key in run.spec.series))
    spec = _spec(runs, keys, common, account, asked)
    times = np.maximum.reduce([
        arrays.numbers(run.record["time"])[one.rows[1:]] for run, one in zip(runs, sources, strict=True)
    ])  # fmt: skip
    ends = times.astype("datetime64[us]")
    columns = {"time": arrays.stamps(ends), "session": arrays.days(common.days),
               "equity": arrays.floats(account.equity[1:])}  # fmt: skip
    held = [column(run.record, "cash")[one.rows[1:]] for run, one in zip(runs, sources, strict=True)]
    columns["cash"] = arrays.floats(account.cash[1:] + (account.units[:, 1:] * held).sum(axis=0))
    columns |= _columns_of_series(runs, labels, sources, account, keys)
    columns |= _columns_beside(runs, sources, account, spec, common)
    record = pa.table(columns)
    orders, fills = _tables(runs, sources, account, ends)
    fees = column(fills, "borrow") if "borrow" in fills.column_names else None
    trades = round_trips(fills, record, spec.points_by_name, None, fees)
    if dividend_column(0) in columns:
        trades = with_dividends_of_trips(trades, record, spec)
    manifest = _manifest(runs, keys, _combination(runs, labels, sources, common, account, asked))
    if units := manifest.get("currencies", {}).get("prices"):
        names = [units[Series.parse(name).key] for name in trades["series"].to_pylist()]
        trades = trades.append_column("currency", arrays.texts(names))
    return RunRecord(spec, record, orders, fills, trades, manifest)


def _spec(
    runs: Sequence[Measured], keys: Sequence[str], common: CommonSessions, account: _Account, asked: dict[str, Any]
) -> RunSpec:
    specs = [run.spec for run in runs]
    points = _points(specs, keys)
    benchmarks = {one.benchmark for one in specs}
    params = {"runs": [run.name for run in runs], "weights": asked["given"] or asked["weights"],
              "rebalance": asked["rebalance"], "costs": asked["costs"]}  # fmt: skip
    return RunSpec(
        COMBINED, tuple(keys), str(common.days[0]), str(common.days[-1]), params, account.money,
        benchmarks.pop() if len(benchmarks) == 1 else "", specs[0].risk_free, specs[0].sessions_a_year,
        _brokerage(runs, keys), 0.0, str(common.yearly), specs[0].rates, "",
        () if all(point == 1 for point in points) else points,
    )  # fmt: skip


def _points(specs: Sequence[RunSpec], keys: Sequence[str]) -> tuple[float, ...]:
    found: dict[str, float] = {}
    for spec in specs:
        for key, point in zip(spec.series, spec.points, strict=True):
            if found.setdefault(key, point) != point:
                raise UsageError(f"a point of {Series.parse(key).short} is worth {found[key]:g} in one run and "
                                 f"{point:g} in another; run them with the same point value")  # fmt: skip
    return tuple(found[key] for key in keys)


def _brokerage(runs: Sequence[Measured], keys: Sequence[str]) -> Brokerage:
    """Return the settings that all runs share; each run's conditions give the others."""
    every = [run.spec.brokerage for run in runs]
    known, currency = every[0], runs[0].spec.base_currency
    if any(one != known for one in every):
        rules = {
            f"{Series.parse(key).short}={margin:.15g}"
            for run in runs for key, margin in zip(run.spec.series, run.spec.margins, strict=True) if margin is not None
        }  # fmt: skip
        known = Brokerage(costs=_OF_EACH_RUN, dividends=known.dividends, withholding=known.withholding,
                          margin=",".join(sorted(rules)))  # fmt: skip
    same = base_currency(map(Series.parse, keys)) == currency
    return replace(known, currency="" if same else currency)


def _columns_of_series(
    runs: Sequence[Measured], labels: Sequence[str], sources: Sequence[_Source], account: _Account, keys: Sequence[str]
) -> dict[str, pa.Array]:
    found: dict[str, pa.Array] = {}
    for number, key in enumerate(keys):
        held, close = np.zeros(len(account.equity)), np.full(len(account.equity), np.nan)
        rate = None
        for n, (run, source) in enumerate(zip(runs, sources, strict=True)):
            if key not in run.spec.series:
                continue
            place = run.spec.series.index(key)
            held = held + account.units[n] * source.positions[place]
            _check_closes(close, source.closes[place], key, labels[n])
            close = np.where(np.isnan(close), source.closes[place], close)
            if f"rate.{place}" in run.record.column_names:
                rate = source.rates[place]
        found |= {f"position.{number}": arrays.floats(held[1:]), f"close.{number}": arrays.floats(close[1:])}
        if rate is not None:
            found[f"rate.{number}"] = arrays.floats(rate[1:])
    return found


def _check_closes(known: np.ndarray, other: np.ndarray, key: str, label: str) -> None:
    both = np.isfinite(known) & np.isfinite(other)
    if (np.abs(known - other)[both] > _SAME_CLOSE * np.abs(known[both])).any():
        raise UsageError(f"{label} saw other closes of {Series.parse(key).short} than another run of the combination: "
                         "the store was revised between them; run both again")  # fmt: skip


def _columns_beside(
    runs: Sequence[Measured], sources: Sequence[_Source], account: _Account, spec: RunSpec, common: CommonSessions
) -> dict[str, pa.Array]:
    """Return dividends, borrow fees, the benchmark and the risk-free return, as far as the runs have them."""
    found = {}
    if dividend_column(0) in runs[0].record.column_names:
        for number, key in enumerate(spec.series):
            n = next(n for n, run in enumerate(runs) if key in run.spec.series)
            name = dividend_column(runs[n].spec.series.index(key))
            found[dividend_column(number)] = arrays.floats(_between(runs[n], name, sources[n].rows))
    if any("borrow" in run.record.column_names for run in runs):
        every = [_between(run, "borrow", one.rows) for run, one in zip(runs, sources, strict=True)]
        found["borrow"] = arrays.floats((account.units[:, :-1] * every).sum(axis=0))
    if spec.benchmark:
        found["benchmark"] = arrays.floats(_last(column(runs[0].record, "benchmark"), sources[0].rows))
        if BESIDE in runs[0].record.column_names:
            found[BESIDE] = arrays.floats(_between(runs[0], BESIDE, sources[0].rows))
    if isinstance(common.rates, np.ndarray):
        found["risk_free"] = arrays.floats(common.rates)
    return found


def _between(run: Measured, name: str, rows: np.ndarray) -> np.ndarray:
    """Return the sum of a column after each end and up to the next; zeros if the run has no such column."""
    if name not in run.record.column_names:
        return np.zeros(len(rows) - 1)
    sums = np.append(0.0, np.cumsum(column(run.record, name)))
    return np.diff(sums[rows + 1])


def _last(prices: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the last price after each end and up to the next; NaN where there is none."""
    there = np.where(np.isfinite(prices), np.arange(len(prices)), -1)
    last = np.maximum.accumulate(there)[rows[1:]]
    return np.where(last > rows[:-1], prices[last], np.nan)


def _manifest(runs: Sequence[Measured], keys: Sequence[str], made: Combination) -> dict[str, Any]:
    series: dict[str, Any] = {}
    market: dict[str, int] = {}
    for run in runs:
        for key, known in run.manifest.get("series", {}).items():
            if known.get("bars", 0) > series.get(key, {}).get("bars", -1):
                series[key] = known
        for name, count in run.manifest.get("market", {}).items():
            if name != "waited":
                market[name] = market.get(name, 0) + count if isinstance(count, int) else count
    found: dict[str, Any] = {"combination": made.to_dict(), "series": series, "market": market}
    told = [run.manifest["currencies"] for run in runs if "currencies" in run.manifest]
    if told or len({Series.parse(key).instrument.currency for key in keys}) > 1:
        prices = {key: Series.parse(key).instrument.currency for key in keys}
        rates: dict[str, Any] = {}
        for one in told:
            prices |= one["prices"]
            rates |= one.get("rates", {})
        found["currencies"] = {
            "base": runs[0].spec.base_currency,
            "prices": prices,
            **({"rates": rates} if rates else {}),
        }
    return {name: value for name, value in found.items() if value}


# --- orders and fills


def _tables(
    runs: Sequence[Measured], sources: Sequence[_Source], account: _Account, ends: np.ndarray
) -> tuple[pa.Table, pa.Table]:
    """Return the orders and the fills of all runs, in units of the combination, and those of its rebalancings."""
    import pandas as pd
    import pyarrow as pa

    orders, fills, ref = [], [], 0
    for n, (run, source) in enumerate(zip(runs, sources, strict=True)):
        own_orders, own_fills = _scaled(run, source, account.units[n], ends)
        more = _of_rebalancings(run, source, account.units[n], account.costs[n], ends)
        for frame in (own_orders, own_fills):
            frame["ref"] += ref
        ref = int(max([ref, *own_orders["ref"], *own_fills["ref"]]))
        more["ref"] = np.arange(len(more)) + ref + 1
        ref += len(more)
        orders += [own_orders, _as_orders(more)]
        fills += [own_fills, more]
    kept, made = _joined(orders), _joined(fills)
    kept = kept.sort_values("created", kind="stable")
    refs = dict(zip(kept["ref"].tolist(), range(1, len(kept) + 1), strict=True))
    kept["ref"], made["ref"] = kept["ref"].map(refs), made["ref"].map(refs).fillna(0)
    made = made.sort_values("time", kind="stable")
    for name, value in (("rate", 1.0), ("borrow", 0.0), ("unslipped", made["price"])):
        if name in made:
            made[name] = made[name].fillna(value)
    stamp = pd.DatetimeTZDtype("us", "UTC")
    kept = kept.astype({"created": stamp, "closed": stamp, "ref": "int64"})
    made = made.astype({"time": stamp, "ref": "int64"})
    return (
        pa.Table.from_pandas(kept, _schema_of(runs, "orders_table"), preserve_index=False),
        pa.Table.from_pandas(made, _schema_of(runs, "fills_table"), preserve_index=False),
    )


def _schema_of(runs: Sequence[Measured], table: str) -> pa.Schema:
    import pyarrow as pa

    fields = {field.name: field for run in runs for field in getattr(run, table).schema}
    return pa.schema([pa.field(field.name, field.type) for field in fields.values()])


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    there = [frame for frame in frames if len(frame)] or list(frames[:1])
    return pd.concat(there, ignore_index=True)


def _scaled(run: Measured, source: _Source, units: np.ndarray, ends: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the orders and fills of a run between the first and the last common session, in its units."""
    orders, fills = run.orders_table.to_pandas(), run.fills_table.to_pandas()
    times, rows = arrays.numbers(run.record["time"]), source.rows
    filled = np.searchsorted(times, arrays.numbers(run.fills_table["time"]))
    inside = (filled > rows[0]) & (filled <= rows[-1])
    steps = np.searchsorted(rows[1:], filled)
    scale = units[np.minimum(steps, len(units) - 1)]
    # Sessions of two calendars overlap: what is filled in one that ends later is filled after the one before.
    after = np.append(np.datetime64(0, "us"), ends + np.timedelta64(1, "us"))
    last = np.minimum(steps, len(ends) - 1)
    stamps = arrays.numbers(run.fills_table["time"]).astype("datetime64[us]")
    fills["time"] = _utc(np.clip(stamps, after[last], ends[last]))
    for name in ("size", "costs", "borrow"):
        if name in fills:
            fills[name] *= scale
    given = np.searchsorted(times, arrays.numbers(run.orders_table["created"]))
    steps = np.clip(np.searchsorted(rows[1:], given), 0, len(units) - 1)
    begun = times[rows[0]] if rows[0] >= 0 else np.iinfo(np.int64).min
    closed = arrays.numbers(run.orders_table["closed"], missing=np.iinfo(np.int64).max)
    open_then = (given <= rows[-1]) & (closed > begun) & (units[steps] > 0)
    filled_then = inside & (scale > 0)
    open_then |= orders["ref"].isin(fills["ref"][filled_then]).to_numpy()
    for name in ("size", "filled", "costs"):
        orders[name] *= units[steps]
    for frame in (orders, fills):
        frame["series"] = [Series.parse(name).short for name in frame["series"]]
    return orders[open_then], fills[filled_then]


def _of_rebalancings(
    run: Measured, source: _Source, units: np.ndarray, costs: np.ndarray, ends: np.ndarray
) -> pd.DataFrame:
    """Return the fills of a run's positions at the common start, and when its units change."""
    import pandas as pd

    before = arrays.numbers(run.record["time"])[max(source.rows[0], 0)].astype("datetime64[us]")
    times, found = np.append(min(before, ends[0]), ends), []
    for n, key in enumerate(run.spec.series):
        held = source.positions[n]
        sizes = units * held - np.append(0.0, units[:-1]) * held
        places = np.flatnonzero(sizes)
        rows = {"ref": 0, "time": _utc(times[places]), "series": Series.parse(key).short, "size": sizes[places],
                "price": source.closes[n, places], "costs": costs[n, places]}  # fmt: skip
        if "rate" in run.fills_table.column_names:
            rows["rate"] = source.rates[n, places]
        found.append(pd.DataFrame(rows, columns=list(rows)))
    return pd.concat(found, ignore_index=True)


def _as_orders(fills: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    bought = fills["size"] > 0
    return pd.DataFrame({
        "ref": fills["ref"], "series": fills["series"], "side": np.where(bought, "buy", "sell"), "kind": "Close",
        "size": fills["size"], "created": fills["time"], "status": "Completed", "filled": fills["size"],
        "price": fills["price"], "costs": fills["costs"], "closed": fills["time"],
    })  # fmt: skip


def _utc(times: np.ndarray) -> pd.DatetimeIndex:
    import pandas as pd

    return pd.DatetimeIndex(times.astype("datetime64[us]")).tz_localize("UTC")


# --- what each run earned


def _combination(
    runs: Sequence[Measured],
    labels: Sequence[str],
    sources: Sequence[_Source],
    common: CommonSessions,
    account: _Account,
    asked: dict[str, Any],
) -> Combination:
    gains, equity = account.gains(sources), np.append(account.money, account.equity[1:])
    costs = np.array([one.sum(axis=0) for one in account.costs])
    net = gains - costs[:, 1:]
    net[:, 0] -= costs[:, 0]
    depths = underwater(equity)
    last = int(np.argmin(depths))
    first = int(np.flatnonzero(equity[: last + 1] == equity[: last + 1].max())[-1])
    worth = np.array([one.worth for one in sources])
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (account.units * worth / account.equity)[:, 1:].mean(axis=1)
        moves = net / equity[:-1]
    variance = float(moves.sum(axis=0).var()) if len(common.days) > 1 else 0.0
    risks = [float(np.cov(one, moves.sum(axis=0), ddof=0)[0, 1] / variance) if variance else math.nan for one in moves]
    below = worth < np.maximum.accumulate(worth, axis=1)
    told = tuple(
        CombinedRun(
            label, run.name, run.spec.name, tuple(run.series), run.spec.conditions, float(shares[n]),
            float(gains[n].sum()), float(costs[n].sum()), risks[n], float(underwater(worth[n]).min()),
            float(net[n, first:last].sum()),
        )
        for n, (run, label) in enumerate(zip(runs, labels, strict=True))
    )  # fmt: skip
    return Combination(
        told, asked["weights"], asked["rebalance"], asked["costs"], account.rebalanced, _correlation(common.returns),
        float(depths[last]), str(common.days[first - 1]) if first else "",
        str(common.days[last - 1]) if depths[last] else "", float(below[:, 1:].all(axis=0).mean()),
    )  # fmt: skip


def _correlation(returns: np.ndarray) -> tuple[tuple[float, ...], ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.corrcoef(returns) if returns.shape[1] > 1 else np.full((len(returns), len(returns)), math.nan)
    return tuple(tuple(map(float, row)) for row in found)
