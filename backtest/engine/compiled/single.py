"""`walk_one`: one run by the compiled engine, in place of the loop of `lean.cerebro`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.compiled.brokerage import check_broker
from backtest.engine.compiled.indicators import Market, owners_of
from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.symbols import Maker, indicators_of
from backtest.engine.compiled.translation.methods import line_of
from backtest.engine.compiled.translation.program import Program
from backtest.engine.compiled.translation.strategies import translate
from backtest.engine.compiled.trials import Run, sentence
from backtest.engine.lean.history import Walked


def walk_one(strategy: Any, backend: str) -> tuple[Walked | None, str]:
    """
    Return the outcome of a run with loaded feeds and computed indicators; or None, and why there is none.

    In the latter case the strategy is unchanged, so that the loop can run the bars.

    Args:
        strategy: the strategy as Backtrader created it.
        backend: "numpy", or "numba" if that is installed.
    """
    cls, cerebro = type(strategy), strategy.cerebro
    try:
        check_broker(cerebro, at_close=True)
        market = Market(cerebro.datas)
        own = Maker(cls, cerebro, cerebro.broker.getcash()).own
        program = translate(cls, [strategy], own, owners_of(indicators_of(strategy)), market.stamps)
        _check_heard(cls, program)
        bench = SimpleNamespace(market=market, datas=cerebro.datas, broker=cerebro.broker, begins=-math.inf)
        with _draws_back(program) as keep:
            run = Run(bench, program, [strategy], np.arange(market.steps), ("equity", "cash", "positions"))
            done = run.go_fast() if backend == "numba" else run.go()
            keep.append(not done.flags[0])
    except NotCompiled as error:
        return None, sentence(cls, error)
    if done.flags[0]:
        return None, "it does something unexpected in a bar"
    return _walked(done), ""


def _check_heard(cls: Any, program: Program) -> None:
    """Raise NotCompiled if something depends on what a compiled run leaves out."""
    if cls.stop is not bt.Strategy.stop:
        raise NotCompiled("stop() reads results of the run, which a compiled run keeps elsewhere", line_of(cls.stop))
    if program.tells:
        raise NotCompiled("it prints, which a compiled run does not", program.tells)


@contextmanager
def _draws_back(program: Program) -> Iterator[list[bool]]:
    """Restore generators of random numbers, unless the yielded object says that the run is kept."""
    owners = [draw.__self__ for each in program.streams for draw in each]  # type: ignore[attr-defined]
    states, keep = [one.getstate() for one in owners], list[bool]()
    try:
        yield keep
    finally:
        if not any(keep):
            for one, state in zip(owners, states, strict=True):
                one.setstate(state)


def _walked(done: Run) -> Walked:
    orders, fills = done.order_rows()[1], done.fill_rows()[1]
    column = done.order_columns()[2]
    prices = np.column_stack([column["price"], column["limit"]])
    positions = [np.ascontiguousarray(done.positions[:, feed, 0]) for feed in range(done.positions.shape[1])]
    return Walked(
        np.ascontiguousarray(done.equity[:, 0]), np.ascontiguousarray(done.cash[:, 0]), positions, orders, fills, prices
    )
