"""Names of extra columns, which are stored beside a bar's own and become lines of a feed."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from typing import Any

from backtest import _arguments
from backtest.errors import UsageError

_EXAMPLE = 'write names of columns, such as ["signal", "score"]'
_WORDS_OF_BARS = "time open high low close volume average trades"
_OTHER_LINES = ("datetime", "openinterest")  # of each feed of Backtrader
# What a feed of Backtrader and its lines have as attributes or parameters: a line of that name would never be found, or
# hide what Backtrader needs. tests/engine/test_extra_lines.py compares them with the Backtrader that is installed.
_WORDS_OF_FEEDS = """
    CONNBROKEN CONNECTED Close DELAYED DISCONNECTED DateTime High IndType LIVE LineOrder Low NOTSUBSCRIBED
    NOTSUPPORTED_TF ObsType Open OpenInterest StratType UNKNOWN Volume addfilter addfilter_simple addminperiod advance
    advance_peek alias aliased array backwards buflen calendar clone compensate compression copyas csv dataname date2num
    do_qcheck extend extrasize filters forward forward_to_end fromdate frompackages fullsize get get_notifications
    getenvironment getfeed getlinealiases getwriterheaders getwriterinfo getwritervalues haslivedata home incminperiod
    isdefault islive itersize l legendloc line linealias lines load minbuffer name next nextstart notdefault notifs
    num2date once oncestart p packages params plot plotind plotinfo plotlabel plotlines plotmaster plotylimited preload
    prenext preonce put_notification qbuffer qcheck replay replaying resample resampling reset rewind sessionend
    sessionstart setenvironment setminperiod single size start stop timeframe todate tz tzinput updateminperiod
"""
_EVERY_BAR, _TAKEN = (frozenset(words.split()) for words in (_WORDS_OF_BARS, _WORDS_OF_FEEDS))
_NUMBERED = r"line_?\d+|tick_.*"  # lines by number, and the last values of lines


def extra_names(given: Any) -> tuple[str, ...]:
    """
    Return the names of extra columns, given as a list or as text with commas.

    Raises:
        UsageError: it is neither, a name cannot be a line's, or two names differ only in capital letters.
    """
    if isinstance(given, set | frozenset):
        raise UsageError(f"extra is a set, which has no order, but lines have one; {_EXAMPLE}")
    listed = given.split(",") if isinstance(given, str) and given else given or []
    names = [_plain_text(one) for one in _arguments.several(listed, "extra", _EXAMPLE)]
    if problem := problem_of(names):
        raise UsageError(problem)
    return tuple(names)


def problem_of(names: Iterable[str]) -> str:
    """Return why these cannot be the names of extra columns together, and what to write; "" if they can."""
    seen: dict[str, str] = {}
    for name in names:
        if problem := _problem(name):
            return problem
        other = seen.setdefault(name.casefold(), name)
        if other is not name:
            same = "is named twice" if other == name else f"differs from {other!r} by capital letters only"
            return f"the extra column {name!r} {same}; name each once"
    return ""


def united(names: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return each name once, in order of first appearance."""
    return tuple(dict.fromkeys(name for some in names for name in some))


def suggested_name(name: str) -> str:
    """Return the name under which a column can be stored and is found; "" if it has to be renamed."""
    near = re.sub(r"\W+", "_", _composed(name)).strip("_")
    return next((one for one in (near, f"{near}_") if _fits(one)), "")


def _plain_text(given: Any) -> str:
    return _composed(_arguments.text(given, "extra", _EXAMPLE).strip())


def _composed(name: str) -> str:
    """Return a name as Python reads identifiers: one with an accent may be written in two ways."""
    import unicodedata

    return unicodedata.normalize("NFKC", name)


def _problem(name: str) -> str:
    if not name:
        return "an extra column has no name; write names such as signal,score"
    if name.casefold() in _EVERY_BAR:
        also = f", or write {name}_ to have it as a line, too" if name in ("average", "trades") else ""
        return f"the extra column {name!r} is part of every bar; leave it out{also}"
    if _is_taken(name):
        return (
            f"the extra column {name!r} cannot be a line, because feeds already have an attribute of that name; "
            f"{_cure(name)}"
        )
    if not _fits(name):
        return (
            f"the extra column {name[:80]!r} cannot be a line, which a strategy reads as data.NAME: that takes a "
            f"letter, then letters, digits and _, and no Python keyword; {_cure(name)}"
        )
    return ""


def _fits(name: str) -> bool:
    """Return whether a column can be an extra one by its name alone."""
    known = name.casefold() in _EVERY_BAR or _is_taken(name) or keyword.iskeyword(name)
    return name.isidentifier() and name[0] != "_" and not known and _composed(name) == name


def _is_taken(name: str) -> bool:
    return name in _TAKEN or name.casefold() in _OTHER_LINES or re.fullmatch(_NUMBERED, name) is not None


def _cure(name: str) -> str:
    near = suggested_name(name)
    return f"write {near}, which finds that column too" if near else "rename the column"
