"""Runs, sweeps, comparisons, verdicts and baselines as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.cli.terminal import give, give_json, give_table, say, table_width, wide, wrapped
from backtest.market.series import few

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from backtest.api import RunResult
    from backtest.baselines.drift import Judgement
    from backtest.engine.open_orders import OpenOrder
    from backtest.metrics.combination import Combination
    from backtest.metrics.listing import Listed
    from backtest.metrics.table import Metric
    from backtest.research.each import SeriesRuns
    from backtest.research.next_orders import NextOrders
    from backtest.research.out_of_sample.walk_forward import WalkForward
    from backtest.research.search.sweeps import Sweep
    from backtest.runs.cost_table import CostTable
    from backtest.runs.kept import Labels
    from backtest.validity.comparison import Comparison
    from backtest.validity.regimes import Regimes
    from backtest.validity.validation import Validity


def give_runs(results: list[RunResult]) -> None:
    """Print a row per run, and the inputs that all of them share."""
    from backtest.metrics.table import METRICS

    names = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "trades")
    heads = ("strategy", "series", "return", "CAGR", "volatility", "Sharpe", "drawdown", "trades")
    rows = [
        [result.spec.name, result.series[0], *(METRICS[name].text(result.stats[name]) for name in names)]
        for result in results
    ]
    give_table(heads, rows)
    give(wrapped(results[0].stats.conventions))


def give_kept(rows: list[Listed], as_json: bool, chosen: bool) -> None:
    """
    Print a row per saved run, with its differences from the others; a damaged run is shown as such.

    Args:
        chosen: whether the user's conditions selected them.
    """
    if as_json:
        give_json({"runs": {row.kept.name: _kept_document(row) for row in rows}})
        return
    if not rows:
        say("No saved run matches." if chosen else "No saved runs yet; create one with: backtest run")
        return
    heads = ["run", "strategy", "series", "settings", "return", "CAGR", "Sharpe", "drawdown", "saved"]
    cells = [_kept_cells(row) for row in rows]
    for name, texts in (
        ("tags", [", ".join(row.labels.tags) for row in rows]),
        ("note", [row.labels.note for row in rows]),
    ):
        if any(texts):
            heads.append(name)
            cells = [[*row, text] for row, text in zip(cells, texts, strict=True)]
    _give_runs_table(heads, cells)


def _kept_document(row: Listed) -> dict[str, Any]:
    known: dict[str, Any] = {"folder": str(row.kept.folder), "at": row.kept.at.isoformat()}
    if row.spec is None or row.stats is None:
        return {**known, "error": row.error}
    return {
        **known,
        "strategy": row.spec.strategy,
        "series": list(row.series),
        "params": row.spec.flat["params"],
        "differs": row.difference.to_dict(),
        "tags": list(row.labels.tags),
        "note": row.labels.note,
        "stats": row.stats.to_dict(),
    }


def _kept_cells(row: Listed) -> list[str]:
    from backtest.metrics.table import METRICS

    when = f"{row.kept.at:%Y-%m-%d}"
    if row.stats is None:
        return [row.kept.name, "damaged", "", "", "–", "–", "–", "–", when]
    numbers = [METRICS[name].text(row.stats[name]) for name in ("total_return", "cagr", "sharpe", "max_drawdown")]
    return [row.kept.name, row.strategy, few(row.series), row.difference.words, *numbers, when]


def _give_runs_table(heads: list[str], rows: list[list[str]]) -> None:
    """Print a row per run; on a narrow terminal, values that all runs share are printed once, above the table."""
    short, common = table_width(tuple(heads), rows) > wide(), list[str]()
    for name in ("strategy", "series", "settings"):
        place = heads.index(name)
        words = {row[place] for row in rows}
        if words == {""} or (short and len(rows) > 1 and len(words) == 1):
            common += [f"{name} {word}" for word in words if word]
            heads, rows = [*heads[:place], *heads[place + 1 :]], [[*row[:place], *row[place + 1 :]] for row in rows]
    if common:
        give(f"All: {', '.join(common)}")
    give_table(tuple(heads), rows, wide())


def give_kept_run(result: RunResult, folder: Path, as_json: bool, files: Sequence[Path] = ()) -> None:
    """Print the metrics of a run, and the files written of it."""
    from backtest.runs.kept import labels_of
    from backtest.runs.record import called

    labels = labels_of(result, folder)
    if not as_json:
        give(repr(result))
        if result.combination:
            give("")
            _give_combination(result.combination, result.currency)
        if result.cost_table:
            give("")
            _give_costs(result.cost_table)
        for words in (f"Tags: {', '.join(labels.tags)}" if labels.tags else "", labels.note):
            give(wrapped(words)) if words else None
        return
    named = {"files": [str(file) for file in files]} if files else {}
    known = {"run": result.name, "label": called(folder), "folder": str(folder)}
    costs = {"cost_cases": result.cost_table.to_dict()} if result.cost_table else {}
    costs |= {"combination": result.combination.to_dict()} if result.combination else {}
    kept = {**known, "tags": list(labels.tags), "note": labels.note, **named, **costs}
    give_json({**kept, **result.stats.document, "manifest": result.manifest})


def _give_combination(found: Combination, currency: str) -> None:
    """Print a row per run with its contribution, then the correlations and the common drawdowns."""
    from backtest.metrics.table import METRICS

    share, money, ratio = METRICS["cagr"].text, METRICS["costs"].text, METRICS["sharpe"].text
    rows = [
        [one.label, share(one.weight), money(one.contribution), money(one.costs), share(one.risk),
         share(one.max_drawdown), money(one.fall)]
        for one in found.runs
    ]  # fmt: skip
    total = [sum(getattr(one, name) for one in found.runs) for name in ("contribution", "costs", "fall")]
    rows.append(["all", "", money(total[0]), money(total[1]), "", share(found.depth), money(total[2])])
    heads = ("run", "weight", f"gain, {currency}", "rebalancing costs", "variance", "drawdown", "gain in drawdown")
    give_table(heads, rows)
    give("")
    labels = [one.label for one in found.runs]
    numbers = [str(n + 1) for n in range(len(labels))]
    table = [
        [f"{n} {label}", *map(ratio, row)] for n, label, row in zip(numbers, labels, found.correlation, strict=True)
    ]
    give_table(("correlation", *numbers), table)
    give(wrapped(found.drawdown))


def _give_costs(table: CostTable) -> None:
    from backtest.metrics.returns import REASONS
    from backtest.metrics.table import METRICS

    names = ("total_return", "cagr", "sharpe")
    give_table(
        ("costs", "return", "CAGR", "Sharpe"),
        [[f"{case.factor:g}×", *(METRICS[name].text(getattr(case, name)) for name in names)] for case in table.cases],
    )
    even = f"Break-even cost multiple: {table.break_even:,.1f}."
    give(wrapped(f"No break-even: {REASONS.get(table.why, table.why)}." if table.why else even))


def give_labels(labels: Labels, folder: Path, as_json: bool) -> None:
    """Print the tags and the note of a saved run."""
    if as_json:
        give_json({"folder": str(folder), "tags": list(labels.tags), "note": labels.note})
        return
    give(f"{folder}: {', '.join(labels.tags) or 'no tags'}{f'; {labels.note}' if labels.note else ''}")


def give_next_orders(found: NextOrders, now: datetime | None, as_json: bool) -> None:
    """
    Print the orders for the next bar, the position that they assume, and notes on both.

    Args:
        now: the current time, by which that bar may have opened; None if the user chose an earlier close.
    """
    late = now is not None and found.is_late(now)
    if as_json:
        give_json({**found.to_dict(), "late": late})
        return
    opens = found.when(found.opens)
    if found.orders:
        give(f"{found.strategy} would place these orders at the open of {opens}:")
        heads = ("order", "series", "side", "size", "kind", "price", "signal")
        give_table(heads, [_order_words(order, found) for order in found.orders])
    else:
        give(f"{found.strategy} would place no orders at the open of {opens}.")
    give(wrapped(found.assumes))
    for note in (*(note for order in found.orders for note in _order_notes(order, found)), *found.notes):
        give(wrapped(note))
    if late and now:
        say(f"warning: that open has already passed: it is now {found.when(now)}; update the store first")
    say("No orders were placed.")


def _order_words(order: OpenOrder, found: NextOrders) -> list[str]:
    prices = [f"{price:,.10g}" for price in (order.price, order.limit) if price is not None]
    words = [str(order.number), order.series, order.side, f"{order.size:,.10g}", order.kind]
    return [*words, ", ".join(prices) or "–", found.when(order.given)]


def _order_notes(order: OpenOrder, found: NextOrders) -> Iterator[str]:
    """Yield the notes on an order that its row does not show."""
    name = f"Order {order.number}"
    if not order.paid:
        yield f"{name} would be rejected: cash does not cover it at the close of {found.when(order.given)}."
    if order.after is not None:
        yield f"{name} waits until order {order.after} is filled."
    if order.instead_of:
        others = ", ".join(map(str, order.instead_of))
        yield (
            f"{name} is cancelled when order {others} is filled."
            if len(order.instead_of) == 1
            else (f"{name} is cancelled when one of the orders {others} is filled.")
        )
    if order.until is not None:
        yield f"{name} is valid until {found.when(order.until)}."


def give_series_runs(found: SeriesRuns, as_json: bool) -> None:
    """Print a row per series, and why it failed on some."""
    if as_json:
        give_json(found.to_dict())
        return
    give_table(
        ("series", "return", "CAGR", "volatility", "Sharpe", "drawdown", "trades", "saved as"), found.rows(), wide()
    )
    give(wrapped(found.summary))
    for line in found.failures:
        say(f"error: {line}")


def give_comparison(found: Comparison, as_json: bool) -> None:
    """Print runs side by side, and whether their Sharpe ratios differ."""
    if as_json:
        give_json(found.to_dict())
        return
    for words in found.legend:
        give(wrapped(words))
    give("")
    give_table(("run", "return", "CAGR", "volatility", "Sharpe", "drawdown", "Sharpe diff", "p"), found.rows())
    for one in found.differences:
        give(wrapped(str(one)))
    give(wrapped(found.basis))


def give_sweep(found: Sweep, as_json: bool) -> None:
    """Print the best trials of a sweep, and the verdict on the best."""
    from backtest.metrics.table import METRICS
    from backtest.research.search.sweeps import SHOWN

    if found.made_by:
        say(found.made_by)
    if as_json:
        give_json(found.to_dict())
        return
    rank = found.asked["rank"].lstrip("-")
    shown = list(dict.fromkeys([rank, *SHOWN]))
    heads = {"total_return": "return", "sharpe": "Sharpe", "max_drawdown": "drawdown"}
    rows = [
        [*map(str, found.point(trial).values()), *(METRICS[name].text(trial.metrics[name]) for name in shown)]
        for trial in found.ranked[:10]
    ]
    give_table((*found.varied, *(heads.get(name, name) for name in shown)), rows)
    give(wrapped(found.summary))
    for reason in found.verdict.reasons:
        give(wrapped(f"- {reason}"))
    if found.failed:
        say(f"{len(found.failed):,} of {len(found.trials):,} trials failed, the first: {found.failed[0].error}")


_METHODS = {"shuffle": "reshuffled", "resample": "resampled", "skip": "skipped"}


def give_validity(result: RunResult, found: Validity) -> None:
    """Print the verdict on a run, and the tables that it is based on."""
    from backtest.metrics.table import METRICS

    def shown(name: str, *values: float) -> list[str]:
        return [METRICS[name].text(value) for value in values]

    currency = result.currency
    for line in str(found.verdict).splitlines():
        give(wrapped(line))
    give("")
    intervals = found.intervals.intervals.items()
    rows = [[_labelled(METRICS[name], currency), *shown(name, result.stats[name], *ends)] for name, ends in intervals]
    give_table(("metric", "value", "CI low", "CI high"), rows)
    give(wrapped(found.intervals.basis))
    rows = [
        [
            _METHODS[one.method],
            *shown("costs", *one.end),
            *shown("max_drawdown", *one.drawdown),
            *shown("win_rate", one.loss),
        ]
        for one in found.orders
    ]
    if rows:
        give("")
        give(
            wrapped(
                f"Monte Carlo of the trades, reshuffled, resampled, or with 10 % of them skipped. Quantiles of the "
                f"final equity, {currency}, and of the maximum drawdown (MDD); P(loss): fraction of samples that end "
                "below the initial cash."
            )
        )
        give_table(("trades", "equity 5 %", "50 %", "95 %", "MDD 5 %", "50 %", "95 %", "P(loss)"), rows)
    names = ("total_return", "cagr", "sharpe")
    rows = [[f"{case.factor:g}×", *(METRICS[name].text(getattr(case, name)) for name in names)] for case in found.costs]
    give("")
    give_table(("costs", "return", "CAGR", "Sharpe"), rows)
    give(wrapped(found.costs_basis))


def _labelled(metric: Metric, currency: str) -> str:
    return f"{metric.label}, {currency}" if metric.unit == "money" else metric.label


def give_more(found: dict[str, Any]) -> None:
    """Print a validation's further parts: a sweep, regimes, a walk-forward, a cross-validation, if there is one."""
    if found["regimes"]:
        _give_regimes(found["regimes"])
    if found["walk_forward"]:
        _give_steps(found["walk_forward"])
    for name in ("walk_forward", "cpcv", "sweep"):
        if found[name]:
            give(wrapped(found[name].summary))
    if found["walk_forward"]:
        say(f"HTML report of the walk-forward: backtest report {found['walk_forward'].folder}")


