"""What an error code of IB means, and what to do about it."""

from __future__ import annotations

import re

from backtest.errors import (
    BadRequest,
    Busy,
    LinkLost,
    NoConnection,
    NoData,
    NoPermission,
    OtherSession,
    PacingViolation,
    Refused,
    SourceError,
    TooLong,
    UnknownContract,
)
from backtest.market.ib_limits import OPEN_REQUESTS

# Codes whose text says no more than they do; every other is told by its text, for 162 means a dozen things.
_BY_CODE: dict[int, type[SourceError]] = {
    100: PacingViolation,
    200: UnknownContract,
    **dict.fromkeys((354, 10089, 10090, 10091, 10168, 10186), NoPermission),
    10197: OtherSession,
    **dict.fromkeys((166, 320, 321, 322, 10299, 10314, 10339), BadRequest),
    326: NoConnection,
    **dict.fromkeys((502, 504, 507, 509, 1300), LinkLost),
}
# A validation error that names a number is about a limit, in whatever language: "Only 50 simultaneous ...".
_LIMIT = re.compile(r"(?<![\w\\.])\d+(?!\w|\.\d)")
# Codes that end no request: warnings, the echo of a cancel, news of orders, ticks and subscriptions, of the link.
_NO_END = frozenset((110, 165, 202, 366, 399, 404, 434, 492, 1100, 1101, 1102, 10167, 10187, 10189, 10225))
_WARNINGS = range(2100, 2200)
# The first that is found in the text counts: "No data of type EODChart" is not "no data".
_BY_TEXT: tuple[tuple[str, type[Refused] | None], ...] = (
    ("query cancelled", None),
    ("pacing violation", PacingViolation),
    ("different ip|competing live session", OtherSession),
    ("permission|not subscribed|requires additional subscription", NoPermission),
    ("time length exceed|invalid step|invalid time length", TooLong),
    ("no historical market data|no chart|eodchart", BadRequest),
    ("no data", NoData),
)
_ADVICE: dict[type[SourceError], str] = {
    NoData: "IB has no such bars on that route",
    TooLong: "IB does not serve as much at once; ask for less",
    PacingViolation: "too many requests came in ten minutes, those of other programs of this login among them; "
    "wait, then run this again",
    Busy: "other programs of this login have requests open, too; close them, or run this again later",
    NoPermission: "this login may not see these prices; subscribe to the market data in IB's Client Portal, "
    "then run this again",
    OtherSession: "another login of the same user has the market data; log out there, then run this again",
    BadRequest: "the request can never be served as it is; ask for another kind of price, bar size or time",
    UnknownContract: "IB knows no such instrument; check symbol, kind, exchange and currency",
    NoConnection: "another program has this client id; name another one, such as ib://127.0.0.1:4002?client_id=7",
    LinkLost: "TWS or IB Gateway is not connected; what is stored stays, run this again to go on",
    Refused: "IB often says so in passing; what is stored stays, run this again to go on",
}


def meaning(code: int, text: str) -> type[SourceError] | None:
    """Return the error that a code and its text mean for the request they name; None where they end none."""
    if code in _NO_END or code in _WARNINGS:
        return None
    if code in (321, 322) and _LIMIT.findall(text) == [str(OPEN_REQUESTS)]:
        return Busy
    if code in _BY_CODE:
        return _BY_CODE[code]
    said = text.lower()
    return next((error for words, error in _BY_TEXT if re.search(words, said)), Refused)


def refusal(code: int, text: str, what: str) -> SourceError:
    """Return the error to raise for a request: the code, IB's text, what it means here, and what to do."""
    error = meaning(code, text) or Refused
    words = f"IB answered {what} with error {code}: {text.strip().rstrip('.')}; {_ADVICE[error]}"
    return error(words, code) if issubclass(error, Refused) else error(words)
