"""`Combination`: the runs in a combined account: weights, contributions, correlations, drawdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from backtest.errors import BadStore
from backtest.store.documents import DAY, NUMBER, TEXT, WHOLE, Misfit, either, for_json, keyed, list_of, one_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class CombinedRun:
    """
    A run in a combination.

    Attributes:
        label: the display name of the run.
        run: its own name.
        strategy: its strategy's own name.
        series: the short spellings of its series.
        conditions: its costs and other market settings, in words.
        weight: its account's mean share of the combination's equity, over the session ends.
        gain: the profit of its account, in money.
        costs: the costs of trading its positions at the start and at each rebalancing.
        risk: its share of the variance of the combination's returns; NaN if these do not vary.
        max_drawdown: of the run alone in these sessions, negative.
        fall: its profit during the combination's deepest drawdown.
    """

    label: str
    run: str
    strategy: str
    series: tuple[str, ...]
    conditions: str
    weight: float
    gain: float
    costs: float
    risk: float
    max_drawdown: float
    fall: float

    @property
    def contribution(self) -> float:
        """Its profit after these costs; those of all runs add up to the change of equity."""
        return self.gain - self.costs


@dataclass(frozen=True, slots=True)
class Combination:
    """
    How runs were combined into one account, and what each contributed.

    Attributes:
        runs: the runs, in their order.
        weights: "equal", "vol" or "given".
        rebalance: when the account is rebalanced to the weights: "never", "weekly", "monthly", "quarterly" or "yearly".
        costs: the costs of rebalancing: "as-run", or the name of costs.
        rebalanced: how many times the account was rebalanced.
        correlation: the correlations of the runs' returns, a row per run; NaN if a run's returns do not vary.
        depth: the depth of the deepest drawdown at session ends, negative; 0 if there is none.
        peak: the session before that drawdown, as text; "" if it began with the first session, or there is none.
        trough: the session of its lowest point, as text; "" if there is none.
        all_below: the fraction of sessions at whose ends every run was below its own peak.
    """

    runs: tuple[CombinedRun, ...]
    weights: str
    rebalance: str
    costs: str
    rebalanced: int
    correlation: tuple[tuple[float, ...], ...]
    depth: float
    peak: str
    trough: str
    all_below: float

    @property
    def basis(self) -> str:
        """How it was combined, in sentences."""
        schedule = "not rebalanced" if self.rebalance == "never" else f"rebalanced {self.rebalance} at the close"
        times = {0: "", 1: ", once"}.get(self.rebalanced, f", {self.rebalanced:,} times")
        charged = "each run's own costs" if self.costs == AS_RUN else f"the costs {self.costs}"
        return (
            f"A combination of {len(self.runs)} runs; weights {self.weights}, {schedule}{times}, at {charged}. "
            "Positions are fractions of those of the runs."
        )

    @property
    def drawdown(self) -> str:
        """The deepest drawdown and how often all runs fell together, in a sentence."""
        together = f"in {self.all_below:.1%} of all sessions every run was below its own peak".replace("%", " %")
        if not self.depth:
            return f"Equity never fell; {together}."
        after = f", after a peak on {self.peak}" if self.peak else ""
        reached = f"{self.depth:.1%}".replace("%", " %")
        return f"The deepest drawdown reached {reached} on {self.trough}{after}; {together}."

    def to_frame(self) -> pd.DataFrame:
        """Return a row per run with its weight, gain, costs, contribution, risk, drawdown and fall."""
        import pandas as pd

        names = ("weight", "gain", "costs", "contribution", "risk", "max_drawdown", "fall")
        rows = [{name: getattr(one, name) for name in names} for one in self.runs]
        return pd.DataFrame(rows, index=pd.Index([one.label for one in self.runs], name="run"))

    def correlation_frame(self) -> pd.DataFrame:
        """Return the correlations of the runs' returns, a row and a column per run."""
        import pandas as pd

        labels = [one.label for one in self.runs]
        return pd.DataFrame(self.correlation, index=labels, columns=labels, dtype=float)

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        known: dict[str, Any] = for_json(asdict(self))
        for told, one in zip(known["runs"], self.runs, strict=True):
            told["contribution"] = one.contribution
        return known


AS_RUN = "as-run"
_MAYBE = either("a number or null", NUMBER, one_of(None))
_RUN = keyed(
    {
        **dict.fromkeys(("label", "run", "strategy", "conditions"), TEXT),
        "series": list_of(TEXT),
        **dict.fromkeys(("weight", "gain", "costs", "max_drawdown", "fall"), NUMBER),
        "risk": _MAYBE,
    },
    {"contribution": NUMBER},
)
_MAYBE_DAY = either("a date or nothing", DAY, one_of(""))
_SHAPE = keyed(
    {
        "runs": list_of(_RUN),
        **dict.fromkeys(("weights", "rebalance", "costs"), TEXT),
        "rebalanced": WHOLE,
        "correlation": list_of(list_of(_MAYBE)),
        **dict.fromkeys(("depth", "all_below"), NUMBER),
        "peak": _MAYBE_DAY,
        "trough": _MAYBE_DAY,
    }
)


def combination_of(document: Mapping[str, Any]) -> Combination:
    """
    Return the combination from its document in a manifest.

    Raises:
        BadStore: it is not such a document.
    """
    try:
        _SHAPE(document, "combination")
    except Misfit as error:
        raise BadStore(f"the manifest of a combination cannot be read ({error}); combine its runs again") from error
    runs = tuple(
        CombinedRun(
            **{name: _number(value) for name, value in one.items() if name not in _MADE}, series=tuple(one["series"])
        )
        for one in document["runs"]
    )
    correlation = tuple(tuple(map(_number, row)) for row in document["correlation"])
    return Combination(**{**document, "runs": runs, "correlation": correlation})


_MADE = ("series", "contribution")


def _number(value: Any) -> Any:
    return math.nan if value is None else value
