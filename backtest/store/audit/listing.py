"""`list_series`: the content of a store, series by series, from the manifests alone: no bar is read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DamagedStore, NoBars
from backtest.market.calendars import fallback
from backtest.market.checks import session_edges
from backtest.market.hours import Hours
from backtest.market.series import Series
from backtest.store.audit.findings import sessions_inside
from backtest.store.reader import Reader, hours_in

if TYPE_CHECKING:
    from backtest.store.manifest import Manifest

_DAY = 86_400  # seconds
_NOTHING = None, None, None


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A series of a store.

    `expected` counts the sessions from the first bar to the last, `sessions` those requested and answered among them,
    `missing` those neither stored nor confirmed empty; all are None for weeks and months.
    """

    series: Series
    first: datetime | None
    last: datetime | None
    bars: int
    bytes: int
    content: str
    covered: tuple[tuple[str, str], ...]
    updated: datetime | None
    extra: tuple[str, ...] = ()  # names of the columns beside those of every bar
    sessions: int | None = None
    expected: int | None = None
    missing: int | None = None
    problem: str = ""  # why nothing more is known: its manifest is damaged
    rule: str = ""  # by which sessions are counted where no calendar is known

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON's types; times are ISO 8601, UTC."""
        return {
            "series": self.series.short,
            "from": self.first.isoformat() if self.first else None,
            "to": self.last.isoformat() if self.last else None,
            "bars": self.bars,
            "sessions": self.sessions,
            "sessions_expected": self.expected,
            "sessions_missing": self.missing,
            "bytes": self.bytes,
            "updated": self.updated.isoformat() if self.updated else None,
            "content": self.content,
            "covered": [list(span) for span in self.covered],
            "problem": self.problem,
            **({"rule": self.rule} if self.rule else {}),
            **({"extra": list(self.extra)} if self.extra else {}),
        }


def list_series(store: Reader, wanted: Sequence[Series] = ()) -> list[Entry]:
    """
    Return an entry for each series of the store, or for the requested ones; that of a damaged one says so.

    A series that another process creates or removes meanwhile may or may not be listed; a requested one has to exist.

    Raises:
        NoBars: a requested series is not in the store.
    """
    if wanted:
        return [_entry(store.named(one), store) for one in wanted]
    entries = []
    for one in store.series():
        with contextlib.suppress(NoBars):
            entries.append(_entry(one, store))
    return entries


def _entry(series: Series, store: Reader) -> Entry:
    try:
        manifest = store.manifest(series)
    except DamagedStore as error:
        return Entry(series, None, None, 0, 0, "", (), None, problem=str(error))
    segments = manifest.segments
    first, last = (
        (datetime.fromisoformat(segments[0].first), datetime.fromisoformat(segments[-1].last))
        if segments
        else (None, None)
    )
    hours = hours_in(store, series)
    rule = fallback(hours, first.date(), last.date()) if first and last else ""
    return Entry(
        series,
        first,
        last,
        manifest.rows,
        sum(segment.bytes for segment in segments),
        manifest.content,
        tuple((span.start.isoformat(), span.end.isoformat()) for span in manifest.coverage),
        max((answer.at for answer in manifest.answers), default=None),
        manifest.extra,
        *(_sessions(series, hours, manifest, first, last) if first and last else _NOTHING),
        rule=rule,
    )


def _sessions(
    series: Series, hours: Hours, manifest: Manifest, first: datetime, last: datetime
) -> tuple[int | None, int | None, int | None]:
    """Return the numbers of requested, of all, and of missing sessions; None for weeks and months."""
    if series.size.seconds > _DAY:
        return _NOTHING
    reach = np.array([first.timestamp(), last.timestamp()])
    starts, ends = session_edges(series, hours, series.regular_hours, reach)
    chosen = slice(
        int(np.searchsorted(ends, first.timestamp(), side="right")),
        int(np.searchsorted(starts, last.timestamp(), side="right")),
    )
    starts, ends = starts[chosen], ends[chosen]
    asked = int(np.count_nonzero(sessions_inside(manifest.coverage, starts, ends)))
    missing = len(starts) - asked
    if series.size.daily:  # a bar is a session
        said_empty = sessions_inside([answer.span for answer in manifest.answers if not answer.bars], starts, ends)
        missing = max(missing, len(starts) - int(np.count_nonzero(said_empty)) - manifest.rows)
    return asked, len(starts), missing
