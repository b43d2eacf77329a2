"""What a download is asked, what it tells on its way, and what it leaves of each series."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backtest.downloads.retry import Persistence
from backtest.market.series import Series
from backtest.market.span import Span


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a download is: the series, its windows done and in all, and the bars of the last window."""

    series: Series
    done: int
    windows: int
    bars: int


@dataclass(frozen=True, slots=True)
class Options:
    """
    How a series is filled.

    `accept_revision` takes the vendor's new prices of stored bars that had settled; `recheck` asks again for what the
    vendor said it does not have.
    """

    persistence: Persistence = field(default_factory=Persistence)
    accept_revision: bool = False
    recheck: bool = False


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """What a download did for one series; `status` is complete, partial or failed."""

    series: Series
    status: str
    bars_added: int = 0
    bars: int = 0
    requests: int = 0
    lower_bound: int = 0  # requests that the plan took, before anything went wrong
    first: datetime | None = None
    last: datetime | None = None
    gaps: tuple[Span, ...] = ()  # not answered, or sessions without a bar that nobody has confirmed
    confirmed_empty: tuple[Span, ...] = ()
    revisions: tuple[datetime, ...] = ()  # stored bars that the vendor has corrected
    quarantined: int = 0  # answers put aside
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what went well and is worth knowing
    exit_code: int = 0  # of the first error; 3 where sessions are open without one

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types; times are ISO 8601, UTC."""
        return {
            "status": self.status,
            "bars_added": self.bars_added,
            "bars": self.bars,
            "requests": self.requests,
            "lower_bound": self.lower_bound,
            "from": self.first.isoformat() if self.first else None,
            "to": self.last.isoformat() if self.last else None,
            "gaps": [_pair(gap) for gap in self.gaps],
            "confirmed_empty": [_pair(span) for span in self.confirmed_empty],
            "revisions": [moment.isoformat() for moment in self.revisions],
            "quarantined": self.quarantined,
            "errors": list(self.errors),
            "notes": list(self.notes),
        }


def _pair(span: Span) -> list[str]:
    return [span.start.isoformat(), span.end.isoformat()]
