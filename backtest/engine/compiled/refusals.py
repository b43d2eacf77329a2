"""`NotCompiled`: the reason why the event engine has to run the trials; `TooMany`: they are too many at once."""

from __future__ import annotations


class NotCompiled(Exception):
    """
    A strategy, or what is asked of its run, is nothing that the compiled engine does the same to the last bit.

    Attributes:
        reason: what it is, in a few words.
        line: where it stands in the strategy's file, 0 for nowhere.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class TooMany(Exception):
    """The lines of so many trials take more memory than there is to be: fewer at once can be made."""
