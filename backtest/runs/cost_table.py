"""`CostTable`: a run's results at other costs, each case a separate run; saved with the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backtest.store.documents import NUMBER, TEXT, Misfit, keyed, list_of


@dataclass(frozen=True, slots=True)
class CostCase:
    """A run at a multiple of its costs."""

    factor: float
    total_return: float
    cagr: float
    sharpe: float


@dataclass(frozen=True, slots=True)
class CostTable:
    """
    The results of a run at multiples of its costs: commissions, slippage and borrow fees.

    Attributes:
        cases: the results; each is a separate run of the strategy.
        break_even: the multiple at which the total return is 0, also found by runs; NaN if there is none.
        why: the reason if there is none, a key of REASONS.
    """

    cases: tuple[CostCase, ...]
    break_even: float
    why: str = ""

    def at(self, factor: float) -> CostCase | None:
        """Return the case of a multiple; None if there is none."""
        return next((case for case in self.cases if case.factor == factor), None)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types; what is not defined is left out."""
        cases = [_defined(asdict(case)) for case in self.cases]
        return _defined({"cases": cases, "break_even": self.break_even, "why": self.why})


_NUMBERS = ("total_return", "cagr", "sharpe")
_SHAPE = keyed(
    {"cases": list_of(keyed({"factor": NUMBER}, dict.fromkeys(_NUMBERS, NUMBER))), "why": TEXT}, {"break_even": NUMBER}
)


def cost_table_of(document: Mapping[str, Any]) -> CostTable:
    """
    Return the table from the result of `to_dict`.

    Raises:
        Misfit: it is not such a table; the text names the key.
    """
    _SHAPE(document, "")
    cases = tuple(
        CostCase(float(case["factor"]), *(float(case.get(name, math.nan)) for name in _NUMBERS))
        for case in document["cases"]
    )
    if len({case.factor for case in cases}) < len(cases):
        raise Misfit("cases has a factor twice")
    return CostTable(cases, float(document.get("break_even", math.nan)), document["why"])


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not (isinstance(value, float) and math.isnan(value))}
