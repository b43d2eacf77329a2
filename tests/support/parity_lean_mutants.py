"""
The lean loop with one thing wrong, by its own text: what the cases do not tell from the right one, they do not see.

Each of MUTANTS is a file of `backtest/engine/lean` and a piece of it that another takes the place of.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from backtest.engine import lean

FOLDER = Path(lean.__file__).parent
Edits = tuple[tuple[str, str, str], ...]  # file, text, other text


def mutant(name: str) -> type[Any]:
    """Return the Cerebro of the lean loop with the edits of this name, beside the right one."""
    return edited(f"mutated_lean_{list(MUTANTS).index(name)}", MUTANTS[name])


def edited(package: str, edits: Edits) -> type[Any]:
    """Return the Cerebro of the lean loop with some edits, imported as a package of another name."""
    finder = _Mutated(package, edits)
    sys.meta_path.insert(0, finder)
    try:
        return import_module(f"{package}.cerebro").Cerebro
    finally:
        sys.meta_path.remove(finder)  # the modules stay: Backtrader looks its classes' modules up


class _Mutated(MetaPathFinder, Loader):
    """Imports the lean loop under another name, with other texts in it, and leaves no bytecode behind."""

    def __init__(self, package: str, edits: Edits) -> None:
        self.package, self._edits = package, edits

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname.split(".")[0] != self.package:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == self.package)

    def exec_module(self, module: types.ModuleType) -> None:
        file = FOLDER / f"{module.__name__.partition('.')[2] or '__init__'}.py"
        exec(compile(self._text(file), f"mutated {file.name}", "exec"), vars(module))

    def _text(self, file: Path) -> str:
        text = file.read_text()
        for name, old, new in self._edits:
            if f"{name}.py" == file.name:
                if text.count(old) != 1:
                    raise ValueError(f"{file.name} has {text.count(old)} times {old!r}, which a mutant is to change")
                text = text.replace(old, new)
        return text.replace("backtest.engine.lean", self.package)


def edit(file: str, old: str, new: str) -> Edits:
    return ((file, old, new),)


MUTANTS: Mapping[str, Edits] = {
    # -- the order of a bar
    "indicators of the strategy's clock are a bar ahead": edit(
        "cerebro", "behind.at = own.at", "behind.at = own.at + 1"
    ),
    "indicators of the strategy's clock stand still": edit("cerebro", "if looks_behind:", "if False:"),
    "indicators move before the broker works": (
        ("cerebro", "for cursor in feeds:", "for cursor in (*feeds, *followers):"),
        ("cerebro", "for cursor in followers:", "for cursor in ():"),
    ),
    "the strategy moves before the broker works": (
        ("cerebro", "            for cursor in feeds:", "            own.at += 1\n            for cursor in feeds:"),
        ("cerebro", "            own.at += 1\n            add_stamp", "            add_stamp"),
        ("cerebro", "behind.at = own.at", "behind.at = own.at - 1"),
    ),
    "the strategy moves before late indicators": (
        (
            "cerebro",
            "            for indicator in late:",
            "            own.at += 1\n            for indicator in late:",
        ),
        ("cerebro", "            own.at += 1\n            add_stamp", "            add_stamp"),
    ),
    "late indicators stand still": edit("cerebro", "indicator.advance()", "pass"),
    "indicators that are made in mid-run stand still": edit(
        "cerebro", "            self.late.append(indicator)\n\n    def _walk", "            pass\n\n    def _walk"
    ),
    "an indicator finds that a later one has moved": edit("cerebro", "ids & looked_at", "False"),
    "those that move in their own way are led": edit("cerebro", "not alike or followed is None", "followed is None"),
    "the stamps are the first line": edit(
        "cerebro", "        add_stamp = strategy.lines.datetime.", "        add_stamp = strategy.lines.lines[0]."
    ),
    "own lines do not grow": edit("cerebro", 'line.array.append(float("nan"))', "pass"),
    "own lines keep their last value": edit(
        "cerebro",
        'line.array.append(float("nan"))',
        'line.array.append(line.array[-1] if line.array else float("nan"))',
    ),
    "it goes on when it is stopped": edit(
        "cerebro",
        "in steps:\n            if cerebro._event_stop:\n                return\n",
        "in steps:\n",
    ),
    "a plain run goes on when it is stopped": edit(
        "cerebro",
        "in steps:\n            if cerebro._event_stop:\n                return ()\n",
        "in steps:\n",
    ),
    "a plain run leaves late indicators where they are": edit(
        "cerebro", "            if late:\n", "            if False:\n"
    ),
    "a plain run tells nothing": edit("cerebro", "tells = bool(notes)", "tells = False"),
    "indicators of a plain run move before the broker works": (
        ("cerebro", "            feed.at = step\n", "            feed.at = follower.at = step\n"),
        ("cerebro", "            follower.at = own.at = step\n", "            own.at = step\n"),
    ),
    "the value of a plain run stands still": edit(
        "cerebro", "                broker.stale = True\n            tells", "                pass\n            tells"
    ),
    "the account of a plain run is not noted": edit(
        "cerebro",
        "            if broker.restless:\n                self.history.note(step)\n            if tells",
        "            if tells",
    ),
    "it goes on when a commission scheme stops it": edit(
        "cerebro", "stopped = bool(self.cerebro._event_stop)", "stopped = False"
    ),
    "the value is that of the bar that is about to come": edit("cerebro", "if nosy and broker.stale", "if False"),
    "an exception of the broker finds the work done": edit("cerebro", "broker.break_off()", "pass"),
    "prenext is called once more": edit("cerebro", "islice(steps, before)", "islice(steps, before + 1)"),
    "nextstart is not called": edit("cerebro", '"nextstart", 0)', '"next", 0)'),
    "observers always hear that the period is over": edit("cerebro", "_next_observers(status,", "_next_observers(-1,"),
    "analyzers are called before the strategy": edit(
        "cerebro",
        "            call(strategy)\n            for analyzer in analyzers:\n                step_of(analyzer)\n",
        "            for analyzer in analyzers:\n                step_of(analyzer)\n            call(strategy)\n",
    ),
    "the account is noted after all analyzers": edit(
        "cerebro", "busy.index(self.bulk[0]) if self.bulk else len(busy)", "len(busy)"
    ),
    # -- orders that wait for their feeds
    "orders whose feed moves wait on": edit("queues", "or not self.parked.keys().isdisjoint(feeds)", ""),
    "orders come back behind all others": edit("queues", "sorted([*queue, *more], key=_reference)", "[*queue, *more]"),
    "orders that are not accepted in turn are parked": edit("queues", "if order.ref <= self._last:", "if False:"),
    # -- what is told
    "trades are not told": edit("cerebro", "strategy.notify_trade(trade)", "pass"),
    "analyzers hear of no trade": edit("cerebro", "analyzer._notify_trade(trade)", "pass"),
    "analyzers hear of no order": edit("cerebro", "analyzer._notify_order(order)", "pass"),
    "analyzers hear of no cash": edit("cerebro", "bool(self.listeners) or not", "not"),
    "the fund is told as the account": edit(
        "cerebro", "(cash, value, fund_value, shares)\n        for", "(cash, value, value, shares)\n        for"
    ),
    "told orders are not cleared": edit("cerebro", "        self.strategy.clear()\n", "        pass\n"),
    "the trade itself is handed out": edit(
        "cerebro",
        "        if trade.justopened:\n            pending.append(copy(trade))",
        "        if trade.justopened:\n            pending.append(trade)",
    ),
    "each order begins a trade": edit("cerebro", "trades[-1] if trades else _new_trade", "_new_trade"),
    # -- the account
    "a bar without a close leaves the account still": edit(
        "cerebro", "clock.own, all(map(_priced, datas))", "clock.own, True"
    ),
    "short sales bring their cash": edit("broker", "broker.p.shortcash is not True or not priced", "not priced"),
    "interest is forgotten": edit("broker", "model._creditrate == 0", "True"),
    "margins are forgotten": edit("broker", "not own and model.stocklike", "not own"),
    "a closed position keeps the close of the bar": edit("broker", "data.close[-1 if moved else 0]", "data.close[0]"),
    "an opened position is adjusted to the close": edit(
        "broker", "_touched = price, self.step", "_touched = data.close[0], self.step"
    ),
    "groups are forgotten": edit(
        "broker", "if self._ocol.get(leader) == [order.ref] and order.ref not in self.resent:", "if True:"
    ),
    "stops do not expire": edit("broker", "order.exectype != MARKET and", "order.exectype == LIMIT and"),
    "what cannot be paid is bought": edit("broker", "else cash < 0.0:", "else cash < -1e12:"),
    "all that is submitted is accepted": edit("broker", "if cash >= 0.0:", "if cash >= -1e12:"),
    "the check forgets the commission": edit("broker", "cash -= opening_model.getcommission(opened, price)", "pass"),
    "interest to come is not noted": edit("broker", "self.d_credit[data] += 0.0", "pass"),
    "cash stays a whole number": edit("broker", 'self.__dict__["cash"] -= 0.0', "pass"),
    "the value of several feeds leaves the account alone": edit(
        "broker", "datas is not None and len(datas) != 1", "False"
    ),
    # -- orders and positions
    "a day's order ends with its bar": edit("orders", "valid == OrderBase.DAY", "False"),
    "what is left of a position takes the price": edit(
        "orders", "return left, paid, 0, size", "return left, price, 0, size"
    ),
    "a limit without a price takes the close": edit("orders", "price if price or limit else close", "price or close"),
    "a closed position's date moves on": edit(
        "orders",
        "if self._data is not None and self.size else self._stamp",
        "if self._data is not None else self._stamp",
    ),
    "an order changes after it was told": edit("orders", "twin.executed = executed", "pass"),
    "a session ends on the day before": edit(
        "orders", "close if close >= given else close + timedelta(days=1)", "close"
    ),
    # -- feeds
    "equal stamps are one step": edit("clock", "stamps + 1j *", "stamps + 0j *"),
    "feeds that begin alike move alike": edit("clock", "_fingerprint(stamps) if", "_fingerprint(stamps[:2]) if"),
    "a period is over a bar late": edit("clock", "(status > 0).sum()", "(status >= 0).sum()"),
    "the last bar has ticks": edit("lines", "if last or at + 1 < line.", "if last or at < line."),
    "values before are those of the bar": edit(
        "lines", "    end = line._cursor.at + ago + 1\n    return", "    end = line._cursor.at + 1\n    return"
    ),
    "lines are left a bar behind": edit("lines", "= cursor.at, cursor.at + 1", "= cursor.at - 1, cursor.at"),
    # -- indicators
    "an average is multiplied": edit(
        "indicators", "np.divide(sums, period, out=", "np.multiply(sums, 1.0 / period, out="
    ),
    "nothing is raised by a division by nought": edit(
        "indicators", "reckon is np.divide and not np.all(right)", "False"
    ),
    "a crossing forgets what was below": edit("indicators", "np.where(differences != 0", "np.where(differences > 0"),
    "a delay is a bar short": edit(
        "indicators",
        "line.a.array[start + line.ago : end + line.ago]",
        "line.a.array[start + line.ago + 1 : end + line.ago + 1]",
    ),
    "one of both is enough": edit("indicators", "(operands[0] != 0) & (", "(operands[0] != 0) | ("),
    "the first value is as any other": edit(
        "indicators", "iterator.oncestart(period - 1, period)", "iterator.once(period - 1, period)"
    ),
    # -- what is left of the account
    "equity is a plain sum": edit("history", "np.where(value > 0, unlevered, before + value)", "before + value"),
    "the first fill of a bar counts": edit(
        "history", "for step, value in changes if", "for step, value in reversed(changes) if"
    ),
    "cash is noted a bar late": edit("broker", "self.cashes.append((self.step,", "self.cashes.append((self.step + 1,"),
    "what was noted begins a bar late": edit("history", "self._first_noted = step", "self._first_noted = step + 1"),
}
