"""
`Summary`: what a list of runs needs of a kept run, in one small file beside it.

It is made with the run. Where it is missing, damaged, of another state of the run's files or made by another version
of this package, it counts for nothing, and whoever needs it makes it again of the run.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from backtest._resources import own_source
from backtest._system import opened_safely, put_in_place
from backtest.errors import BacktestError
from backtest.runs.parameters import read_params
from backtest.runs.record import SUMMARY
from backtest.runs.spec import RunSpec, kept_spec
from backtest.store.documents import bytes_of, document_in
from backtest.store.files import TEMPORARY

State = tuple[tuple[str, int, int], ...]  # of the files of a run: name, bytes, and when each was written

_LARGEST = 1 << 20  # bytes; one has four thousand
_COMPACT = ",", ":"


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What a list shows of a run.

    Attributes:
        name: the run's own.
        seen: digests of what it rested on, by what they are of: see `differences.seen_of`.
        numbers: the metrics by name, NaN where one is not defined.
        reasons: why those are not.
        words: what the numbers rest on, by the names of `Stats`.
    """

    name: str
    spec: RunSpec
    series: tuple[str, ...]
    seen: Mapping[str, str]
    numbers: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_summary(folder: Path, state: State) -> Summary | None:
    """Return the summary of a run whose files are in this state; None where there is none that can be believed."""
    if not state:
        return None
    with suppress(OSError, BacktestError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = _document(bytes_of(folder / SUMMARY, _LARGEST))
        if found["of"] != [list(one) for one in state] or found["made_by"] != own_source():
            return None
        return Summary(
            found["run"],
            _spec_in(found["spec"]),
            tuple(found["series"]),
            found["seen"],
            {name: math.nan if value is None else float(value) for name, value in found["numbers"].items()},
            found["reasons"],
            found["words"],
            tuple(found["notes"]),
        )
    return None


def keep_summary(summary: Summary, folder: Path, state: State) -> None:
    """Write the summary of a run whose files are in this state; where the folder cannot be written, there is none."""
    if not state:
        return
    numbers = {name: None if math.isnan(value) else value for name, value in summary.numbers.items()}
    document = {
        "made_by": own_source(),
        "run": summary.name,
        "of": [list(one) for one in state],
        "spec": summary.spec.flat,
        "series": list(summary.series),
        "seen": dict(summary.seen),
        "numbers": numbers,
        "reasons": dict(summary.reasons),
        "words": dict(summary.words),
        "notes": list(summary.notes),
    }
    beside = folder / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{SUMMARY}"
    with suppress(OSError):  # not synced: one that a power cut damages is made again
        with open(beside, "wb", opener=opened_safely) as handle:
            handle.write(f"{json.dumps(document, sort_keys=True, separators=_COMPACT)}\n".encode())
        put_in_place(beside, folder / SUMMARY)


def _document(data: bytes) -> dict[str, Any]:
    """Return what a summary says; raise where it is none. Escapes may be halves of a character, which no page takes."""
    found = document_in(data) if b"\\u" in data else json.loads(data)
    if not (isinstance(found, dict) and isinstance(found["spec"], dict)):
        raise TypeError("it is no summary")
    texts = [found["run"], *found["series"], *found["notes"], *(found["seen"][name] for name in _SEEN)]
    texts += [*found["reasons"].values(), *(found["words"][name] for name in WORDS)]
    if {*map(type, texts)} > {str} or not {*map(type, found["numbers"].values())} <= {float, int, type(None)}:
        raise TypeError("it is no summary")
    return found


def _spec_in(flat: dict[str, Any]) -> RunSpec:
    """Return a spec of its flat form; most of thousands of runs differ by their parameters alone."""
    params = flat.pop("params")
    return replace(_without_params(json.dumps(flat, sort_keys=True)), params=read_params(params))


@lru_cache(maxsize=256)
def _without_params(text: str) -> RunSpec:
    return kept_spec({**json.loads(text), "params": {}})


_SEEN = ("code", "bars")
WORDS = ("conventions", "extent", "currency", "unit")
"""What is kept of the words of `Stats`."""
