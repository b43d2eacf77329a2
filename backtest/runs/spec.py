"""`RunSpec`: what a run is asked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from backtest.errors import UsageError


@dataclass(frozen=True, slots=True)
class RunSpec:
    """
    Everything a run is asked; the same spec on the same bars gives the same result.

    `risk_free` is a return a year (0.05 is 5 %); `since` and `until` are dates of sessions, both included, "" for
    all there is; `sessions_a_year` annualises.
    """

    strategy: str  # file.py:Name or module:Name
    series: tuple[str, ...]
    since: str = ""
    until: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    cash: float = 100_000.0
    costs: str = "ib-fixed"
    benchmark: str = ""  # a series; "" for buy and hold of the run's own series
    risk_free: float = 0.0
    sessions_a_year: float = 252.0
    align: str = "as-is"  # in ALIGNMENTS
    size: str = ""  # as `Sizing.parse` reads it; "" where the strategy says how much
    slippage: str = ""  # as `Slippage.parse` reads it
    volume_cap: float = 0.0  # most of a bar's volume that is traded; 0 for no cap
    fills: str = "next-bar"
    borrow: str = ""  # rules as `Borrowing.parse` reads them, with commas between
    cash_rate: float = 0.0  # interest on idle cash, a year

    @property
    def key(self) -> str:
        """Ten hex digits that stand for this spec, the same on every machine."""
        asked = {name: value for name, value in asdict(self).items() if value != _LATER.get(name)}
        return hashlib.sha256(json_text(asked).encode()).hexdigest()[:10]

    @property
    def multiplier(self) -> float:
        """Money that a point of a contract is worth: of futures, or as a commission says; 1 for all else."""
        start, end = self.costs.find("{"), self.costs.rfind("}") + 1  # a commission's parameters: see `costs.costs_of`
        try:
            if self.costs.startswith("futures:"):
                return float(self.costs.split(":")[2])
            return float(json.loads(self.costs[start:end]).get("mult", 1.0)) if end else 1.0
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise UsageError(f"the costs {self.costs!r} of the run cannot be read ({error}); run it again") from error

    @property
    def conditions(self) -> str:
        """The costs, and whatever of the market is not as it is by default, in words."""
        said = [
            f"costs {self.costs}",
            self.slippage and f"slippage {self.slippage}",
            self.volume_cap and f"at most {self.volume_cap * 100:g} % of a bar's volume",
            self.fills != "next-bar" and "orders at the market filled at the close that they were decided by",
            self.borrow and f"borrow fee {self.borrow}",
            self.cash_rate and f"interest on cash {self.cash_rate * 100:g} % a year",
            self.align != "as-is" and f"series aligned by {self.align}",
            self.size and f"size {self.size}",
        ]
        return ", ".join(words for words in said if words)

    @property
    def name(self) -> str:
        """The strategy's own name."""
        return self.strategy.rpartition(":")[2]


# Fields that came later do not count while they are as they were before: the names of older runs stay.
_LATER = {
    name: RunSpec.__dataclass_fields__[name].default
    for name in ("align", "size", "slippage", "volume_cap", "fills", "borrow", "cash_rate")
}


def json_text(value: Any) -> str:
    """Return the JSON text that is hashed and kept; raise UsageError for a value that JSON has not."""
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a parameter cannot be kept with the run ({error}); use numbers, texts or truths") from error
