"""`Clock`: what time it is, passed in, so that whoever calls may set another day than today."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # returns a time in UTC


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)
