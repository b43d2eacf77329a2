"""The page of IB's error codes and limits, from the tables that the downloader goes by."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from making.markdown import linked, page, paragraph, sentence, summary, table

from backtest import errors
from backtest.downloads import retry
from backtest.market import ib_limits
from backtest.sources.base import Patience
from backtest.sources.ib import error_codes, link

_WORDS = {
    100: "messages come faster than IB allows",
    110: "the price is not a multiple of the tick size",
    162: "historical data service: one of a dozen errors, named by the text",
    165: "historical data service: the status of its connection",
    166: "the contract has expired, and is no longer served",
    200: "no such instrument, or several that fit",
    202: "an order was cancelled",
    203: "the security is not available to this account",
    320: "the request cannot be read",
    321: "the request is invalid",
    322: "the request cannot be processed, for example because its number is in use",
    326: "the client id is in use",
    354: "no subscription to this market data",
    366: "no such historical request: the echo of a cancellation",
    399: "a warning about an order",
    404: "shares to sell short are being located",
    420: "the request for live data is invalid: the text says why",
    434: "the size of an order is zero",
    492: "a remark on an order",
    502: "cannot connect to TWS",
    504: "not connected",
    507: "a message of the wrong length",
    509: "an error of the socket",
    1100: "the link between IB and the gateway is lost",
    1101: "the link is back; requests were lost",
    1102: "the link is back; requests were kept",
    1300: "the port of the socket was changed",
    2103: "a live data farm is disconnected",
    2104: "a live data farm is connected",
    2105: "a historical data farm is disconnected",
    2106: "a historical data farm is connected",
    2107: "a historical data farm is idle",
    2108: "a live data farm is idle",
    2110: "the link between the gateway and IB's server is broken",
    2119: "a live data farm is being connected",
    2157: "a contract data farm is disconnected",
    2158: "a contract data farm is connected",
    10089: "this market data needs a subscription for the API",
    10090: "a part of this market data is not subscribed",
    10091: "a part of this market data needs a subscription for the API",
    10167: "delayed data is shown instead of live data",
    10168: "not subscribed, and delayed data is not enabled",
    10186: "not subscribed, and there is no delayed data",
    10187: "historical ticks failed",
    10189: "live ticks failed",
    10197: "another session of the same user has the market data",
    10225: "a bust event ended live bars",
    10299: "another kind of price has to be requested",
    10314: "the end of the request is not a valid time",
    10339: "a request for a continuous future must not have an end",
}
_TOLD_BY_TEXT = (162, 420)
_TOLD_ALSO_BY_TEXT = {200: "`AmbiguousContract`", 321: "`TooLong` or `Busy`", 322: "`Busy`"}


def ib_page() -> str:
    """Return the page of IB's error codes, how each is handled, and of IB's limits."""
    return page(
        "IB's error codes and limits",
        paragraph(
            "IB answers a request that it does not serve with a code and a text. This page shows how the downloader "
            "handles both; an error message has the code, IB's text, its meaning and what to do. A request that is "
            'never answered does not count as "no data": it is repeated, and finally reported as unanswered. '
            f"A series that has no answer in {Patience().silence / 60:.0f} minutes of waiting is skipped for that run."
        ),
        "## Kinds of refusal",
        table(("kind", "meaning", "retries", "finally", "advice"), *map(_kind, _kinds())),
        "Kinds are classes of `backtest.errors`; see [errors](python/errors.md).",
        "## Codes",
        table(("code", "IB's meaning", "handled as"), *(_code(code) for code in codes())),
        paragraph(
            f"All other codes from {error_codes._WARNINGS.start} to {error_codes._WARNINGS.stop - 1} are warnings, "
            "which do not end a request. A code that is not listed is classified by its text."
        ),
        "## Texts",
        paragraph(
            "If a code is ambiguous, the first of these patterns in the text decides. TWS writes its texts "
            "in the language that it is set to but does not translate the names in them, so the tool looks for these "
            "names; English words count only if a text has no name. TWS writes texts in English if *Show API error "
            "messages in English* is ticked in its API settings."
        ),
        table(("found in the text", "code", "example", "handled as"), *_texts()),
        "## Limits",
        paragraph(_legend()),
        table(("limit", "value", "meaning"), *_limits()),
        "## Length of one request",
        paragraph(
            "A download begins with `practical`, or with `legacy` at `ib://HOST:PORT?limits=legacy`. If a gateway "
            "refuses a length, the tool requests half of it, and remembers that for this gateway and login, and for "
            "series of the same bar size, price, kind of instrument and hours. After a week it tries longer requests "
            "again."
        ),
        table(("bar size", "practical", "legacy"), *((one, ib_limits.PRACTICAL[one], ib_limits.LEGACY[one])
                                                     for one in ib_limits.PRACTICAL)),
        "## Longest durations",
        table(("unit", "maximum"), *((f"`{unit}`", f"{most:,}") for unit, most in ib_limits.LONGEST.items())),
        "## Prices that an instrument never has",
        table(("kind", "never"), *((kind, ", ".join(f"`{one}`" for one in never))
                                   for kind, never in ib_limits.NEVER_SHOWN.items())),
    )  # fmt: skip


def codes() -> list[int]:
    """Return every code that the link knows by itself, and those that are told by their text, in order."""
    return sorted(
        {*error_codes._BY_CODE, *error_codes._NO_END, *link._FARM_STATES, link._BROKEN_TO_SERVER, *_TOLD_BY_TEXT}
    )


def _kinds() -> list[type[errors.SourceError]]:
    return list(error_codes._ADVICE)


def _kind(kind: type[errors.SourceError]) -> tuple[str, ...]:
    ended = "the download ends" if kind.scope == "all" else "the series stays incomplete, the others continue"
    special = {errors.NoData: "recorded as an answer", errors.TooLong: "shorter requests, in later downloads too"}
    meaning = sentence(summary(kind)).replace("; `code` is that code, 0 if there is none", "")
    advice = ("for code 326: " if kind is errors.NoConnection else "") + error_codes._ADVICE[kind]
    return f"`{kind.__name__}`", meaning, _again(kind), special.get(kind, ended), sentence(advice)


def _again(kind: type[errors.SourceError]) -> str:
    patience, wait = retry.Persistence(), Patience()
    if kind is errors.UnknownContract:
        wait_for = f"{wait.belief:g} s"
        return f"once, after {wait_for}, if the contract was known before; repeatedly until {wait_for} after an outage"
    if kind is errors.NoConnection:
        return f"for {wait.outage / 3600:g} hours, if there was a connection before"
    if not kind.retry:
        return "no"
    if kind is errors.Busy:
        longest = min(patience.pause * 2**patience.breaks, patience.pacing_pause)
        return f"{patience.breaks} times per window, after {patience.pause:g} s to {longest:g} s"
    if kind is errors.LinkLost:
        return f"after each reconnection, {patience.breaks} times per window"
    pause = patience.pacing_pause if kind is errors.PacingViolation else patience.pause
    return f"{patience.tries} times in all, after {pause:g} s, then twice as long each time"


def _code(code: int) -> tuple[str, str, str]:
    return str(code), sentence(_WORDS[code]), _means(code)


def _means(code: int) -> str:
    if code in _TOLD_BY_TEXT:
        return "see its " + linked("Texts", "text")
    if told := _TOLD_ALSO_BY_TEXT.get(code):
        return f"`{error_codes._BY_CODE[code].__name__}`; {told} if its {linked('Texts', 'text')} says so"
    if code in link._FARM_STATES:
        state = "works" if link._FARM_STATES[code] else "is broken: requests that need it wait"
        needed = link._KIND_OF_FARM[code] in ("history", "contracts")
        return f"the {link._KIND_OF_FARM[code]} farm {state}" if needed else "ignored: it serves no bars"
    if code in (link._LINK_LOST, link._BROKEN_TO_SERVER):
        return f"the link is lost: all requests wait, at most {Patience().outage / 3600:g} hours"
    if code in link._LINK_BACK:
        return "the link is back; " + (
            "pending requests are sent again" if code == 1101 else "the tool waits for pending requests"
        )
    found = error_codes.meaning(code, "")
    return f"`{found.__name__}`" if found else "ignored: it does not end a request"


def _texts() -> Iterator[tuple[str, str, str, str]]:
    most, busy = f"the number {ib_limits.OPEN_REQUESTS}", "Only 50 simultaneous API historical data requests allowed"
    longer = "durations longer than 365 days must be made in years"
    yield most, "321, 322", busy, f"`{errors.Busy.__name__}`"
    yield "another number, no bar size", "321", longer, f"`{errors.TooLong.__name__}`"
    for text in error_codes._BY_TEXT:
        kind = f"`{text.error.__name__}`" if text.error else "ignored"
        yield text.look, str(text.code or "162, 420"), text.example, kind
    yield "anything else", "162, 420", "Query failed", f"`{errors.Refused.__name__}`"


def _legend() -> str:
    return "S" + (inspect.getdoc(ib_limits) or "").partition("\n\nS")[2]


def _limits() -> Iterator[tuple[str, str, str]]:
    """Yield each plain number of `ib_limits.py` with what is written beside and above it."""
    about = ""
    for line in inspect.getsource(ib_limits).splitlines():
        if not line or line.startswith("# "):
            about = line.removeprefix("# ")
        elif found := re.match(r"([A-Z_]+) = [\d_.]+(?:  # (.*))?$", line):
            yield f"`{found[1]}`", f"{getattr(ib_limits, found[1]):,g}", ": ".join(filter(None, [about, found[2]]))
