"""
`State`: what outlives a session with a gateway: its paced requests, and the request lengths it has learnt.

There is one JSON file per gateway, read and written as a whole under a lock: programs that share a login share one
budget.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backtest._system import opened_safely, take_lock
from backtest.errors import UsageError
from backtest.market.ib_limits import WINDOW_SECONDS
from backtest.sources.ib.pacing import MARGIN, Ask, Budget
from backtest.store.documents import Misfit, bytes_of, document_in
from backtest.store.replacement import replace_file

_STEP = re.compile(r"\d+ [SDWMY]$")
_MONTH_SECONDS = 30 * 86_400.0  # after which a head timestamp is asked for again
_LARGEST = 1 << 26  # bytes of a state
_BUSY_SECONDS = 0.02  # until a lock that another program holds is tried again
_log = logging.getLogger(__name__)


class State:
    """
    The request budget and the learnt request lengths of a gateway; without a file they live with the object.

    Args:
        path: the file, or None.
        time_scale: how much faster than the clock the windows of the limits pass, as the emulator's may.

    Raises:
        UsageError: the file's folder cannot be created or written.
    """

    def __init__(self, path: Path | None = None, time_scale: float = 1.0) -> None:
        self._path, self._scale = path, time_scale
        self._kept: dict[str, Any] = {}
        self._mine = threading.Lock()
        if path:
            _make_room(path)

    def book(self, ask: Ask, now: float) -> float:
        """
        Record a paced request and return 0, or return the seconds until the next attempt.

        Args:
            now: seconds since 1970, the only clock that all programs sharing the file have.
        """
        with self._content() as content:
            if content is None:
                return _BUSY_SECONDS
            budget = self._budget(content, now)
            delay = budget.delay(ask, now * self._scale)
            if not delay:
                budget.spend(ask, now * self._scale)
            content["spent"] = [[at / self._scale, spent.request, spent.line, spent.weight] for at, spent in budget]
            if "blocked_until" in content:  # kept as it was, it would be in the future until the clock comes there
                content["blocked_until"] = self._blocked_until(content, now)
            return delay / self._scale

    def block(self, until: float) -> None:
        """Send no paced request before a time in seconds since 1970."""
        with self._content(wait=True) as content:
            if content is not None:
                content["blocked_until"] = max(until, self._blocked_until(content, until))

    def learnt(self, gateway: str, kind: str, size: str) -> tuple[str, float] | None:
        """
        Return the learnt length of a kind of request, and when it was learnt in seconds since 1970; None if never.

        Version 0.1.0 stored steps by bar size, for any gateway: these count as learnt long ago.
        """
        with self._content(wait=True) as content:
            kept = content or {}
            step, at = kept.get("learnt", {}).get(gateway, {}).get(kind, (kept.get("steps", {}).get(size, ""), 0.0))
            return (step, at) if step else None

    def learn(self, gateway: str, kind: str, step: str, at: float) -> None:
        """Record the length of a kind of request, as learnt at a time in seconds since 1970."""
        with self._content(wait=True) as content:
            if content is not None:
                learnt = content.get("learnt", {})
                content["learnt"] = {**learnt, gateway: {**learnt.get(gateway, {}), kind: [step, at]}}

    def head(self, name: str, now: float) -> float | None:
        """Return the start of a first bar, in seconds as `now`, if it was learnt in the last month."""
        with self._content(wait=True) as content:
            head, learnt = (content or {}).get("heads", {}).get(name, (None, 0.0))
            return head if 0 <= now - learnt < _MONTH_SECONDS else None

    def learn_head(self, name: str, head: float, now: float) -> None:
        """Record when an instrument's first bar starts: IB counts a request for that like one for small bars."""
        with self._content(wait=True) as content:
            if content is not None:
                content["heads"] = {**content.get("heads", {}), name: [head, now]}

    def _budget(self, content: dict[str, Any], now: float) -> Budget:
        scaled = Budget(MARGIN * self._scale, self._blocked_until(content, now) * self._scale)
        for at, request, line, weight in sorted(content.get("spent", [])):
            scaled.spend(Ask(request, line, weight), min(at, now) * self._scale)
        return scaled

    def _blocked_until(self, content: dict[str, Any], now: float) -> float:
        """Return when a block ends; it is limited, since the clock may have been ahead when it was set."""
        return float(min(content.get("blocked_until", 0.0), now + WINDOW_SECONDS / self._scale))

    @contextlib.contextmanager
    def _content(self, *, wait: bool = False) -> Iterator[dict[str, Any] | None]:
        """Yield the stored content, and write it back if it changed; None while another program uses it."""
        with self._mine:
            if self._path is None:
                yield self._kept
                return
            with _locked(self._path.with_suffix(".lock"), wait) as mine:
                if not mine:
                    yield None
                    return
                content = _read(self._path)
                before = json.dumps(content)
                yield content
                if json.dumps(content) != before:
                    _write(self._path, content)


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    with open(path, "ab", buffering=0, opener=opened_safely) as handle:
        yield take_lock(handle, wait=wait)


def _make_room(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_suffix(".lock"), "wb", buffering=0, opener=opened_safely):
            pass
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error}); name another folder for the state") from error


def _read(path: Path) -> dict[str, Any]:
    """
    Return the content of a file; nothing if there is none, or this package did not write it.

    Raises:
        DamagedStore: it is not a file that could be replaced.
    """
    try:
        content = document_in(bytes_of(path, _LARGEST))
        if _sound(content):
            return dict(content)
    except FileNotFoundError:
        return {}
    except Misfit:
        pass
    _log.warning("the saved state of a gateway is damaged; starting with an empty one", extra={"path": str(path)})
    return {}


def _sound(content: Any) -> bool:
    match content:
        case {"spent": list(spent)} if not all(_sound_request(row) for row in spent):
            return False
        case {"steps": steps} if not (isinstance(steps, dict) and all(_STEP.match(str(v)) for v in steps.values())):
            return False
        case {"blocked_until": until} if not _is_time(until):
            return False
        case {"learnt": learnt} if not _sound_learnt(learnt):
            return False
        case {"heads": heads} if not (isinstance(heads, dict) and all(_sound_head(pair) for pair in heads.values())):
            return False
    return isinstance(content, dict) and isinstance(content.get("spent", []), list)


def _sound_learnt(learnt: Any) -> bool:
    if not isinstance(learnt, dict) or not all(isinstance(of_gateway, dict) for of_gateway in learnt.values()):
        return False
    rows = [row for of_gateway in learnt.values() for row in of_gateway.values()]
    return all(isinstance(row, list) and len(row) == 2 and _sound_step(*row) for row in rows)


def _sound_step(step: Any, at: Any) -> bool:
    return bool(_STEP.match(str(step))) and _is_time(at)


def _sound_request(row: Any) -> bool:
    match row:
        case [at, str(), str(), int()]:
            return _is_time(at)
    return False


def _sound_head(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(map(_is_time, pair))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _write(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, json.dumps(content).encode())
