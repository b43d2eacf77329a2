"""
Everything the package raises on purpose, as one tree; the text says what happened and what to do.

Each class also says how to handle it: the exit code of the command line; `retry`, whether repeating the request may
help (`*` in the tree); `scope`, what a download gives up: the requested window, its series, or everything; and
`brief`, a short text for a summary.

    BacktestError                exit code, and scope where it is not the series
    ├── UsageError               2         invalid command line or arguments
    ├── DataError                3         bars are missing or bad
    │   ├── NoBars                         the store has no bars for the request
    │   ├── BadBars                        bars that break the rules of a bar
    │   ├── Conflict                       bars that disagree with stored ones
    │   ├── BrokenPin                      bars that are not those that were pinned
    │   ├── BadStore                       a folder that is not a store, or one of another format
    │   └── DamagedStore                   a stored file that differs from what was written
    ├── SourceError              4         a source could not be reached or did not deliver
    │   ├── NoConnection           all     nothing is listening, or the handshake failed
    │   ├── LinkLost *                     the connection broke while requests were open
    │   ├── Unanswered *           window  no answer in time, which is not "no data"
    │   │   └── GivenUp                    no answer for a series for a long time
    │   ├── Stopped                all     the user asked to stop
    │   └── Refused *              window  the source answered with an error code
    │       ├── NoData          3  window  the source says that there are no bars
    │       ├── TooLong         3          too much for one request
    │       ├── PacingViolation *  window  too many requests
    │       ├── Busy *             window  as many requests are open as the source serves at once
    │       ├── NoPermission    3          no subscription to the market data
    │       ├── OtherSession       all     another login of the same user has the data
    │       ├── BadRequest      3          a request that can never be served
    │       ├── UnknownContract 3          no such instrument
    │       └── AmbiguousContract 3        several instruments fit
    └── StrategyError            5         the strategy cannot be loaded, or raised an exception
"""

from __future__ import annotations

from typing import ClassVar, Literal

Scope = Literal["window", "series", "all"]


class BacktestError(Exception):
    """The base class of all errors of this package; the text explains what happened and what to do."""

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    scope: ClassVar[Scope] = "series"
    brief: ClassVar[str] = "failed"


class UsageError(BacktestError):
    """Invalid command line or arguments."""

    exit_code = 2
    brief = "invalid request"


class DataError(BacktestError):
    """Bars are missing or bad."""

    exit_code = 3
    brief = "bars missing or bad"


class NoBars(DataError):
    """The store has no bars for the request."""

    brief = "no bars"


class BadBars(DataError):
    """Bars break the rules of a bar; nothing of them was stored."""

    brief = "invalid bars"


class Conflict(DataError):
    """Bars disagree with stored ones; the stored ones were kept."""

    brief = "bars that disagree with stored ones"


class BrokenPin(DataError):
    """Stored bars are not those that were pinned, or are not pinned."""


class BadStore(DataError):
    """A folder is not a store, or is a store in a format that this version does not know."""

    brief = "no store"


class DamagedStore(DataError):
    """A stored file differs from what was written."""

    brief = "damaged files"


class SourceError(BacktestError):
    """A source could not be reached or did not deliver."""

    exit_code = 4
    brief = "no answer from the source"


class NoConnection(SourceError):
    """Nothing is listening at the address, or the handshake failed."""

    scope = "all"
    brief = "gateway unreachable"


class LinkLost(SourceError):
    """The connection broke while requests were open."""

    retry = True
    brief = "connection lost"


class Unanswered(SourceError):
    """No answer came in time, which says nothing about whether there are bars."""

    retry = True
    scope: ClassVar[Scope] = "window"
    brief = "no answer in time"


class GivenUp(Unanswered):
    """The source has answered no request for a series for so long that the download gives it up for now."""

    retry = False
    scope = "series"


class Stopped(SourceError):
    """The user asked to stop; stored bars are kept."""

    scope = "all"
    brief = "stopped"


class Refused(SourceError):
    """The source answered with an error code; `code` is that code, 0 if there is none."""

    retry = True
    scope: ClassVar[Scope] = "window"
    brief: ClassVar[str] = "refused by the source"

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class NoData(Refused):
    """The source says that it has no bars there."""

    exit_code = 3
    retry = False
    brief = "no bars at the source"


class TooLong(Refused):
    """The source does not serve that much in one request; a shorter one may work."""

    exit_code = 3
    retry = False
    scope = "series"
    brief = "too much for one request"


class PacingViolation(Refused):
    """Too many requests; nothing should be sent for a while."""

    brief = "too many requests"


class Busy(Refused):
    """The source's limit of open requests is reached; it accepts more when some have ended."""

    brief = "too many requests open"


class NoPermission(Refused):
    """The user has not subscribed to this market data."""

    exit_code = 3
    retry = False
    scope = "series"
    brief = "no market data subscription"


class OtherSession(Refused):
    """Another login of the same user has the data; nothing works until it ends."""

    retry = False
    scope = "all"
    brief = "another login has the market data"


class BadRequest(Refused):
    """A request that can never be served as it is."""

    exit_code = 3
    retry = False
    scope = "series"
    brief = "request that IB never serves"


class UnknownContract(Refused):
    """The source knows no such instrument."""

    exit_code = 3
    retry = False
    scope = "series"
    brief = "no such instrument"


class AmbiguousContract(Refused):
    """Several instruments fit; the text lists them."""

    exit_code = 3
    retry = False
    scope = "series"
    brief = "several instruments fit"


class StrategyError(BacktestError):
    """The strategy cannot be loaded, or raised an exception."""

    exit_code = 5


def reason(error: BaseException) -> str:
    """Return why something failed, in words alone: for a system error, without its number and the file's name."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def quoted(path: object) -> str:
    """Return a path or a word in quotes, as its user wrote it: like `repr`, but a backslash of Windows stays one."""
    return repr(str(path)).replace("\\\\", "\\")


def unsaved(what: str, where: object, error: OSError, cure: str = "name another folder") -> UsageError:
    """Return the error of something that cannot be written, such as a run into its folder."""
    return UsageError(f"no {what} can be saved in {quoted(where)} ({reason(error)}); {cure}")
