"""`Clock`: the current time, passed in so that a caller can set another day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # returns a time in UTC


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)
