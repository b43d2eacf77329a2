"""`translate`: what a strategy does at each bar, from its source, in the scalar code of `ledger`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.symbols import timers_of
from backtest.engine.compiled.translation.methods import Method, _is_harmless, line_of
from backtest.engine.compiled.translation.program import NOTED, PREFIX, Again, Program, Unknown, Val, for_all
from backtest.engine.compiled.translation.statements import Statements


def translate(
    cls: Any,
    trials: Sequence[Any],
    own: Callable[[Any], dict[str, Any]],
    owners: dict[int, Any],
    stamps: np.ndarray,
) -> Program:
    """
    Return the program of trials of one shape.

    Args:
        trials: their strategies, created by `symbols.Maker`.
        own: the attributes that the code of a strategy set on it.
        owners: the indicators of lines, by the lines' ids.
        stamps: the timestamps of the steps of the run.

    Raises:
        NotCompiled: something cannot be translated; it names the line.
    """
    kinds: dict[Any, str] = {}
    for _ in range(30):
        try:
            found = _Translation(cls, trials, own, owners, kinds)
            found.stamps = stamps
            return found.program()
        except Again:
            continue
    raise NotCompiled(f"{cls.__name__} has values whose kind changes")


class _Translation(Statements):
    def program(self) -> Program:
        base = bt.Strategy
        for name in ("notify_cashvalue", "notify_fund", "notify_data", "notify_store",
                     "next_open", "nextstart_open", "prenext_open"):  # fmt: skip
            if getattr(self.cls, name) is not getattr(base, name) and not self.only_tells(name):
                raise NotCompiled(f"it has {name}()", line_of(getattr(self.cls, name)))
        if self.cls.stop is not base.stop and not self.only_tells("stop") and not _is_harmless(self.cls):
            raise NotCompiled(f"stop() does more than print: {self.why}", self.why_at or line_of(self.cls.stop))
        self.made.hears = self.cls.notify_order is not base.notify_order and not self.only_tells("notify_order")
        self.made.hears_trades = self.cls.notify_trade is not base.notify_trade and not self.only_tells("notify_trade")
        self.signals = issubclass(self.cls, bt.SignalStrategy)
        self.enter()
        self.set_state()
        return self.made

    def enter(self) -> None:
        """Translate the methods that a run calls; if one reads what another sets, start again with that knowledge."""
        wanted: list[tuple[str, list[Val]]] = [("next", [])]
        wanted += [
            (one, []) for one in ("prenext", "nextstart") if getattr(self.cls, one) is not getattr(bt.Strategy, one)
        ]
        heard = {"notify_order": self.made.hears, "notify_trade": self.made.hears_trades}
        wanted += [(one, [Val(NOTED[one], "i_note")]) for one, hears in heard.items() if hears]
        before, unknown = dict(self.kinds), None
        timers = self.timers()
        for name, args in [*wanted, *timers]:
            try:
                if name == "notify_timer":
                    self.timer(args)
                else:
                    self.entry(name, args)
            except Unknown as error:
                unknown = unknown or error
        if unknown is not None:
            if before == self.kinds:
                if unknown.key is None:
                    raise unknown
                self.kinds[unknown.key] = "never"
            raise Again
        loops = [self.loop_of_notes(name) for name, hears in heard.items() if hears]
        if self.signals and self.kinds.get(("state", "_sentinel")) == "order":
            loops = [_FORGET, *loops] if heard["notify_order"] else [_FORGET, "    A.told = 0\n", *loops]
            self.made.hears = True
        if timers:
            loops = [one.replace("A.told", "A.heard").replace("A.traded", "A.heard_trades") for one in loops]
            self.add(_HEAR if self.made.hears_trades else _HEAR.split("    A.heard_trades")[0])
        if loops:
            self.add("def deliver():\n" + "".join(loops))
        self.made.entries = [name for name, _ in wanted if name not in NOTED] + (["deliver"] if loops else [])
        self.made.entries += [*(["hear"] if timers and loops else []), *(f"ring_{n}" for n in range(self.made.rings))]

    def timers(self) -> list[tuple[str, list[Val]]]:
        """Return what is called when each of the timers rings, and what it is given."""
        every = [timers_of(trial) for trial in self.trials]
        if self.cls.notify_timer is bt.Strategy.notify_timer or not every[0]:
            return []
        if any(timer.p.cheat for timers in every for timer in timers):
            raise NotCompiled("it has a timer that rings before the broker acts", line_of(self.cls.notify_timer))
        found = []
        for alike in zip(*every, strict=True):
            words = for_all(tuple({**timer.kwargs} for timer in alike))
            if not any(timer.kwargs for timer in alike):
                words = ({},)
            args = for_all(tuple(timer.args for timer in alike))
            found.append(("notify_timer", [Val("static", objs=args), Val("static", objs=words)]))
        return found

    def timer(self, given: list[Val]) -> None:
        """Translate what happens when a timer rings."""
        why = [Val("poison", why=f"the {one} that notify_timer() is given is used") for one in ("timer", "time")]
        self.lagged, self.given_to_timer = True, given
        try:
            called, _, _ = self.lowered(self.cls.notify_timer, why, "notify_timer", self.made.rings)
        finally:
            self.lagged = False
        self.add(f"def ring_{self.made.rings}():\n    {called}()\n")
        self.made.rings += 1

    given_to_timer: Sequence[Val] = ()

    def loop_of_notes(self, name: str) -> str:
        queue = {"notify_order": "told", "notify_trade": "traded"}[name]
        return (
            f"    i_n_{queue} = A.{queue}\n    A.{queue} = 0\n    i_k_{queue} = 0\n"
            f"    while i_k_{queue} < i_n_{queue}:\n"
            f"        {self.called(name)}(i_k_{queue} + N.reads)\n        i_k_{queue} = i_k_{queue} + 1\n"
        )

    def only_tells(self, name: str) -> bool:
        """Return whether a method has no effect except text; if it may have one, `why` describes it."""
        kept, kinds = (self.made, self.done, self.slot_of, self.constant_of), dict(self.kinds)
        args = [] if name in ("stop", "next_open") else [Val("poison", why=f"{name}() reads it")]
        if name in NOTED:
            args = [Val(NOTED[name], "i_note")]
        if name in ("notify_cashvalue", "notify_fund"):
            args = [Val("text")] * (2 if name == "notify_cashvalue" else 4)
        self.why, self.why_at = "it changes something", 0
        try:
            for _ in range(10):
                self.made, self.done, self.slot_of, self.constant_of = Program(), {}, {}, {}
                try:
                    self.lowered(getattr(self.cls, name), args, name)
                    return not self.effects_of
                except Again:
                    continue
            return False
        except NotCompiled as error:
            self.why, self.why_at = error.reason, error.line
            return False
        finally:
            kept[0].tells = kept[0].tells or self.made.tells
            (self.made, self.done, self.slot_of, self.constant_of) = kept
            self.kinds.clear()
            self.kinds.update(kinds)

    why, why_at = "", 0
    signals = False

    def entry(self, name: str, args: list[Val]) -> None:
        called, _, _ = self.lowered(getattr(self.cls, name), args, name)
        params = ", ".join(one.code for one in args)
        body = f"def {name}({params}):\n    {called}({params})\n"
        self.done["entry", name] = called, Val("none"), True
        if name not in NOTED:
            self.add(body)

    def called(self, name: str) -> str:
        return self.done["entry", name][0]

    def add(self, text: str) -> None:
        self.made.texts[text[: text.index("(")].split()[-1]] = text

    # -- methods

    def lowered(self, method: Any, args: list[Val], name: str, timer: int = -1) -> tuple[str, Val, bool]:
        """Return the name of a method in scalar code for arguments, what it returns, and whether it has effects."""
        key = name, tuple(_argument_key(one) for one in args), self.lagged, timer
        if key in self.done:
            self.effects_of = self.done[key][2]
            return self.done[key]
        if name in self.stack:
            raise NotCompiled(f"{name}() calls itself", line_of(method))
        source = Method.of(method)
        kept = (self.lines, self.depth, self.env, self.effects, self.function, self.results, self.frame, self.at)
        self.lines, self.depth, self.effects, self.function, self.results = [], 1, False, source, []
        self.frame = (name, key[1])
        self.stack.append(name)
        try:
            self.env = self.bound(source, args, name)
            ended = self.body(source.node.body)
            if not ended:
                self.results.append(Val("none"))
            result = self.result(key)
            for place, text in enumerate(self.lines):
                if "<return>" in text:
                    self.lines[place] = self.returning(text, result)
            number = len(self.done)
            called = f"{PREFIX.get(result.kind, 'i')}_m{number}_{name}" if result.code else f"m{number}_{name}"
            params = ", ".join(_argument_name(n, one) for n, one in enumerate(args) if one.code)
            if name in NOTED:
                params = "i_note"
            self.add("\n".join([f"def {called}({params}):", *(self.lines or ["    pass"]), ""]))
            self.done[key] = called, result, self.effects
            return self.done[key]
        finally:
            self.effects_of = self.effects
            self.stack.pop()
            (self.lines, self.depth, self.env, effects, self.function, self.results, self.frame, self.at) = kept
            self.effects = effects

    effects_of = False

    def bound(self, source: Method, args: list[Val], name: str) -> dict[str, Val]:
        spec = source.node.args
        env: dict[str, Val] = {}
        if name == "notify_timer" and self.given_to_timer:
            for more, given in zip((spec.vararg, spec.kwarg), self.given_to_timer, strict=True):
                env |= {more.arg: given} if more is not None else {}
        elif spec.vararg:
            raise NotCompiled(f"{name}() takes any number of arguments", source.line)
        if spec.kwonlyargs:
            raise NotCompiled(f"{name}() takes any number of arguments", source.line)
        names = [one.arg for one in spec.args[1:]] if source.bound else [one.arg for one in spec.args]
        if source.bound:
            env[spec.args[0].arg] = Val("self")
        defaults = dict(zip(reversed(names), reversed(spec.defaults), strict=False))
        for n, one in enumerate(names):
            if n < len(args):
                value = args[n]
                if value.code and name not in NOTED:
                    value = Val(value.kind, _argument_name(n, value), extra=value.extra)
                if value.code and source.count(one):
                    value = self.materialised(one, value)
                env[one] = value
            elif one in defaults:
                env[one] = self.static_of(source.default(defaults[one]))
                if source.count(one) and env[one].kind == "static":
                    self.env = env
                    env[one] = self.materialised(one, self.lifted(env[one]), soft=True)
            else:
                raise NotCompiled(f"{name}() lacks the argument {one}", source.line)
        return env

    def result(self, key: Any) -> Val:
        kinds = {one.kind for one in self.results}
        if kinds <= {"none"}:
            return Val("none")
        if kinds <= {"none", "text", "poison"}:
            return Val("text")
        if len(self.results) == 1 and not self.results[0].code:
            return self.results[0]
        kind = ""
        for one in self.results:
            kind = self.wider(kind, self.lifted(one).kind, "what a method returns")
        return Val(kind, "?")

    def returning(self, text: str, result: Val) -> str:
        start, number = text.split("<return>")
        given = self.results[int(number)]
        if not result.code:
            return f"{start}return"
        return f"{start}return {self.as_kind(self.lifted(given), result.kind)}"


def _argument_key(value: Val) -> Any:
    return (
        value.kind,
        bool(value.code),
        tuple(map(id, value.objs)) if value.objs else id(value.extra) if value.extra else 0,
    )


def _argument_name(number: int, value: Val) -> str:
    return f"{PREFIX.get(value.kind, 'i')}_a{number}"


# Notifications of this step, except those of orders that are submitted when timers fire.
_HEAR = """def hear():
    A.heard = A.told
    A.told = 0
    A.heard_trades = A.traded
    A.traded = 0
"""
# As `SignalStrategy._notify`: the order that signals wait for is dropped when its end is notified.
_FORGET = """    i_f = 0
    while i_f < A.told:
        i_fa = i_f + N.reads
        if A.s__sentinel >= 0 and A.n_order[i_fa] == A.s__sentinel and A.n_status[i_fa] > 3:
            A.s__sentinel = -1
        i_f = i_f + 1
"""
