"""`Loop`: which engine runs the bars of a single run, and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest import _arguments
from backtest.errors import UsageError

if TYPE_CHECKING:
    from backtest.engine.lean.history import Walked

ENGINES = ("compiled", "event")
_MANY = 500_000  # bars from which on numba is worth it: it takes 5 to 20 seconds to compile a new strategy
_MOST = 10_000_000  # bars up to which it is used: a bar takes 300 bytes of memory, in the event engine 100


@dataclass
class Loop:
    """
    The engine that runs the bars.

    Attributes:
        asked: one of ENGINES; "" for the compiled engine if it can run the strategy, numba is installed, and it pays
            off.
        backend: the backend that ran the bars; "" for the event engine.
        why_not: why the compiled engine did not run them, if it should have.
        numba: whether numba is installed; None if nobody has looked yet.
    """

    asked: str = ""
    backend: str = ""
    why_not: str = ""
    numba: bool | None = False

    @classmethod
    def of(cls, asked: str) -> Loop:
        """
        Return the choice by its name.

        Raises:
            UsageError: there is no such engine.
        """
        word = _arguments.word(asked, "engine", ENGINES) if asked else ""
        return cls(word, numba=None)

    @property
    def words(self) -> str:
        """The engine that ran, in a line; "" if there was no choice."""
        if self.backend:
            return f"compiled ({self.backend})"
        if self.why_not:
            return f"event engine: {self.why_not.replace(f'{Path.cwd()}/', '')}"
        return "event engine" if self.asked else ""

    def wants(self, bars: int) -> bool:
        """Return whether the compiled engine should try a run."""
        return self.asked == "compiled" or (not self.asked and _MANY <= bars <= _MOST and self._has_numba())

    def walk(self, strategy: Any) -> Walked | None:
        """Run the bars with a strategy, or return None."""
        from backtest.engine.compiled.single import walk_one

        # With numpy a single trial takes longer than bar by bar.
        backends = [*(["numba"] if self._has_numba() else []), *(["numpy"] if self.asked else [])]
        for backend in backends:
            walked, self.why_not = walk_one(strategy, backend)
            if walked is not None:
                self.backend = backend
                return walked
        return None

    def check(self, why_not: str) -> None:
        """
        Record that a run is over.

        Args:
            why_not: why Backtrader's own loop ran the bars, if it did.

        Raises:
            UsageError: the compiled engine was requested but could not run the strategy.
        """
        if self.asked != "compiled" or self.backend:
            return
        self.why_not = self.why_not or why_not or "something beside the strategy acts at each bar"
        if not self.why_not.startswith("it does something unexpected"):
            raise UsageError(f"the run cannot be compiled: {self.why_not}; leave out --engine compiled")

    def _has_numba(self) -> bool:
        if self.numba is None:
            self.numba = find_spec("numba") is not None
        return self.numba