def _give_regimes(found: Regimes) -> None:
    from backtest.metrics.table import METRICS

    names = ("total_return", "volatility", "sharpe", "max_drawdown")
    rows = [
        [row.name, f"{row.sessions:,}", *(METRICS[name].text(getattr(row, name)) for name in names),
         METRICS["total_return"].text(row.market)]
        for row in found.rows
    ]  # fmt: skip
    give("")
    give_table(("regime", "sessions", "return", "volatility", "Sharpe", "drawdown", "buy and hold"), rows)
    give(wrapped(found.basis))


def _give_steps(found: WalkForward) -> None:
    from backtest.metrics.table import METRICS

    def shown(name: str, value: float) -> str:
        return METRICS[name].text(value)

    rows = [
        [
            str(step.train), str(step.test.last),
            *("cash" if step.cash else str(value) for value in step.params.values()),
            shown("sharpe", step.inside.metrics["sharpe"]), shown("sharpe", step.outside.metrics["sharpe"]),
            shown("total_return", step.outside.metrics["total_return"]),
        ]
        for step in found.steps
    ]  # fmt: skip
    give("")
    give_table(("in-sample", "OOS until", *found.values, "IS Sharpe", "OOS Sharpe", "OOS return"), rows)


def give_saved(paths: Sequence[Path], as_json: bool) -> None:
    """Print where baselines were saved."""
    if as_json:
        give_json({"saved": {path.stem: path.as_posix() for path in paths}})
        return
    for path in paths:
        give(f"{path.stem}: saved to {path.as_posix()}")


def give_baselines(judgements: Sequence[Judgement], in_full: bool, as_json: bool) -> None:
    """Print the outcome of each baseline; in full with every metric and order that moved."""
    if as_json:
        give_json({"baselines": {one.name: one.to_dict() for one in judgements}})
        return
    for one in judgements:
        give(one.in_full() if in_full else str(one))


def give_reproduced(judgement: Judgement, as_json: bool) -> None:
    """Print whether a repeated run is equal to the saved one."""
    if as_json:
        give_json({"run": judgement.name, "equal": judgement.fine, **judgement.to_dict()})
        return
    give(str(judgement).replace(f"{judgement.name}: unchanged", f"{judgement.name}: results are equal", 1))
