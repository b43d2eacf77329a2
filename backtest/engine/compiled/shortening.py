"""Lines of a function over all trials without what they compute for nothing: each takes numpy about a microsecond."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_NAME = re.compile(r"[A-Za-z_]\w*")
_HELD = re.compile(r"( *)([cjtvz]\d+) = (.*)")
_COPIED = re.compile(r"( *)(v\d+) = (v\d+)\.copy\(\)")
_STORED = re.compile(r" *(w_\w+)\[[\w:]+\] = (.*)")
_PURE = re.compile(r"\b(abs|where|minimum|maximum|_ratio)\(|\.copy\(\)")
_CALL = re.compile(r"\w\(")
_NEW = re.compile(r"\(.*\)|v\d+\.copy\(\)|[AF]_\w+(\[\w+\])?\[[jt]\d*\]|(abs|where)\(.*\)")
_ONLY_READS = re.compile(r" *(\w+ = (\([^\[]*\)|\w+\.copy\(\))|[wAFr]_\w+(\[\w+\])?\[[\w:]+\] = \w+|copyto\(.*\))")


def shortened(lines: Sequence[str]) -> list[str]:
    """
    Return other lines of a function's body that do the same.

    Values that nothing reads are not computed, a local is not stored before it is stored again, and a copy of a value
    that nothing reads any more is that value itself.
    """
    found = _without_stores(lines)
    while (shorter := _without_copies(_without_values(found))) != found:
        found = shorter
    return found


def _without_stores(lines: Sequence[str]) -> list[str]:
    found: list[str] = []
    stored: dict[str, int] = {}  # by what is stored, until it may be read
    for line in lines:
        match = _STORED.fullmatch(line)
        if match is None and _HELD.fullmatch(line) is None:
            stored.clear()
        value, place = line.partition(" = ")[2], line.partition(" = ")[0]
        stored = {one: n for one, n in stored.items() if one.split("[")[0].strip() not in value}
        if match is not None:
            if place in stored:
                found[stored[place]] = ""
            stored[place] = len(found)
        found.append(line)
    return [line for line in found if line]


def _without_values(lines: Sequence[str]) -> list[str]:
    named = Counter(name for line in lines for name in _NAME.findall(line))
    found: list[str] = []
    for line in lines:
        match = _HELD.fullmatch(line)
        if match is None or named[match[2]] > 1 or _CALL.search(_PURE.sub("", match[3])):
            found.append(line)
        elif found and found[-1].endswith(":"):
            found.append(f"{match[1]}pass")
    return found


def _without_copies(lines: Sequence[str]) -> list[str]:
    found = list(lines)
    for at, line in enumerate(lines):
        match = _COPIED.fullmatch(line)
        if match is not None and _is_last(found, at, match[1], match[3]):
            name = re.compile(rf"\b{match[3]}\b")
            found = [name.sub(match[2], one) for one in found]
            found[at] = ""
    return [line for line in found if line]


def _is_last(lines: Sequence[str], at: int, margin: str, name: str) -> bool:
    """Return whether the copy in a line is the last that is done with a value, which nothing else can be a part of."""
    named = re.compile(rf"\b{name}\b")
    places = [n for n, line in enumerate(lines) if named.search(line)]
    held = _HELD.fullmatch(lines[places[0]])
    if places[-1] != at or held is None or held[1] != margin or held[2] != name or not _NEW.fullmatch(held[3]):
        return False
    alike = all(line.startswith(margin) for line in lines[places[0] : at] if line)  # not around a loop
    return alike and all(_ONLY_READS.fullmatch(lines[n]) for n in places[1:-1])
