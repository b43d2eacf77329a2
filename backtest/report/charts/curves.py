"""`Curves`: interactive curves over sessions; `templates/scripts/curves.js` draws them from data in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np

from backtest.report.charts.packing import Column, exactly, pack, rounded
from backtest.report.rendering import json_in_page

LINE_COLOURS = ("run", "loss", "hold", "ink")  # of several lines, one after the other, each with dashes of its own
_MONEY, _SHARES = 2, 6  # decimals of money, and of a fraction
_GROWN = 5.0  # times the lowest value: from here on a linear scale hides the beginning


@dataclass(frozen=True, slots=True)
class Curve:
    """
    A line: one value per session, NaN where there is none.

    Attributes:
        colour: NAME of the page's CSS variable --figure-NAME.
        dash: 0 for a solid line, 1 to 3 for dashed ones.
        is_step: whether a value stays until the next one.
    """

    name: str
    values: np.ndarray
    colour: str = "run"
    dash: int = 0
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A bar from one date to another, both included, in a row of its pane; `kind` is its class in the style sheet."""

    row: int
    first: date
    last: date
    kind: str
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Pane:
    """
    Lines with one axis of values, or bands.

    Attributes:
        kind: the kind of values: "money", "percent" (a fraction), "number"; or "choice", a position in `choices`.
        height: the height in pixels.
    """

    title: str
    kind: str
    curves: Sequence[Curve] = ()
    height: int = 200
    bands: Sequence[Band] = ()
    choices: Sequence[str] = ()


@dataclass(frozen=True)
class Curves:
    """
    Panes over the same sessions.

    Attributes:
        words: a description, in a sentence.
        days: datetime64[D], ascending.
        more: further columns of numbers by name, for a script of the page.
    """

    words: str
    days: np.ndarray
    panes: Sequence[Pane]
    more: Mapping[str, Column] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """The content and settings, as JSON that can be embedded in a script of a page."""
        panes = [self._pane(number, pane) for number, pane in enumerate(self.panes)]
        return json_in_page({"panes": panes, "logarithmic": self._logarithmic, "columns": self._packed[0]})

    @property
    def columns(self) -> str:
        """The numbers: see `packing.pack`."""
        return self._packed[1]

    @cached_property
    def _packed(self) -> tuple[list[dict[str, Any]], str]:
        columns = {"day": exactly(self.days.astype("datetime64[D]").astype(np.int64))}
        for number, pane in enumerate(self.panes):
            for place, curve in enumerate(pane.curves):
                columns[_name(number, place)] = _column(pane.kind, curve.values)
        return pack({**columns, **self.more})

    @property
    def _logarithmic(self) -> bool:
        money = [curve.values for pane in self.panes if pane.kind == "money" for curve in pane.curves]
        known = np.concatenate([values[np.isfinite(values)] for values in money]) if money else np.array([])
        return bool(len(known)) and bool(known.min() > 0) and bool(known.max() > _GROWN * known.min())

    def _pane(self, number: int, pane: Pane) -> dict[str, Any]:
        about: dict[str, Any] = {"title": pane.title, "kind": pane.kind, "height": pane.height}
        if pane.choices:
            about["choices"] = list(pane.choices)
        if pane.bands:
            return {**about, "bands": [_band(band) for band in pane.bands]}
        return {**about, "curves": [_curve(number, place, curve) for place, curve in enumerate(pane.curves)]}


def look_of(place: int) -> dict[str, Any]:
    """Return colour and dash of the line at a position among several; sixteen are distinct."""
    count = len(LINE_COLOURS)
    return {"colour": LINE_COLOURS[place % count], "dash": (place + place // count) % count}


def _name(pane: int, place: int) -> str:
    return f"pane.{pane}.{place}"


def _column(kind: str, values: np.ndarray) -> Column:
    if kind == "choice":
        return rounded(values, 0)
    return rounded(values, _SHARES if kind == "percent" else _MONEY)


def _curve(pane: int, place: int, curve: Curve) -> dict[str, Any]:
    about = {"name": curve.name, "column": _name(pane, place), "colour": curve.colour, "dash": curve.dash}
    return {**about, "step": True} if curve.is_step else about


def _band(band: Band) -> dict[str, Any]:
    first, last = (int(np.datetime64(one, "D").astype(int)) for one in (band.first, band.last))
    about = {"row": band.row, "from": first, "to": last + 1, "kind": band.kind}
    return {**about, "text": band.text, "title": band.title}
