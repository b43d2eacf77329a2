"""The page of the metrics, from their rows and the docstrings of the functions that these call."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from making.markdown import bullets, linked, page, paragraph

from backtest.metrics import benchmark, drawdown, ratios, returns, sharpe_tests, table, tail_risk, trades

_NOTATION = (
    "`E_0` is the cash at the start, `E_t` the equity at the end of session t after all costs, t = 1 … N.",
    "`r` are the N returns `r_t = E_t / E_(t−1) − 1`, simple; `b` are those of the benchmark.",
    "`P` is the number of sessions per year, by default that of the exchange's calendar, 252 in New York.",
    "`R` is the annual risk-free rate, and `f = (1 + R)^(1 / P) − 1` that of a session.",
    "`m` is the mean of r, `s` its sample standard deviation (n − 1), `s0` the population one (n).",
    "`d_t = E_t / max(E_0 … E_t) − 1` is the drawdown of equity from its peak.",
    "`Φ` and `φ` are the distribution function and the density of the normal distribution; `z` is a quantile of it.",
    "Net is the profit of a round trip after the costs of both fills; `k` is the number of round trips.",
)
_UNITS = {
    "percent": "%, a fraction in Python and JSON",
    "ratio": "none",
    "probability": "none, a probability from 0 to 1",
    "count": "none, a count",
    "money": "money, in the currency of the account",
    "sessions": "sessions",
    "days": "calendar days",
}
_ABOUT = {"return": "returns", "drawdown": "drawdowns", "benchmark": "the run against a benchmark"}


def metrics_page() -> str:
    """Return the page of METRICS, each with its formula, where it is undefined, and where it comes from."""
    groups = {group: [one for one in _metrics() if one.group == group] for group in table.GROUPS}
    return page(
        "Metrics",
        paragraph(
            "The definition of each metric. All are computed from the record of the run (equity at session ends, "
            "positions after each bar, orders, fills and round trips), never by Backtrader's analyzers. The names are "
            "those in `result.stats` and `--json`. Percentages are fractions there: 0.1 is 10 %. An undefined metric "
            "is `–` in a table, `null` in JSON and NaN in Python, and the page of the run says why."
        ),
        "## Notation",
        bullets(_NOTATION),
        *(paragraph(f"{linked(_title(group))}: " + ", ".join(linked(one.name, one.label) for one in ours) + ".")
          for group, ours in groups.items()),
        *(f"## {_title(group)}\n\n" + "\n\n".join(map(_metric, ours)) for group, ours in groups.items()),
    )  # fmt: skip


def _metrics() -> list[table.Metric]:
    return list(table.METRICS.values())


def _title(group: str) -> str:
    return f"Metrics of {_ABOUT.get(group, group)}"


def _metric(metric: table.Metric) -> str:
    undefined, source = never_or_when(metric.name), source_of(metric.name)
    facts = [f"Unit: {_UNITS[metric.format]}.", f"Undefined: {undefined}."]
    facts += [f"Source: {source}"] if source else []
    return f"### {metric.name}\n\n" + paragraph(f"**{metric.label}**: {metric.definition}") + f"\n\n{bullets(facts)}"


def never_or_when(name: str) -> str:
    """Return when a metric is undefined, in the words of the functions that its row calls."""
    found = [_undefined(function) for function in functions_of(name)]
    return "; ".join(dict.fromkeys(filter(None, found))) or "never"


def source_of(name: str) -> str:
    """Return where the formula of a metric comes from, "" where it needs no source."""
    docs = [inspect.getdoc(function) or "" for function in functions_of(name)]
    found = [re.search(r"^Source: (.*?)(\n\n|\Z)", text, re.DOTALL | re.MULTILINE) for text in docs]
    return next((" ".join(one[1].split()) for one in found if one), "")


def functions_of(name: str) -> list[Callable[..., Any]]:
    """Return the functions that compute a metric, as its row in `METRICS` names them, or the forms of many runs."""
    names = _called()[name]
    found = [next((vars(one)[name] for one in _MODULES if name in vars(one)), None) for name in names]
    return [one for one in found if inspect.isfunction(one)]


_MODULES = (table, returns, ratios, tail_risk, drawdown, benchmark, sharpe_tests, trades)


@cache
def _called() -> dict[str, list[str]]:
    """Return which functions the row of each metric calls."""
    tree = ast.parse(inspect.getsource(table))
    rows = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Metric"]
    return {ast.literal_eval(row.args[0]): _names(row.args[-1]) for row in rows}


_SHARED = {"intervals": "sharpe_interval_autocorrelated"}  # what two rows take of a run, by what computes it


def _names(function: ast.expr) -> list[str]:
    nodes = list(ast.walk(function))
    called = [re.sub(r"_by_(row|run)$", "", node.id) for node in nodes if isinstance(node, ast.Name)]
    return [
        *called,
        *(_SHARED[node.attr] for node in nodes if isinstance(node, ast.Attribute) and node.attr in _SHARED),
    ]


def _undefined(function: Callable[..., Any]) -> str:
    """Return the clause of a docstring that says when the number is undefined."""
    said = re.search(r"\bundefined ([^;.]*(?:\.\d[^;.]*)*)", " ".join((function.__doc__ or "").split()), re.IGNORECASE)
    return said[1] if said else ""
