"""Compiled engines with one thing wrong, each of which a random case or a strategy of the tests has to tell."""

# ruff: noqa: E501 - each change is a row

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOM = "backtest.engine.compiled"

# The module, what stands there, what stands there instead. Each text is there once, or its first place is meant.
MUTANTS: list[tuple[str, str, str]] = [
    ("ledger", "cash = cash + -closed * price", "cash = cash - -closed * price"),
    ("ledger", "cash = cash - opened * price", "cash = cash + opened * price"),
    ("ledger", "A.queue[A.pending] = i_o", "A.queue[0] = i_o"),
    ("ledger", "cash = cash - f_opening(i_d, opened, closed, price, charged)", "cash = cash"),
    ("ledger", "if cash >= 0.0:\n            A.status[i_o] = ACCEPTED", "if cash > 1000.0:\n            A.status[i_o] = ACCEPTED"),
    ("ledger", "A.checked = A.orders", "A.checked = A.orders - 1"),
    ("ledger", "price = A.price[i_o]\n        left", "price = N.close[i_d]\n        left"),
    ("ledger", "gain = -closed * (price - paid)\n    freed", "gain = -closed * (paid - price)\n    freed"),
    ("ledger", "freed = -closed * paid", "freed = -closed * price"),
    ("ledger", "cash = (A.cash + (freed + gain)) - closed_costs", "cash = ((A.cash + freed) + gain) - closed_costs"),
    ("ledger", "cash_after = (cash - bound) - fee", "cash_after = cash - (bound + fee)"),
    ("ledger", "b_refused = opened != 0 and cash_after < 0.0", "b_refused = opened != 0 and cash_after < 50.0"),
    ("ledger", "done = closed if b_refused else closed + opened", "done = closed + opened"),
    ("ledger", "average = ratio(paid * held + done * price, after)", "average = paid + (price - paid) * ratio(done, after)"),
    ("ledger", "kept = paid if (held > 0) == (after > 0) else price", "kept = paid"),
    ("ledger", "A.paid[i_d] = 0.0 if after == 0 else price", "A.paid[i_d] = paid if after == 0 else price"),
    ("ledger", "A.average[i_o] = (before + done * price) / filled", "A.average[i_o] = price"),
    ("ledger", "A.status[i_o] = PARTIAL if rest != 0 else COMPLETED", "A.status[i_o] = COMPLETED"),
    ("ledger", "A.closed[i_o] = stamp\n        A.status", "A.closed[i_o] = N.before[i_d]\n        A.status"),
    ("ledger", "    if b_refused:\n        A.status[i_o] = MARGIN", "    if False:\n        A.status[i_o] = MARGIN"),
    ("ledger", "if N.stamp[i_d] > A.given[i_o]:", "if N.stamp[i_d] >= A.given[i_o]:"),
    ("ledger", "            execute(i_o, i_d, N.open[i_d], N.stamp[i_d])\n\n\ndef try_close", "            execute(i_o, i_d, N.close[i_d], N.stamp[i_d])\n\n\ndef try_close"),
    ("ledger", "if stamp > A.given[i_o] and stamp >= A.ends[i_o]:", "if stamp > A.given[i_o]:"),
    ("ledger", "execute(i_o, i_d, A.annotated[i_o], N.before[i_d])", "execute(i_o, i_d, A.annotated[i_o], stamp)"),
    ("ledger", "A.annotated[i_o] = N.close[i_d]", "A.annotated[i_o] = N.open[i_d]"),
    ("ledger", "elif limit >= N.low[i_d]:\n            execute(i_o, i_d, limit", "elif limit >= N.low[i_d]:\n            execute(i_o, i_d, N.low[i_d]"),
    ("ledger", "elif limit >= N.low[i_d]:", "elif limit > N.low[i_d]:"),
    ("ledger", "elif limit <= N.open[i_d]:\n        execute(i_o, i_d, N.open", "elif limit <= N.open[i_d]:\n        execute(i_o, i_d, N.high"),
    ("ledger", "elif limit <= N.high[i_d]:", "elif limit < N.high[i_d]:"),
    ("ledger", "if N.open[i_d] >= trigger:", "if N.open[i_d] > trigger + 1.0:"),
    ("ledger", "elif N.high[i_d] >= trigger:\n            execute(i_o, i_d, trigger", "elif N.high[i_d] >= trigger:\n            execute(i_o, i_d, N.high[i_d]"),
    ("ledger", "elif N.low[i_d] <= trigger:\n        execute(i_o, i_d, trigger", "elif N.low[i_d] <= trigger:\n        execute(i_o, i_d, N.low[i_d]"),
    ("ledger", "if A.triggered[i_o] != 0:", "if False:"),
    ("ledger", "if limit >= trigger:", "if limit > trigger + 100.0:"),
    ("ledger", "if limit >= trigger:\n                execute(i_o, i_d, trigger", "if limit >= trigger:\n                execute(i_o, i_d, limit"),
    ("ledger", "elif opened <= closed and limit <= closed:", "elif limit <= closed:"),
    ("ledger", "trail_on(i_o, N.close[i_d])", "trail_on(i_o, N.high[i_d])"),
    ("ledger", "if above < A.price[i_o]:", "if above > A.price[i_o]:"),
    ("ledger", "below = price - amount", "below = price + amount"),
    ("ledger", "else price * A.percent[i_o]", "else A.percent[i_o]"),
    ("ledger", "N.stamp[i_d] > A.valid[i_o]:\n            A.status", "N.stamp[i_d] >= A.valid[i_o]:\n            A.status"),
    ("ledger", "A.kind[i_o] != MARKET and A.valid", "A.kind[i_o] != LIMIT and A.valid"),
    ("ledger", "if A.status[i_o] == ACCEPTED or A.status[i_o] == PARTIAL:", "if A.status[i_o] <= PARTIAL:"),
    ("ledger", "A.status[i_o] = CANCELED\n            i_d = i_feed_of(i_o)\n            A.closed[i_o] = N.stamp[i_d]\n            note(i_o)", "A.status[i_o] = CANCELED"),
    ("ledger", "i_way = 0 if held > 0 else 1", "i_way = 1 if held > 0 else 0"),
    ("ledger", "if target > held:\n        return i_order(i_d, 1, target - held", "if target > held:\n        return i_order(i_d, 1, target"),
    ("ledger", "trunc((target - value) // named)", "trunc((target - value) / named + 0.5)"),
    ("ledger", "i_target_value(i_d, target * f_value()", "i_target_value(i_d, target * A.cash"),
    ("ledger", "A.n_filled[i_at] = A.filled[i_o]", "A.n_filled[i_at] = A.size[i_o]"),
    ("ledger", "A.n_status[i_at] = A.status[i_o]", "A.n_status[i_at] = COMPLETED"),
    ("ledger", "A.t_costs[i_d] = A.t_costs[i_d] + costs", "A.t_costs[i_d] = costs"),
    ("ledger", "gain = -size * (price - A.t_price[i_d])", "gain = size * (price - A.t_price[i_d])"),
    ("ledger", "A.x_bars[i_at] = N.at[i_d] + 1 - A.t_since[i_d]", "A.x_bars[i_at] = N.at[i_d] - A.t_since[i_d]"),
    ("ledger", "higher(abs(traded) * RATE, MINIMUM)", "higher(abs(traded) * RATE, 0.0)"),
    ("ledger", "abs(traded) * paid * CAP", "abs(traded) * CAP"),
    ("ledger", "charged = abs(size) * RATE * price", "charged = abs(size) * (RATE * price)"),
    ("ledger", "total = (total + (worth - rise)) + rise", "total = total + worth"),
    ("ledger", "i_f = A.ranked[i_k]", "i_f = i_k"),
    ("ledger", "i_l = A.leader[A.with_oco - 1] - 1", "i_l = i_o"),
    ("ledger", "A.groups[i_l] = i_g + 1", "A.groups[i_l] = i_g"),
    ("ledger", "A.wakes[i_o] = NEVER", "A.wakes[i_o] = 0"),
    ("ledger", "A.wakes[i_k] = N.step + 1", "A.wakes[i_k] = N.step"),
    ("ledger", "if A.gone[A.parent[i_o] - 1] != 0:", "if False:"),
    ("ledger", "A.gone[i_p] = 1\n", "A.gone[i_p] = 0\n"),
    ("ledger", "        drop(i_k)\n        i_k = i_k + 1", "        i_k = i_k + 1"),
    ("ledger", "while i_k <= i_o:\n            A.unsent", "while i_k < i_o:\n            A.unsent"),
    ("ledger", "and A.group[i_k] == i_g and", "and"),
    ("ledger", "    i_k = A.pending\n    while i_k > A.q_at:", "    i_k = A.pending\n    while i_k > A.pending:"),
    ("ledger", "    i_k = A.q_kept\n    while i_k > 0:", "    i_k = 0\n    while i_k > 0:"),
    ("ledger", "if A.wakes[i_o] > N.step:", "if A.wakes[i_o] > N.step + 1:"),
    ("ledger", "    if A.parent[i_o] > 0:\n        end_family(i_o)", "    if False:\n        end_family(i_o)"),
    ("ledger", "        if GROUPS:\n            end_group(i_o)\n    if b_refused:", "    if b_refused:"),
    ("ledger", "            if GROUPS:\n                end_group(i_o)\n            if FAMILIES:\n                end_family(i_o)\n            continue", "            continue"),
    ("ledger", "        if GROUPS:\n            end_group(i_o)\n        if FAMILIES:\n            end_family(i_o)\n", "        pass\n"),
    ("ledger", "worse = asked + distance if A.size[i_o] > 0", "worse = asked + distance if A.size[i_o] < 0"),
    ("ledger", "worse = least(worse, limit) if", "worse = worse if"),
    ("ledger", "limit = A.price[i_o] if A.kind[i_o] == LIMIT else A.limit[i_o]", "limit = A.price[i_o]"),
    ("ledger", "return least(most(worse, low), high)", "return most(worse, low)"),
    ("ledger", "high = N.high_before[i_d] if b_late", "high = N.high[i_d] if b_late"),
    ("ledger", "distance = N.slip_before[i_d] if stamp < N.stamp[i_d]", "distance = N.slip[i_d] if stamp < N.stamp[i_d]"),
    ("ledger", "wanted = f_left(i_o, i_d, stamp) if CAPPED else", "wanted = abs(A.rest[i_o]) if CAPPED else"),
    ("ledger", "room = N.room_before[i_d] if stamp < N.stamp[i_d]", "room = N.room[i_d] if stamp < N.stamp[i_d]"),
    ("ledger", "A.cap_taken[i_d] = f_taken(i_d, stamp) + part", "A.cap_taken[i_d] = part"),
    ("ledger", "A.cap_taken[i_d] if A.cap_stamp[i_d] == stamp else 0.0", "A.cap_taken[i_d]"),
    ("ledger", "log_asked(asked)", "log_asked(price)"),
    ("ledger", "if A.bill_day[i_o] != N.day[i_d]:", "if True:"),
    ("ledger", "    bill(i_o, closed, closed_costs, price)\n", "    pass\n"),
    ("ledger", "A.carried = abs(A.bill_size[i_o])", "A.carried = 0.0"),
    ("ledger", "- (A.bill_costs[i_o] + charged), 0.0)", "- charged, 0.0)"),
    ("ledger", "fees = ratio(sold * price * N.sec[i_d], 1000000.0)", "fees = sold * price * ratio(N.sec[i_d], 1000000.0)"),
    ("ledger", "return fees if size < 0 else 0.0", "return abs(fees)"),
    ("ledger", "return A.month_shares if A.month == N.month[i_d] else 0.0", "return A.month_shares"),
    ("ledger", "if after > TIER_1:", "if after > TIER_2:"),
    ("ledger", "exchange = shares * REMOVES if price >= 1 else value * CHEAP", "exchange = value * CHEAP"),
    ("ledger", "paid = price * N.split[i_d] if SPLIT else price", "paid = price"),
    ("ledger", "+ abs(ratio(done, N.split[i_d]) if SPLIT else done)", "+ abs(done)"),
    ("ledger", "charged = TIMES * charged", "pass"),
    ("translation.calls", "lambda *given: sum(given)", "lambda *given: sum(reversed(given))"),
    ("translation.writing", "(0 if moved or not self.lagged else len(self.datas) + 1)", "0"),
    ("translation.calls", "self.lagged else \"(N.step + 1)\"", "self.lagged else \"N.step\""),
    ("translation.calls", "\"N.step\" if self.lagged else", "\"(N.step + 1)\" if self.lagged else"),
    ("translation.calls", "moved = all(id(one) in self.lines_of_feeds for one in value.objs)", "moved = False"),
    ("translation.strategies", "    A.heard = A.told\n    A.told = 0\n", "    A.heard = A.told\n"),
    ("indicators", "found[1:, count:] = found[:-1, :count]", "found[1:, count:] = found[1:, :count]"),
    ("indicators", "            data.advance()\n", "            pass\n"),
    ("trials", "live[kinds[:, step][which[live]]]", "live[kinds[0, step] | (which[live] < 0)]"),
    ("brokerage", "np.floor(volume * share)", "volume * share"),
    ("brokerage", "return own.year * 12 + own.month", "return own.month"),
    ("brokerage", "np.concatenate([values[:1], values[:-1]])", "values"),
    ("translation.orders", "\"stop\": bt.Order.Stop, \"limit\": bt.Order.Limit", "\"stop\": bt.Order.Limit, \"limit\": bt.Order.Limit"),
    ("translation.orders", "found[\"held_back\"] = \"0\" if truth.objs[0] else \"1\"", "found[\"held_back\"] = \"0\""),
    ("translation.expressions", "tuple(sign * one for one in other.objs)", "tuple(other.objs)"),
    ("indicators", "(one.date() if kind == \"date\" else one) + more", "one + more"),
    ("translation.calls", "{'>' if wanted.objs[0] is bt.BuyOrder else '<'} 0", "{'<' if wanted.objs[0] is bt.BuyOrder else '>'} 0"),
    ("translation.state", "self.emit(f\"if {at} <= {place}:\")", "self.emit(f\"if {at} < {place}:\")"),
    ("translation.state", "self.emit(f\"A.c_{name} = A.c_{name} - 1\")", "pass"),
    ("translation.expressions", "f\"({right.code} > {number} and {place} == {held})\"", "f\"({place} == {held})\""),
    ("translation.statements", "self.emit(f\"if {source.code} > {number}:\")", "self.emit(f\"if {source.code} >= {number}:\")"),
    ("translation.expressions", "f\"if {f'not {test.code}' if either else test.code}:\"", "f\"if {test.code}:\""),
    ("translation.expressions", "self.emit(f\"    {name} = {self.as_kind(other, kind)}\")", "self.emit(f\"    {name} = {self.as_kind(held, kind)}\")"),
    ("vectors", "return np.where(right < left, right, left)", "return np.where(right > left, right, left)"),
    ("vectors", "return left % _without_zeros(right, t, flag)", "return np.fmod(left, _without_zeros(right, t, flag))"),
    ("vectors", "return value.astype(\"i8\")", "return np.rint(value).astype(\"i8\")"),
    ("vectors", "return left / _without_zeros(right, t, flag)", "return left // _without_zeros(right, t, flag)"),
    ("vectors", "return np.concatenate([first, second]) if second.size else first", "return first"),
    ("vectors", "self.emit(f\"{place} = {given.text}\")\n        self.forget([name])", "self.emit(f\"{place} = {given.text}\")"),
    ("vectors", "        self.forget(self.writer.written_by(name))\n", ""),
    ("vectors", "self.hold(f\"~{taken} & {self.value(more.test, t).text}\", \"b\", \"c\")", "self.hold(self.value(more.test, t).text, \"b\", \"c\")"),
    ("vectors", "return t[places], places, t[others], others", "return t[places], places, t, _EVERY"),
    ("vectors", "            mask, base, other = self.expression(f\"(~{test.text})\"", "            mask, base, other = self.expression(f\"({test.text})\""),
    ("vectors", "where={mask})\")", "where=~{mask})\")"),
    ("translation.feed_lists", "sign = \"<\" if backwards else \">\"", "sign = \">\" if backwards else \"<\""),
    ("translation.expressions", "\"size\": \"filled\", \"price\": \"average\"", "\"size\": \"rest\", \"price\": \"average\""),
    ("translation.calls", "{'>' if name == 'isbuy' else '<'} 0", "{'<' if name == 'isbuy' else '>'} 0"),
    ("translation.expressions", "f\"if {name if both else f'not {name}'}:\"", "f\"if {name}:\""),
    ("translation.expressions", "return self.negated(self.condition(node.operand), True)", "return self.condition(node.operand)"),
    ("trials", "just = live[(np.maximum(self.before, self.opens)[live] <= step) & (self.ready[live] > step)]", "just = live[:0]"),
    ("trials", "now.reads, now.writes = now.writes, ledger.NOTES - now.writes", "now.reads, now.writes = now.writes, now.writes"),
    ("indicators", "now.rows = now.at = now.rows_listed[at]", "now.rows = now.at = now.rows_listed[max(at - 1, 0)]"),
    ("idle", "return _either(risk, ast.Compare(place, [ast.NotEq()], [value]))", "return risk"),
    ("idle", "\"UNKNOWN\" in _reads(place) | _reads(value):\n            return True", "\"UNKNOWN\" in _reads(place) | _reads(value):\n            return risk"),
    ("idle", "return self.known[name] if wanted else ~self.known[name]", "return self.known[name]"),
    ("idle", "return self.state[name] is wanted", "return self.state[name]"),
    ("idle", "found = 2 * found + ", "found = found + "),
    ("idle", "one_suffices = isinstance(condition.op, ast.Or) is wanted", "one_suffices = isinstance(condition.op, ast.Or)"),
    ("idle", "np.minimum.accumulate(backwards, axis=1, out=backwards)", "np.minimum.accumulate(table[part], axis=1, out=table[part])"),
    ("idle", "at = idle.rows[clock, part] + ago[0]", "at = idle.rows[clock, part]"),
    ("idle", "made = ast.UnaryOp(ast.Not(), made) if equal else made", "pass"),
    ("trials", "step[acting] += 1", "step[acting] += 2"),
    ("trials", "busy = account[\"pending\"][t] > 0", "busy = account[\"pending\"][t] < 0"),
    ("trials", "state.writes[t] = ledger.NOTES - state.writes[t]", "pass"),
    ("trials", "lengths[place[1:] - 1] = end", "lengths[place[1:] - 1] = start"),
    ("trials", "then = np.where(busy & (then > now), now + 1, then)", "then = np.where(busy & (then > now), now, then)"),
    ("vectors", "return np.asarray(table[rows, at])\n    if type(at) is int", "return np.asarray(table[rows, at - 1])\n    if type(at) is int"),
    ("vectors", "text = f\"M_{name}[{at.text}][{steps}]\" if at.uniform", "text = f\"M_{name}[0][{steps}]\" if at.uniform"),
]  # fmt: skip


