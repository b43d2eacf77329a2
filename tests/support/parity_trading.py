"""A Cerebro with a scripted strategy, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import backtrader as bt
from parity_check import Cerebro, difference_of, outcome
from parity_markets import Bar, market, rows
from parity_strategies import LOUD, Eyes, script

BARS = market(7, 30, tick=0.25, flat=0.1, void=0.05)
OTHER = market(8, 22, gap=0.4, tick=0.25)


def ready(make: type[bt.Cerebro], *feeds: Any, **options: Any) -> Any:
    """Return a Cerebro with the feeds, named d0, d1 ...; without observers unless asked for."""
    cerebro = make(**{"stdstats": False, **options})
    cerebro.log = []
    for number, feed in enumerate(feeds):
        cerebro.adddata(feed, name=f"d{number}")
    cerebro.broker.setcash(10_000)
    return cerebro


def watched(cerebro: Any, eyes: Eyes, steps: Mapping[Any, Any] | None = None, indicators: Any = None) -> Any:
    """Add the scripted strategy to a Cerebro and return the Cerebro."""
    steps = steps or {}
    cerebro.addstrategy(eyes.strategy(steps), make=indicators, look=eyes.look, act=script(steps))
    return cerebro


def trading(
    steps: Mapping[Any, Any],
    *bars: list[Bar],
    eyes: Eyes = LOUD,
    prepare: Callable[[Any], Any] | None = None,
    indicators: Any = None,
    **options: Any,
) -> Any:
    """Return what makes a Cerebro of a class: hand-made feeds of the bars, and a strategy that goes by the steps."""

    def build(make: type[bt.Cerebro]) -> Any:
        cerebro = ready(make, *(rows(each) for each in bars or [BARS]), **options)
        if prepare:
            prepare(cerebro)
        return watched(cerebro, eyes, steps, indicators)

    build.eyes = eyes
    return build


def assert_same(build: Any, *reached: str, ended: str | None = "returned") -> None:
    """
    Assert that Backtrader and we do the same, and that what the case is about comes up in it.

    With None for `ended` the case may return or raise, as Backtrader does.

    An unwatched strategy has little to tell; its watched twin shows that the words come up.
    """
    stock = outcome(build, bt.Cerebro)
    missing = [word for word in reached if word not in repr(stock)] if build.eyes is LOUD else []
    found = difference_of(stock, outcome(build, Cerebro))

    assert ended is None or stock["ended"][0] == ended, stock["ended"]
    assert not missing, f"the case is not about {missing}; it ended so: {stock['ended']}"
    assert not found, found


def assert_lean_and_same(build: Any, *reached: str, ended: str | None = "returned") -> None:
    """Assert what `assert_same` does, and that our loop ran, not Backtrader's."""
    made = []

    def remembering(make: type[bt.Cerebro]) -> Any:
        made.append(build(make))
        return made[-1]

    remembering.eyes = build.eyes
    assert_same(remembering, *reached, ended=ended)

    assert made[-1].lean, made[-1].why_not
