"""How runs of a strategy differ: in their settings, otherwise in code or bars."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import time, timedelta
from typing import Any

from backtest.market.series import Series
from backtest.market.span import Span
from backtest.runs.parameters import kept_params, words_of
from backtest.runs.spec import Brokerage, RunSpec, json_text

_OPTIONS = ("since", "until", "cash", "benchmark", "risk_free", "periods", "warm_up")  # of a spec, beside the broker's
_DEFAULTS: dict[str, Any] = {one.name: one.default for one in (*fields(RunSpec), *fields(Brokerage))}
_OF_BROKER = tuple(one.name for one in fields(Brokerage))
_ASKED = [(f"--{name.replace('_', '-')}", _DEFAULTS[name]) for name in (*_OPTIONS, *_OF_BROKER)]  # on the command line
_PLAIN = (str, int, bool, type(None))
_DIGITS = 7  # of a hash that people compare


@dataclass(frozen=True, slots=True)
class Difference:
    """
    How a run differs from others of its strategy.

    Attributes:
        params: the values of the parameters that differ, by name.
        others: further differences by name: options as on the command line, "file", "code", "bars".
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The same as text: "fast=10, slow=50, --since 2004-01-02"; "" for nothing."""
        others = [f"{name} {text}" for name, text in self.others.items()]
        return ", ".join([*filter(None, [words_of(self.params)]), *others])

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types."""
        return {**kept_params(self.params), **self.others}


def differences(runs: Sequence[tuple[RunSpec, Mapping[str, Any]]]) -> list[Difference]:
    """
    Return how each of some runs differs from the others of its strategy, by the strategy's own name.

    Their series do not count. If two runs on the same series have equal settings, their code or bars differ.

    Args:
        runs: the spec of each run, and the digests of its inputs: see `seen_of`.
    """
    found: list[Difference] = [Difference()] * len(runs)
    groups: dict[str, list[int]] = {}
    for place, (spec, _) in enumerate(runs):
        groups.setdefault(spec.name, []).append(place)
    for places in groups.values():
        for place, difference in zip(places, _in_group([runs[place] for place in places]), strict=True):
            found[place] = difference
    return found


def _in_group(runs: Sequence[tuple[RunSpec, Mapping[str, Any]]]) -> list[Difference]:
    specs = [spec for spec, _ in runs]
    params = [kept_params(spec.params) for spec in specs]
    options = [_options(spec) for spec in specs]
    asked = [
        (tuple(spec.series), frozenset((name, _comparable(one)) for name, one in own.items()), tuple(its.values()))
        for spec, own, its in zip(specs, params, options, strict=True)
    ]
    seen = [its for _, its in runs]
    alike = Counter(asked)
    more = {
        what
        for text, count in alike.items()
        if count > 1
        for what in _varying([one for one, other in zip(seen, asked, strict=True) if other == text])
    }
    names, varied = _varying(params), _varying(options)
    return [
        Difference(
            {name: spec.params[name] for name in names if name in spec.params},
            {
                **{name: its[name] for name in varied if its.get(name)},
                **{what: hashes[what] for what in ("code", "bars") if what in more},
            },
        )
        for spec, its, hashes in zip(specs, options, seen, strict=True)
    ]


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names whose values differ between rows; a missing value counts as different."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({_comparable(row.get(name)) for row in rows}) > 1]


def _comparable(value: Any) -> Any:
    """Return an object that is equal for values stored as the same text."""
    kind = type(value)
    return (kind, value) if kind in _PLAIN else (kind, repr(value)) if kind is float else json_text([value])


def _options(spec: RunSpec) -> dict[str, str]:
    """Return the settings of a spec besides series and parameters, in command-line form; "" for a default."""
    broker = spec.brokerage
    dates = dict(zip(("since", "until"), _dates(spec), strict=True))
    values = [dates.get(name, getattr(spec, name)) for name in _OPTIONS]
    values += [getattr(broker, name) for name in _OF_BROKER]
    asked = {
        option: "" if value == default and option != "--costs" else _spelled(value)
        for (option, default), value in zip(_ASKED, values, strict=True)
    }
    return {"file": spec.strategy.rpartition(":")[0], **asked, "rates": spec.rates[:_DIGITS]}


def _dates(spec: RunSpec) -> tuple[str, str]:
    """Return the first and the last session of a spec; those of a span of whole days, if all bars are daily."""
    span = spec.span
    daily = all(Series.parse(key).size.period == "session" for key in spec.series)
    if not (daily and isinstance(span, Span) and span.start.time() == span.end.time() == time()):
        return spec.since, spec.until
    return span.start.date().isoformat(), (span.end - timedelta(days=1)).date().isoformat()


def _spelled(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, int | float) else str(value)


def seen_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs of a run by its manifest, as short digests: "code" and "bars"."""
    code = [manifest.get("strategy"), manifest.get("modules")]
    return {"code": _digest(code), "bars": _digest(manifest.get("series"))}


def _digest(value: Any) -> str:
    return hashlib.sha256(json_text(value).encode()).hexdigest()[:_DIGITS]