def stale() -> list[str]:
    """Return what mutants change and what does not stand there any more."""
    texts = {
        name: Path(str(importlib.import_module(f"{_ROOM}.{name}").__file__)).read_text("utf-8")
        for name, _, _ in MUTANTS
    }
    return [before for name, before, _ in MUTANTS if before not in texts[name]]


@contextmanager
def mutated(number: int) -> Iterator[None]:
    """Let the engine be the wrong one of a number, in this process and for good: it is for a child."""
    name, before, after = MUTANTS[number]
    module: Any = importlib.import_module(f"{_ROOM}.{name}")
    text = Path(module.__file__).read_text("utf-8")
    assert before in text, f"{before!r} is not in {name}.py"
    changed = text.replace(before, after, 1)
    vectors: Any = importlib.import_module(f"{_ROOM}.vectors")
    importlib.import_module(f"{_ROOM}.trials")
    if name == "ledger":
        nodes = {node.name: node for node in ast.parse(changed).body if isinstance(node, ast.FunctionDef)}
        vectors.ledger_functions = lambda: nodes
    else:
        _remake(module, changed)
    yield


def _remake(module: Any, text: str) -> None:
    """Let a module be that of a text, wherever the engine has something of it."""
    known = {key: value for key, value in vars(module).items() if not key.startswith("__")}
    exec(compile(text, module.__file__, "exec"), vars(module))
    for key, value in known.items():
        made = vars(module)[key]
        if isinstance(value, type) and value.__module__ == module.__name__:  # which others build on
            for name, one in vars(made).items():
                if name not in ("__dict__", "__weakref__"):
                    setattr(value, name, one)
            made = vars(module)[key] = value
        for name in [one for one in sys.modules if one.startswith(_ROOM)]:
            if getattr(sys.modules[name], key, None) is value:
                setattr(sys.modules[name], key, made)
