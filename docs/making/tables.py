"""The page of the tables whose names are arguments: commission models and figures."""

from __future__ import annotations

from making.markdown import page, paragraph, table

from backtest.engine.account.commissions import COSTS
from backtest.report.figures import FIGURES


def tables_page() -> str:
    """Return the page of COSTS and FIGURES, a row for each name."""
    return page(
        "Commission models and figures",
        "## Commission models",
        paragraph(
            "`COSTS` of `backtest.engine.account.commissions`: the names that `costs` and `--costs` accept. "
            "[Set costs, fills and sizes](../how-to/costs-and-fills.md) has the other spellings."
        ),
        table(("name", "charges"), *((f"`{name}`", one.definition) for name, one in COSTS.items())),
        "## Figures",
        paragraph(
            "`FIGURES` of `backtest.report.figures`: the figures of a run's report. "
            "[Add your own metric or figure](../how-to/own-metrics-and-figures.md) explains how to add more."
        ),
        table(("name", "shows"), *((f"`{name}`", one.title) for name, one in FIGURES.items())),
    )
