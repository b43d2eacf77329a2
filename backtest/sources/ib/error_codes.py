"""What IB's error codes mean, and how to handle them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backtest.errors import (
    AmbiguousContract,
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
from backtest.market.series import KINDS

# Codes whose text adds nothing, except for the texts below; every other code is classified by its text.
_BY_CODE: dict[int, type[SourceError]] = {
    100: PacingViolation,
    200: UnknownContract,
    **dict.fromkeys((203, 354, 10089, 10090, 10091, 10168, 10186), NoPermission),
    10197: OtherSession,
    **dict.fromkeys((166, 320, 321, 322, 10299, 10314, 10339), BadRequest),
    326: NoConnection,
    **dict.fromkeys((502, 504, 507, 509, 1300), LinkLost),
}
# Codes that end no request: warnings, the echo of a cancel, news of orders, ticks and subscriptions, of the link.
_NO_END = frozenset((110, 165, 202, 366, 399, 404, 434, 492, 1100, 1101, 1102, 10167, 10187, 10189, 10225))
_WARNINGS = range(2100, 2200)
_SHORTEST = 30  # seconds of a duration: a limit that is never broken here
# A number by itself that is no bar size; what the client library could not decode reads "hist\\xf3ricos".
_NUMBER = re.compile(r"(?<![\w\\.\[])\d{2,5}(?!\w|[.,:]\d|\s(?:secs?|mins?|hours?|day|week|month)\b)")


@dataclass(frozen=True, slots=True)
class _Text:
    """What a text looks like that says more than its code, in whatever language TWS writes it."""

    look: str  # in words
    example: str
    pattern: str
    error: type[Refused] | None
    code: int | None = None  # where the code has a meaning without the text


# The first that fits counts: "No data of type EODChart" is not "no data". TWS translates its texts, but not the names
# of contracts, exchanges, kinds and bar sizes in them; where there is no such name, English words are all there is.
_BY_TEXT = (
    _Text("a symbol, a number", "... specified for AAPL is ambiguous",
          r"\s(?!(?:API|IB|ID|TWS)\b)[A-Z0-9][A-Z0-9.]*(?=[\s;,.]|$)", AmbiguousContract, 200),
    _Text("symbol/KIND@exchange", "No historical market data for EUR/CASH@FXSUBPIP Last 1d",
          r"\S/[A-Z]+@[A-Z]|(?i:no historical market data)", BadRequest),
    _Text("a name that ends in Chart", "No data of type EODChart is available", r"[A-Za-z]Chart\b|(?i:no chart)",
          BadRequest),
    _Text("symbol@exchange", "HMDS query returned no data: AAPL@SMART Trades", r"\S@[A-Z]|(?i:no data)", NoData),
    _Text("exchange KIND", "No market data permissions for NASDAQ STK",
          rf"\b[A-Z][A-Z0-9.]+ (?:{'|'.join(KINDS)})\b|(?i:permission|not subscribed|additional subscription)",
          NoPermission),
    _Text("IP", "Trading TWS session is connected from a different IP address",
          r"(?<![A-Za-z])IP(?![A-Za-z])|(?i:competing live session)", OtherSession),
    _Text("pacing", "Historical data request pacing violation", r"(?i:pacing)", PacingViolation),
    _Text("a bar size", "invalid step: 1 secs",
          r"\b\d+ (?:secs?|mins?|hours?|day)\b|(?i:time length exceed|invalid step|invalid time length)", TooLong),
    _Text("the number of the request at its end", "API historical data query cancelled: 7",
          r"[:\uff1a]\s*\d+\s*$|(?i:query cancelled)", None),
)  # fmt: skip
_PASSING = re.compile("query failed|disconnect", re.IGNORECASE)
_ADVICE: dict[type[SourceError], str] = {
    NoData: "IB has no such bars for that exchange",
    TooLong: "IB does not serve that much at once; request less",
    PacingViolation: "too many requests within ten minutes, including those of other programs on this login; "
    "wait, then run this again",
    Busy: "other programs on this login have open requests too; close them, or run this again later",
    NoPermission: "this login may not see these prices; subscribe to the market data in IB's Client Portal, "
    "then run this again",
    OtherSession: "another session of the same user has the market data; log out there, then run this again",
    BadRequest: "the request can never be served as it is; request another kind of price, bar size or time",
    AmbiguousContract: "several instruments fit; name one by a qualifier, such as +primary=NASDAQ, +multiplier=5000 or "
    "+conid=265598",
    UnknownContract: "IB has no such instrument; check symbol, security type (kind), exchange and currency",
    NoConnection: "another program is using this client id; choose another, such as ib://127.0.0.1:4002?client_id=7",
    LinkLost: "TWS or IB Gateway is not connected; stored bars are kept, run this again to resume",
    Refused: "IB often sends this temporarily; stored bars are kept, run this again to resume",
}


def meaning(code: int, text: str) -> type[SourceError] | None:
    """Return the error that a code and its text mean for their request; None if the request goes on."""
    if code in _NO_END or code in _WARNINGS:
        return None
    if code in (321, 322) and (limit := _limit(text)):
        return Busy if limit == OPEN_REQUESTS else TooLong if code == 321 else _BY_CODE[code]
    known = code if code in _BY_CODE else None
    said = (one.error for one in _BY_TEXT if one.code == known and re.search(one.pattern, text))
    return next(said, _BY_CODE.get(code, Refused))


def may_be_pacing(error: Refused) -> bool:
    """Return whether an error may be a pacing violation with an unknown text."""
    return type(error) is Refused and error.code == 162 and not _PASSING.search(str(error))


def refusal(code: int, text: str, what: str) -> SourceError:
    """Return the error to raise for a request: the code, IB's text, what it means here, and what to do."""
    error = meaning(code, text) or Refused
    words = f"IB answered the request for {what} with error {code}: {text.strip().rstrip('.')}; {_ADVICE[error]}"
    return error(words, code) if issubclass(error, Refused) else error(words)


def _limit(text: str) -> int:
    """Return the only number in a text, as of a limit that a request breaks; 0 if there is none, or several."""
    numbers = {int(number) for number in _NUMBER.findall(text)} - {_SHORTEST}
    return numbers.pop() if len(numbers) == 1 else 0
