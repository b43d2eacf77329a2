"""Run code of strangers with Backtrader's Cerebro and with another in its place, apart, and tell what differs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import backtrader as bt
import watched
from apart import Ran, apart

VARIES = "two runs under Backtrader differ"  # where orders depend on addresses, as the order of a set of feeds does
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@dataclass(frozen=True)
class Compared:
    """How Backtrader's run ended ("" if well), what first differs in ours ("" if nothing), and counts of ours."""

    ended: str
    difference: str
    runs: int
    lean: int
    orders: int
    fills: int


def compare(work: Callable[[], Any], ours: type[bt.Cerebro], folder: Path, seconds: float) -> Compared:
    """
    Do work of strangers in a folder with Backtrader's Cerebro, and with ours in its place.

    What two runs with Backtrader's own do not have in common, such as a clock's time, is not compared.
    """
    run = partial(_run, work, folder, seconds)
    stock = run(bt.Cerebro)
    if stock.hung:
        return Compared(ended(stock), "", 0, 0, 0, 0)
    own = run(ours)
    told, end = difference(stock, own), ended(stock)
    if told:
        again = run(bt.Cerebro)
        told = difference(*settled(stock, again, own))
        if told and difference(*settled(stock, again, again)):
            told, end = "", VARIES
    counts = [sum(int(one[name]) for one in noted(own)) for name in ("lean", "orders", "fills")]
    return Compared(end, told, len(noted(own)), *counts)


def _run(work: Callable[[], Any], folder: Path, seconds: float, engine: type[bt.Cerebro]) -> Ran:
    return apart(partial(_in_the_child, work, engine), folder, seconds)


def _in_the_child(work: Callable[[], Any], engine: type[bt.Cerebro]) -> tuple[str, list[dict[str, Any]]]:
    watched.take_the_place(engine)
    end = ""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever strangers raise is how it ended
        end = f"{type(error).__name__}: {error}"
    except SystemExit as error:
        end = f"SystemExit: {error.code}" if error.code else ""
    return end, watched.noted()


def ended(ran: Ran) -> str:
    """Return how a run ended: "" if well."""
    return ran.ended or (ran.told[0] if ran.told else "")


def noted(ran: Ran) -> list[dict[str, Any]]:
    """Return what was noted of each run of a Cerebro."""
    return ran.told[1] if ran.told else []


def difference(stock: Ran, ours: Ran) -> str:
    """Return the first difference between two runs of a job; "" if there is none."""
    ends = [_placeless(ended(ran)) or "success" for ran in (stock, ours)]
    if ends[0] != ends[1]:
        return f"end: Backtrader has {_short(ends[0])}, ours {_short(ends[1])}"
    lines = [_placeless(ran.printed).splitlines() for ran in (stock, ours)]
    found = _first_difference("line", *lines) or _first_difference("run", _shown(noted(stock)), _shown(noted(ours)))
    if found or stock.files == ours.files:
        return found or next(filter(None, (run["history"] for run in noted(ours))), "")
    return f"files: Backtrader has {stock.files}, ours {ours.files}"


def _placeless(text: str) -> str:
    return _ADDRESS.sub("0x", text)


def _shown(runs: list[dict[str, Any]]) -> list[Any]:
    return [fact for run in runs for fact in (*map(_placeless, run["log"]), *run["account"], run["left"])]


def _first_difference(what: str, stock: list[Any], ours: list[Any]) -> str:
    for number, (one, other) in enumerate(zip_longest(stock, ours), start=1):
        if one != other:
            return f"{what} {number}: Backtrader has {_short(one)}, ours {_short(other)}"
    return ""


def _short(fact: Any) -> str:
    return repr(fact)[:400]


def settled(stock: Ran, again: Ran, ours: Ran) -> tuple[Ran, Ran]:
    """Return Backtrader's run and ours without what two of Backtrader's runs do not have in common."""
    once, twice, own = (ran.printed.splitlines() for ran in (stock, again, ours))
    if once != twice and sorted(once) == sorted(twice):  # processes that print as they come
        once, twice, own = sorted(once), sorted(twice), sorted(own)
    varied = {n for n, (one, other) in enumerate(zip_longest(once, twice)) if one != other}
    files = {name for name, digest in stock.files.items() if again.files.get(name) != digest}
    return _without(varied, files, stock, once), _without(varied, files, ours, own)


def _without(lines: set[int], files: set[str], ran: Ran, printed: list[str]) -> Ran:
    kept = [line for n, line in enumerate(printed) if n not in lines]
    return replace(
        ran, printed="\n".join(kept), files={name: ran.files[name] for name in ran.files if name not in files}
    )
