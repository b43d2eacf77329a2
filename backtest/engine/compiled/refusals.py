"""`NotCompiled`: the reason why the event engine has to run the trials; `TooMany`: they are too many at once."""

from __future__ import annotations


class NotCompiled(Exception):
    """
    The compiled engine cannot run a strategy, or a setting of its run, with results equal to the last bit.

    Attributes:
        reason: the obstacle, in a few words.
        line: its line in the strategy's file, 0 if it has none.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class TooMany(Exception):
    """The lines of so many trials exceed the memory limit: fewer have to run at once."""
