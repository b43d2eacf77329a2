"""Put a Cerebro in the place of Backtrader's, and note what runs of it do: orders, fills, cash and equity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import backtrader as bt
import numpy as np
import parity_snapshot

STEPS = ("prenext", "nextstart", "next")
WATCHED = (*STEPS, "notify_order", "notify_trade")

_noted: list[dict[str, Any]] = []


def take_the_place(engine: type[bt.Cerebro]) -> None:
    """Let every `bt.Cerebro` that is made from here on be a watched one of this engine."""
    watched = type("Cerebro", (_Watched, engine), {"__module__": bt.cerebro.__name__})  # by which it is pickled
    bt.Cerebro = bt.cerebro.Cerebro = watched


def noted() -> list[dict[str, Any]]:
    """Return what each run of a watched Cerebro did, in the order in which they began."""
    return [_outcome(run) for run in _noted]


class _Watched(bt.Cerebro):
    """A Cerebro of which is noted what its strategies are told, and the account after each of their bars."""

    def _runonce(self, runstrats: list[Any]) -> None:
        with _watching(self, runstrats):
            super()._runonce(runstrats)

    def _runnext(self, runstrats: list[Any]) -> None:
        with _watching(self, runstrats):
            super()._runnext(runstrats)


@contextmanager
def _watching(cerebro: Any, strategies: list[Any]) -> Iterator[None]:
    """Watch strategies, and leave them as they were: some are pickled after a run."""
    if _noted and _noted[-1]["strategies"] is strategies:
        yield  # one engine's loop has handed the run to another's
        return
    before = [{name: vars(strategy)[name] for name in WATCHED if name in vars(strategy)} for strategy in strategies]
    _watch(cerebro, strategies)
    try:
        yield
    finally:
        for strategy, own in zip(strategies, before, strict=True):
            for name in WATCHED:
                vars(strategy).pop(name)
            vars(strategy).update(own)


def _watch(cerebro: Any, strategies: list[Any]) -> None:
    run: dict[str, Any] = {"cerebro": cerebro, "strategies": strategies, "log": [], "fills": {}, "account": {}}
    _noted.append(run)
    for strategy in strategies:
        strategy.notify_order = _first(_keep_order(run), strategy.notify_order)
        strategy.notify_trade = _first(_keep_trade(run), strategy.notify_trade)
        for name in STEPS:
            setattr(strategy, name, _then(getattr(strategy, name), strategy, run["account"]))


def _keep_order(run: dict[str, Any]) -> Callable[[Any], None]:
    def keep(order: Any) -> None:
        run["log"].append(repr(parity_snapshot.order(order)))
        run["fills"][order.ref] = len(order.executed.exbits)

    return keep


def _keep_trade(run: dict[str, Any]) -> Callable[[Any], None]:
    return lambda trade: run["log"].append(repr(parity_snapshot.trade(trade)))


def _first(keep: Callable[[Any], None], told: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the method of a strategy that is told of orders or trades, which keeps first what it is told."""

    def tell(news: Any) -> Any:
        keep(news)
        return told(news)

    return tell


def _then(step: Callable[..., Any], strategy: Any, account: dict[int, tuple[float, float]]) -> Callable[..., Any]:
    """Return the method of a strategy that is called at each bar, after which the account is kept."""

    def walk(*words: Any, **named: Any) -> Any:
        returned = step(*words, **named)
        account[len(strategy)] = (strategy.broker.getcash(), strategy.broker.getvalue())
        return returned

    return walk


def _outcome(run: dict[str, Any]) -> dict[str, Any]:
    cerebro, account = run["cerebro"], run["account"]
    return {
        "orders": len(run["fills"]),
        "fills": sum(run["fills"].values()),
        "lean": getattr(cerebro, "lean", False),
        "why not": getattr(cerebro, "why_not", ""),
        "log": run["log"],
        "account": [(length, *map(repr, figures)) for length, figures in account.items()],
        "left": repr(parity_snapshot.account(cerebro.broker)) if hasattr(cerebro.broker, "startingcash") else "",
        "history": _against_history(getattr(cerebro, "history", None), list(account.values())),
    }


def _against_history(history: Any, account: list[tuple[float, float]]) -> str:
    """Return where the arrays that a lean run leaves differ from the account as it was seen; "" if nowhere."""
    if history is None:
        return ""
    for name, seen, kept in zip(("cash", "equity"), np.array(account).T, (history.cash, history.equity), strict=False):
        if not np.array_equal(seen, kept, equal_nan=True):
            return f"{name} of the history is not what was seen at its bars"
    return ""
