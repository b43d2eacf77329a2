"""
The broker in the scalar code that all backends accept: numbers, tables of a trial, `if`, `while` and calls.

`vectors` translates each function here, which handles one trial, into one for all trials at once. The prefix of a name
is its type: `i_` a whole number, `b_` a boolean, everything else a float; a function with such a prefix returns that
type. `A` is the account of the trial: its attributes are numbers, or tables by order, feed or note. `N` is the market
at the current step, by feed, the same for all trials. Sizes, prices and the order of all sums are those of
`lean.broker`, which are Backtrader's.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# ruff: noqa: D103, F821, SIM102

from __future__ import annotations

from typing import Any

A: Any
N: Any
flag: Any  # leave the trial to the event engine
log_fill: Any
log_asked: Any  # the price without slippage of the fill that was logged
least: Any  # `min` and `max` of two, the first of equal ones
most: Any
lower: Any  # the same of finite numbers
higher: Any
trunc: Any  # `int`
ratio: Any  # a quotient; by 0 it is arbitrary, and not read
root: Any
INF: float
NF: int  # how many feeds
HEARS: bool  # whether the strategy is notified of orders
TRADES: bool  # whether the strategy is notified of trades
MARKET_ONLY: bool  # whether all orders are at the market
VALUES: bool  # whether value and profit of fills are read
AT_CLOSE: bool  # whether market orders fill at the close at which they are submitted
FAMILIES: bool  # whether orders have parents, or wait for their children
GROUPS: bool  # whether one order cancels others
IB: bool  # whether the costs have a minimum and a cap
BY_ORDER: bool  # whether these are an order's, not those of what it closes and of what it opens: see `OrderBill`
RATE: float
MINIMUM: float
CAP: float
PER_SHARE: bool
TIMES: float  # the factor by which the costs are multiplied
SPLIT: bool  # whether costs count shares as they were traded before splits
FEES: bool  # whether there are regulatory fees, which depend on the day
TIERED: bool  # whether the costs have a minimum and a cap, and depend on the shares of the month
SLIPS: int  # 0 for no slippage, 1 for money, 2 for a fraction of the price, 3 by volume
SLIP: float
CAPPED: bool  # whether orders fill at most a fraction of a bar's volume
BILLED: bool  # whether orders are charged as a whole and may be filled in parts, in the same session
TIER_1: float  # IB's tiers: the shares of a month where each ends, and the rate in it
TIER_2: float
TIER_3: float
TIER_4: float
RATE_1: float
RATE_2: float
RATE_3: float
RATE_4: float
RATE_5: float
REMOVES: float  # USD a share
CHEAP: float  # a fraction of the value
CLEARING: float
CLEARING_CAP: float
PASSED: float

MARKET, CLOSE, LIMIT, STOP, STOP_LIMIT, STOP_TRAIL = range(6)
CREATED, SUBMITTED, ACCEPTED, PARTIAL, COMPLETED, CANCELED, EXPIRED, MARGIN, REJECTED = range(9)
NOTES = 48  # of one trial at one step
NEVER = 1 << 50  # a step that does not exist

FLOAT, WHOLE, TRUTH = "f8", "i8", "?"
ORDERS, QUEUE, FEEDS, NOTED = "orders", "orders ", "feeds", "notes"

# The state of the account of a trial: numbers, and tables by order, feed or notification.
ACCOUNT: dict[str, tuple[str, str]] = {
    "cash": (FLOAT, ""),
    "orders": (WHOLE, ""),  # given so far
    "checked": (WHOLE, ""),  # of these
    "pending": (WHOLE, ""),
    "room": (WHOLE, ""),  # orders that the tables hold
    "asked": (WHOLE, ""),  # feeds whose position was read
    "told": (WHOLE, ""),  # pending notifications
    "queue": (WHOLE, QUEUE),
    "position": (FLOAT, FEEDS),
    "paid": (FLOAT, FEEDS),
    "rank": (WHOLE, FEEDS),
    "ranked": (WHOLE, FEEDS),
    "would": (FLOAT, FEEDS),  # the position that submitted orders would leave
    "feed": (WHOLE, ORDERS),
    "kind": (WHOLE, ORDERS),
    "status": (WHOLE, ORDERS),
    "triggered": (WHOLE, ORDERS),
    "size": (FLOAT, ORDERS),
    "price": (FLOAT, ORDERS),
    "limit": (FLOAT, ORDERS),
    "valid": (FLOAT, ORDERS),
    "trail": (FLOAT, ORDERS),
    "percent": (FLOAT, ORDERS),
    "given": (FLOAT, ORDERS),
    "ends": (FLOAT, ORDERS),  # with the session, for orders at the close
    "annotated": (FLOAT, ORDERS),  # a close at which it may be filled
    "rest": (FLOAT, ORDERS),
    "filled": (FLOAT, ORDERS),
    "average": (FLOAT, ORDERS),
    "worth": (FLOAT, ORDERS),
    "costs": (FLOAT, ORDERS),
    "gain": (FLOAT, ORDERS),
    "closed": (FLOAT, ORDERS),
    "n_order": (WHOLE, NOTED),
    "n_status": (WHOLE, NOTED),
    "n_rest": (FLOAT, NOTED),
    "n_filled": (FLOAT, NOTED),
    "n_average": (FLOAT, NOTED),
    "n_worth": (FLOAT, NOTED),
    "n_costs": (FLOAT, NOTED),
    "n_gain": (FLOAT, NOTED),
    "n_closed": (FLOAT, NOTED),
}
# Additional state if the strategy is notified of trades: the trade of each feed, and its notifications.
OF_TRADES: dict[str, tuple[str, str]] = {
    "traded": (WHOLE, ""),  # pending notifications
    "t_size": (FLOAT, FEEDS),
    "t_price": (FLOAT, FEEDS),
    "t_costs": (FLOAT, FEEDS),
    "t_gain": (FLOAT, FEEDS),
    "t_since": (WHOLE, FEEDS),
    "t_opened": (FLOAT, FEEDS),
    "t_over": (WHOLE, FEEDS),
    "t_fresh": (WHOLE, FEEDS),
    "t_long": (WHOLE, FEEDS),
    "x_feed": (WHOLE, NOTED),
    "x_over": (WHOLE, NOTED),
    "x_fresh": (WHOLE, NOTED),
    "x_long": (WHOLE, NOTED),
    "x_size": (FLOAT, NOTED),
    "x_price": (FLOAT, NOTED),
    "x_costs": (FLOAT, NOTED),
    "x_gain": (FLOAT, NOTED),
    "x_since": (WHOLE, NOTED),
    "x_bars": (WHOLE, NOTED),
    "x_opened": (FLOAT, NOTED),
    "x_closed": (FLOAT, NOTED),
}
# State if there are timers, which fire before notifications are read: the number of pending ones.
OF_TIMERS: dict[str, tuple[str, str]] = {
    "heard": (WHOLE, ""),
    "heard_trades": (WHOLE, ""),
}
# State if orders have parents: arguments of the next order, and the parent of each, counted from 1.
OF_FAMILIES: dict[str, tuple[str, str]] = {
    "with_parent": (WHOLE, ""),  # counted from 1; 0 for none
    "held_back": (WHOLE, ""),  # until a child is sent
    "parent": (WHOLE, ORDERS),
    "unsent": (WHOLE, ORDERS),
    "wakes": (WHOLE, ORDERS),  # the step from which on a child is tried
    "gone": (WHOLE, ORDERS),  # of a parent: nothing is left of its family
}
# State if costs depend on the shares traded in a month.
OF_TIERS: dict[str, tuple[str, str]] = {
    "month": (FLOAT, ""),
    "month_shares": (FLOAT, ""),
}
# State if orders fill a fraction of the volume: for each feed the bar of the last fill, and its size.
OF_CAPS: dict[str, tuple[str, str]] = {
    "cap_stamp": (FLOAT, FEEDS),
    "cap_taken": (FLOAT, FEEDS),
}
# State if orders are charged as a whole: for each order what was filled and charged in a day.
OF_BILLS: dict[str, tuple[str, str]] = {
    "carried": (FLOAT, ""),  # shares of the order that is being filled, filled before
    "bill_day": (FLOAT, ORDERS),
    "bill_size": (FLOAT, ORDERS),
    "bill_worth": (FLOAT, ORDERS),
    "bill_costs": (FLOAT, ORDERS),
}
# State if one order cancels others: the leader of each order's group, counted from 1, and the group of the leader.
OF_GROUPS: dict[str, tuple[str, str]] = {
    "with_oco": (WHOLE, ""),
    "q_kept": (WHOLE, ""),  # of the queue: orders that were tried at this step and go on
    "q_at": (WHOLE, ""),  # and the first that was not tried
    "leader": (WHOLE, ORDERS),
    "group": (WHOLE, ORDERS),
    "groups": (WHOLE, ORDERS),
}


def i_feed_of(i_o):
    i_d = 0
    if NF > 1:
        i_d = A.feed[i_o]
    return i_d


def ask(i_d):
    # Values are summed in the order in which positions were asked for.
    if NF > 1:
        if A.rank[i_d] < 0:
            A.rank[i_d] = A.asked
            A.ranked[A.asked] = i_d
            A.asked = A.asked + 1


def f_value():
    total = 0.0
    if NF == 1:
        value = A.position[0] * N.close[0]
        gain = A.position[0] * (N.close[0] - A.paid[0])
        total = (value - gain) + gain if value > 0 else 0.0 + value
    if NF > 1:
        for i_k in range(NF):
            if i_k < A.asked:
                i_f = A.ranked[i_k]
                worth = A.position[i_f] * N.close[i_f]
                if worth > 0:
                    rise = A.position[i_f] * (N.close[i_f] - A.paid[i_f])
                    total = (total + (worth - rise)) + rise
                else:
                    total = total + worth
    return A.cash + total


def f_commission(i_d, size, price):
    traded = ratio(size, N.split[i_d]) if SPLIT else size
    paid = price * N.split[i_d] if SPLIT else price
    charged = 0.0
    if IB:
        charged = lower(higher(abs(traded) * RATE, MINIMUM), abs(traded) * paid * CAP)
    if TIERED:
        charged = f_tiered(i_d, traded, paid)
    if not IB and not TIERED:
        if PER_SHARE:
            charged = abs(size) * RATE
        if not PER_SHARE:
            charged = abs(size) * RATE * price
    if FEES:
        charged = charged + f_regulatory(i_d, traded, paid)
    if TIMES != 1:
        charged = TIMES * charged
    return charged


def f_regulatory(i_d, size, price):
    sold = -size
    fees = ratio(sold * price * N.sec[i_d], 1000000.0) + lower(sold * N.taf[i_d], N.taf_most[i_d])
    return fees if size < 0 else 0.0


def f_tiered(i_d, size, price):
    shares = abs(size)
    value = shares * price
    before = f_in_month(i_d)
    if BILLED:
        carried = ratio(A.carried, N.split[i_d]) if SPLIT else A.carried
        before = higher(before - carried, 0.0) if A.carried != 0 else before
    after = before + shares
    charged = (lower(after, TIER_1) - before) * RATE_1
    if after > TIER_1:
        charged = f_beyond(before, after)
    commission = lower(higher(charged, MINIMUM), value * CAP)
    exchange = shares * REMOVES if price >= 1 else value * CHEAP
    return commission * PASSED + exchange + lower(shares * CLEARING, value * CLEARING_CAP)


def f_beyond(before, after):
    first = higher(lower(after, TIER_1) - before, 0.0) * RATE_1
    second = higher(lower(after, TIER_2) - higher(before, TIER_1), 0.0) * RATE_2
    third = higher(lower(after, TIER_3) - higher(before, TIER_2), 0.0) * RATE_3
    fourth = higher(lower(after, TIER_4) - higher(before, TIER_3), 0.0) * RATE_4
    return first + second + third + fourth + higher(after - higher(before, TIER_4), 0.0) * RATE_5


def f_in_month(i_d):
    return A.month_shares if A.month == N.month[i_d] else 0.0


def f_opening(i_d, opened, closed, price, charged):
    fee = f_commission(i_d, opened, price)
    if BY_ORDER:
        total = opened + closed
        value = opened * price + closed * price
        rest = most(f_commission(i_d, total, ratio(value, total)) - charged, 0.0)
        fee = fee if closed == 0 else 0.0 if opened == 0 else rest
    return fee


# The same of an order that may have been filled in part before, in the same session.


def f_closing_more(i_o, i_d, closed, price):
    before = A.bill_size[i_o]
    total = closed + before
    value = closed * price + A.bill_worth[i_o]
    rest = most(f_commission(i_d, total, ratio(value, total)) - A.bill_costs[i_o], 0.0)
    return f_commission(i_d, closed, price) if before == 0 else 0.0 if closed == 0 else rest


def f_opening_more(i_o, i_d, opened, closed, price, charged):
    before = A.bill_size[i_o] + closed
    total = opened + before
    value = opened * price + (A.bill_worth[i_o] + closed * price)
    rest = most(f_commission(i_d, total, ratio(value, total)) - (A.bill_costs[i_o] + charged), 0.0)
    return f_commission(i_d, opened, price) if before == 0 else 0.0 if opened == 0 else rest


# --- orders that a strategy gives; -1 is None, and NaN a number that was left out


def i_give(i_d, i_buys, size, price, limit, i_kind, valid, trail, percent):
    i_o = A.orders
    if i_o >= A.room or size != size:
        flag()
        return -1
    close = N.close[i_d]
    b_priced = price == price and price != 0.0
    b_limited = limit == limit and limit != 0.0
    if (b_limited and price != price) or N.at[i_d] < 0:
        flag()
        return -1
    named = price if b_priced or b_limited else close
    A.orders = i_o + 1  # whose row is all 0
    if NF > 1:
        A.feed[i_o] = i_d
    if not MARKET_ONLY:
        if i_kind != MARKET:
            A.kind[i_o] = i_kind
            A.limit[i_o] = limit if b_limited else named
            A.valid[i_o] = valid
            A.trail[i_o] = trail
            A.percent[i_o] = percent
            A.ends[i_o] = N.ends[i_d]
    A.status[i_o] = CREATED if FAMILIES else SUBMITTED
    signed = size if i_buys == 1 else -size
    A.size[i_o] = signed
    A.rest[i_o] = signed
    A.price[i_o] = named
    A.given[i_o] = N.stamp[i_d]
    if AT_CLOSE:
        if i_kind == MARKET:
            A.annotated[i_o] = close
    if not MARKET_ONLY:
        if i_kind == STOP_TRAIL:
            A.price[i_o] = INF if i_buys == 1 else -INF
            trail_on(i_o, named)
    if GROUPS:
        join_group(i_o)
    if FAMILIES:
        send(i_o)
    else:
        note(i_o)
    return i_o


def join_group(i_o):
    i_l = i_o
    if A.with_oco > 0:
        i_l = A.leader[A.with_oco - 1] - 1
    A.leader[i_o] = i_l + 1
    A.group[i_o] = A.groups[i_l]


def send(i_o):
    # An order that is held back goes with the last child, which has to follow it without another order between.
    i_p = i_o
    if A.with_parent > 0:
        i_p = A.with_parent - 1
        A.parent[i_o] = i_p + 1
        A.wakes[i_o] = NEVER
        if A.gone[i_p] != 0 or A.unsent[i_o - 1] == 0 or (i_o - 1 != i_p and A.parent[i_o - 1] != i_p + 1):
            flag()
            return
    A.unsent[i_o] = 1
    if A.held_back == 0:
        i_k = i_p
        while i_k <= i_o:
            A.unsent[i_k] = 0
            A.status[i_k] = SUBMITTED
            note(i_k)
            i_k = i_k + 1


def i_order(i_d, i_buys, size, price, limit, i_kind, valid, trail, percent):
    if size == 0:
        return -1
    return i_give(i_d, i_buys, abs(size), price, limit, i_kind, valid, trail, percent)


def i_close(i_d, size, price, limit, i_kind, valid, trail, percent):
    ask(i_d)
    held = A.position[i_d]
    if held == 0:
        return -1
    wanted = abs(size if size == size else held)
    i_way = 0 if held > 0 else 1
    return i_order(i_d, i_way, wanted, price, limit, i_kind, valid, trail, percent)


def i_target_size(i_d, target, price, limit, i_kind, valid, trail, percent):
    ask(i_d)
    held = A.position[i_d]
    if target == 0 and held != 0:
        return i_close(i_d, held, price, limit, i_kind, valid, trail, percent)
    if target > held:
        return i_order(i_d, 1, target - held, price, limit, i_kind, valid, trail, percent)
    if target < held:
        return i_order(i_d, 0, held - target, price, limit, i_kind, valid, trail, percent)
    return -1


def i_target_value(i_d, target, price, limit, i_kind, valid, trail, percent):
    ask(i_d)
    held = A.position[i_d]
    if target == 0 and held != 0:
        return i_close(i_d, held, price, limit, i_kind, valid, trail, percent)
    value = held * N.close[i_d]
    named = price if price == price else N.close[i_d]
    if target > value:
        return i_order(i_d, 1, trunc((target - value) // named), named, limit, i_kind, valid, trail, percent)
    if target < value:
        return i_order(i_d, 0, trunc((value - target) // named), named, limit, i_kind, valid, trail, percent)
    return -1


def i_target_percent(i_d, target, price, limit, i_kind, valid, trail, percent):
    ask(i_d)
    return i_target_value(i_d, target * f_value(), price, limit, i_kind, valid, trail, percent)


def cancel(i_o):
    if i_o >= 0:
        if A.status[i_o] == ACCEPTED or A.status[i_o] == PARTIAL:
            A.status[i_o] = CANCELED
            i_d = i_feed_of(i_o)
            A.closed[i_o] = N.stamp[i_d]
            note(i_o)
            if GROUPS:
                end_group(i_o)
            if FAMILIES:
                end_family(i_o)


def drop(i_o):
    # Cancel an order of a family, whose others are seen to already.
    if A.status[i_o] == ACCEPTED or A.status[i_o] == PARTIAL:
        A.status[i_o] = CANCELED
        i_d = i_feed_of(i_o)
        A.closed[i_o] = N.stamp[i_d]
        note(i_o)
        if GROUPS:
            end_group(i_o)


def end_group(i_o):
    # Orders are looked through from the last in the queue to the first; those that were tried come after the others.
    i_l = A.leader[i_o] - 1
    i_g = A.groups[i_l]
    A.groups[i_l] = i_g + 1
    i_k = A.q_kept
    while i_k > 0:
        i_k = i_k - 1
        leave_group(A.queue[i_k], i_o, i_l, i_g)
    i_k = A.pending
    while i_k > A.q_at:
        i_k = i_k - 1
        leave_group(A.queue[i_k], i_o, i_l, i_g)


def leave_group(i_k, i_o, i_l, i_g):
    if A.leader[i_k] == i_l + 1 and A.group[i_k] == i_g and i_k != i_o:
        if A.status[i_k] == ACCEPTED or A.status[i_k] == PARTIAL:
            A.status[i_k] = CANCELED
            i_d = i_feed_of(i_k)
            A.closed[i_k] = N.stamp[i_d]
            note(i_k)


def end_family(i_o):
    i_p = i_o
    if A.parent[i_o] > 0:
        i_p = A.parent[i_o] - 1
    A.gone[i_p] = 1
    i_k = i_p
    while i_k < A.orders:
        if i_k != i_p and A.parent[i_k] != i_p + 1:
            break
        drop(i_k)
        i_k = i_k + 1


def fill_family(i_o):
    # Once an order is filled its children wake, and those that have the same parent are cancelled.
    if A.parent[i_o] > 0:
        end_family(i_o)
    else:
        i_k = i_o + 1
        while i_k < A.orders:
            if A.parent[i_k] != i_o + 1:
                break
            A.wakes[i_k] = N.step + 1
            i_k = i_k + 1


def trail_on(i_o, price):
    amount = A.trail[i_o] if A.trail[i_o] != 0 else price * A.percent[i_o]
    if A.size[i_o] > 0:
        above = price + amount
        if above < A.price[i_o]:
            A.price[i_o] = above
    else:
        below = price - amount
        if below > A.price[i_o]:
            A.price[i_o] = below


def note(i_o):
    if HEARS:
        i_n = A.told
        if i_n >= NOTES:
            flag()
            return
        i_at = i_n + N.writes
        A.told = i_n + 1
        A.n_order[i_at] = i_o
        A.n_status[i_at] = A.status[i_o]
        A.n_rest[i_at] = A.rest[i_o]
        A.n_filled[i_at] = A.filled[i_o]
        A.n_average[i_at] = A.average[i_o]
        A.n_costs[i_at] = A.costs[i_o]
        if VALUES:
            A.n_worth[i_at] = A.worth[i_o]
            A.n_gain[i_at] = A.gain[i_o]
        A.n_closed[i_at] = A.closed[i_o]


def trade(i_d, closed, closed_costs, opened, opened_costs, price):
    if closed != 0:
        trade_on(i_d, closed, closed_costs, price)
        if A.t_over[i_d] != 0:
            note_trade(i_d)
    if opened != 0:
        if A.t_over[i_d] != 0:
            A.t_size[i_d] = 0.0
            A.t_price[i_d] = 0.0
            A.t_costs[i_d] = 0.0
            A.t_gain[i_d] = 0.0
            A.t_since[i_d] = 0
            A.t_opened[i_d] = 0.0
        trade_on(i_d, opened, opened_costs, price)
        if A.t_over[i_d] != 0:
            note_trade(i_d)
    if A.t_fresh[i_d] != 0:
        note_trade(i_d)


def trade_on(i_d, size, costs, price):
    before = A.t_size[i_d]
    A.t_costs[i_d] = A.t_costs[i_d] + costs
    after = before + size
    A.t_size[i_d] = after
    A.t_fresh[i_d] = 0
    if before == 0 and size != 0:
        A.t_fresh[i_d] = 1
        A.t_since[i_d] = N.at[i_d] + 1
        A.t_opened[i_d] = N.stamp[i_d]
        A.t_long[i_d] = 1 if after > 0 else 0
    A.t_over[i_d] = 1 if before != 0 and after == 0 else 0
    gain = 0.0
    if abs(after) > abs(before):
        A.t_price[i_d] = (before * A.t_price[i_d] + size * price) / after
    else:
        gain = -size * (price - A.t_price[i_d])
    A.t_gain[i_d] = A.t_gain[i_d] + gain


def note_trade(i_d):
    i_n = A.traded
    if i_n >= NOTES:
        flag()
        return
    i_at = i_n + N.writes
    A.traded = i_n + 1
    A.x_feed[i_at] = i_d
    A.x_over[i_at] = A.t_over[i_d]
    A.x_fresh[i_at] = A.t_fresh[i_d]
    A.x_long[i_at] = A.t_long[i_d]
    A.x_size[i_at] = A.t_size[i_d]
    A.x_price[i_at] = A.t_price[i_d]
    A.x_costs[i_at] = A.t_costs[i_d]
    A.x_gain[i_at] = A.t_gain[i_d]
    A.x_since[i_at] = A.t_since[i_d]
    A.x_bars[i_at] = N.at[i_d] + 1 - A.t_since[i_d]
    A.x_opened[i_at] = A.t_opened[i_d]
    A.x_closed[i_at] = N.stamp[i_d]


# --- a step of the broker


def check():
    cash = A.cash
    for i_f in range(NF):
        A.would[i_f] = A.position[i_f]
    i_o = A.checked
    while i_o < A.orders:
        i_d = i_feed_of(i_o)
        if FAMILIES:
            if A.unsent[i_o] != 0:
                flag()
                return
            if A.parent[i_o] > 0:
                if A.gone[A.parent[i_o] - 1] != 0:
                    A.status[i_o] = REJECTED
                    A.closed[i_o] = N.stamp[i_d]
                    note(i_o)
                    i_o = i_o + 1
                    continue
        ask(i_d)
        held = A.would[i_d]
        size = A.rest[i_o]
        price = A.price[i_o]
        left = held + size
        b_grows = held == 0 or (held > 0) == (size > 0)
        b_stays = (held > 0) == (left > 0)
        opened = 0.0 if left == 0 else size if b_grows else 0.0 if b_stays else left
        closed = size if left == 0 else 0.0 if b_grows else size if b_stays else -held
        A.would[i_d] = left
        # Nothing that is closed, or opened, is worth 0, costs 0 and leaves the cash as it is.
        charged = f_commission(i_d, closed, price)
        cash = cash + -closed * price
        cash = cash - charged
        cash = cash - opened * price
        cash = cash - f_opening(i_d, opened, closed, price, charged)
        if cash >= 0.0:
            A.status[i_o] = ACCEPTED
            A.queue[A.pending] = i_o
            A.pending = A.pending + 1
        else:
            A.status[i_o] = MARGIN
            A.closed[i_o] = N.stamp[i_d]
        note(i_o)
        if A.status[i_o] == MARGIN:
            if GROUPS:
                end_group(i_o)
            if FAMILIES:
                end_family(i_o)
        i_o = i_o + 1
    A.checked = A.orders


def try_pending():
    i_kept = 0
    i_k = 0
    i_n = A.pending
    while i_k < i_n:
        i_o = A.queue[i_k]
        i_k = i_k + 1
        if GROUPS:
            A.q_kept = i_kept
            A.q_at = i_k
        if A.status[i_o] > PARTIAL:
            continue
        i_d = i_feed_of(i_o)
        if MARKET_ONLY:
            try_order(i_o, i_d)
            if A.status[i_o] <= PARTIAL:
                A.queue[i_kept] = i_o
                i_kept = i_kept + 1
            continue
        if A.kind[i_o] != MARKET and A.valid[i_o] != 0.0 and N.stamp[i_d] > A.valid[i_o]:
            A.status[i_o] = EXPIRED
            A.closed[i_o] = N.stamp[i_d]
            note(i_o)
            if GROUPS:
                end_group(i_o)
            if FAMILIES:
                end_family(i_o)
            continue
        if FAMILIES:
            if A.wakes[i_o] > N.step:
                A.queue[i_kept] = i_o
                i_kept = i_kept + 1
                continue
        try_order(i_o, i_d)
        if A.status[i_o] <= PARTIAL:
            A.queue[i_kept] = i_o
            i_kept = i_kept + 1
        elif A.status[i_o] == COMPLETED:
            if FAMILIES:
                fill_family(i_o)
    A.pending = i_kept
    if GROUPS:
        A.q_kept = 0
        A.q_at = 0


def try_order(i_o, i_d):
    if MARKET_ONLY:
        try_market(i_o, i_d)
        return
    i_kind = A.kind[i_o]
    if i_kind == MARKET:
        try_market(i_o, i_d)
    elif i_kind == CLOSE:
        try_close(i_o, i_d)
    elif i_kind == LIMIT:
        try_limit(i_o, i_d, A.price[i_o])
    elif i_kind == STOP_LIMIT:
        try_stop_limit(i_o, i_d)
    else:
        try_stop(i_o, i_d)
        if i_kind == STOP_TRAIL and A.status[i_o] <= PARTIAL:
            trail_on(i_o, N.close[i_d])


def try_market(i_o, i_d):
    if AT_CLOSE:  # booked in the step after, as Backtrader does
        execute(i_o, i_d, A.annotated[i_o], A.given[i_o])
    if not AT_CLOSE:
        if N.stamp[i_d] > A.given[i_o]:
            execute(i_o, i_d, N.open[i_d], N.stamp[i_d])


def try_close(i_o, i_d):
    stamp = N.stamp[i_d]
    if stamp > A.given[i_o] and stamp >= A.ends[i_o]:
        if A.annotated[i_o] != 0.0 and stamp > A.ends[i_o]:
            execute(i_o, i_d, A.annotated[i_o], N.before[i_d])
        else:
            execute(i_o, i_d, N.close[i_d], stamp)
        return
    A.annotated[i_o] = N.close[i_d]


def try_limit(i_o, i_d, limit):
    if A.size[i_o] > 0:
        if limit >= N.open[i_d]:
            execute(i_o, i_d, N.open[i_d], N.stamp[i_d])
        elif limit >= N.low[i_d]:
            execute(i_o, i_d, limit, N.stamp[i_d])
    elif limit <= N.open[i_d]:
        execute(i_o, i_d, N.open[i_d], N.stamp[i_d])
    elif limit <= N.high[i_d]:
        execute(i_o, i_d, limit, N.stamp[i_d])


def try_stop(i_o, i_d):
    trigger = A.price[i_o]
    if A.size[i_o] > 0:
        if N.open[i_d] >= trigger:
            execute(i_o, i_d, N.open[i_d], N.stamp[i_d])
        elif N.high[i_d] >= trigger:
            execute(i_o, i_d, trigger, N.stamp[i_d])
    elif N.open[i_d] <= trigger:
        execute(i_o, i_d, N.open[i_d], N.stamp[i_d])
    elif N.low[i_d] <= trigger:
        execute(i_o, i_d, trigger, N.stamp[i_d])


def try_stop_limit(i_o, i_d):
    limit = A.limit[i_o]
    if A.triggered[i_o] != 0:
        try_limit(i_o, i_d, limit)
        return
    trigger = A.price[i_o]
    opened = N.open[i_d]
    closed = N.close[i_d]
    stamp = N.stamp[i_d]
    if A.size[i_o] > 0:
        if opened >= trigger:
            A.triggered[i_o] = 1
            try_limit(i_o, i_d, limit)
        elif N.high[i_d] >= trigger:
            A.triggered[i_o] = 1
            if limit >= trigger:
                execute(i_o, i_d, trigger, stamp)
            elif opened > closed and limit >= closed:
                execute(i_o, i_d, limit, stamp)
    elif opened <= trigger:
        A.triggered[i_o] = 1
        try_limit(i_o, i_d, limit)
    elif N.low[i_d] <= trigger:
        A.triggered[i_o] = 1
        if limit <= trigger:
            execute(i_o, i_d, trigger, stamp)
        elif opened <= closed and limit <= closed:
            execute(i_o, i_d, limit, stamp)


def begin_bill(i_o, i_d):
    if A.bill_day[i_o] != N.day[i_d]:
        A.bill_day[i_o] = N.day[i_d]
        A.bill_size[i_o] = 0.0
        A.bill_worth[i_o] = 0.0
        A.bill_costs[i_o] = 0.0
    A.carried = abs(A.bill_size[i_o])


def bill(i_o, size, costs, price):
    A.bill_size[i_o] = A.bill_size[i_o] + size
    A.bill_worth[i_o] = A.bill_worth[i_o] + size * price
    A.bill_costs[i_o] = A.bill_costs[i_o] + costs


def f_slipped(i_o, i_d, asked, stamp):
    b_late = stamp < N.stamp[i_d]
    distance = f_distance(i_o, i_d, asked, stamp)
    worse = asked + distance if A.size[i_o] > 0 else asked - distance
    if not MARKET_ONLY:
        if A.kind[i_o] == LIMIT or A.kind[i_o] == STOP_LIMIT:
            limit = A.price[i_o] if A.kind[i_o] == LIMIT else A.limit[i_o]
            worse = least(worse, limit) if A.size[i_o] > 0 else most(worse, limit)
    low = N.low_before[i_d] if b_late else N.low[i_d]
    high = N.high_before[i_d] if b_late else N.high[i_d]
    return least(most(worse, low), high)


def f_distance(i_o, i_d, asked, stamp):
    distance = asked * SLIP
    if SLIPS == 1:
        distance = N.slip_before[i_d] if stamp < N.stamp[i_d] else N.slip[i_d]
    if SLIPS == 3:
        volume = N.volume_before[i_d] if stamp < N.stamp[i_d] else N.volume[i_d]
        wanted = f_left(i_o, i_d, stamp) if CAPPED else abs(A.rest[i_o])
        distance = asked * SLIP * root(ratio(wanted, volume)) if volume > 0 else INF
    return distance


def f_left(i_o, i_d, stamp):
    room = N.room_before[i_d] if stamp < N.stamp[i_d] else N.room[i_d]
    return most(least(abs(A.rest[i_o]), room - f_taken(i_d, stamp)), 0.0)


def f_taken(i_d, stamp):
    return A.cap_taken[i_d] if A.cap_stamp[i_d] == stamp else 0.0


def f_part(i_o, i_d, stamp):
    part = f_left(i_o, i_d, stamp)
    A.cap_taken[i_d] = f_taken(i_d, stamp) + part
    A.cap_stamp[i_d] = stamp
    return part if A.size[i_o] > 0 else -part


def execute(i_o, i_d, asked, stamp):
    ask(i_d)
    price = f_slipped(i_o, i_d, asked, stamp) if SLIPS else asked
    size = f_part(i_o, i_d, stamp) if CAPPED else A.rest[i_o]
    if BILLED:
        begin_bill(i_o, i_d)
    held = A.position[i_d]
    paid = A.paid[i_d]
    left = held + size
    b_grows = held == 0 or (held > 0) == (size > 0)
    b_stays = (held > 0) == (left > 0)
    opened = 0.0 if left == 0 else size if b_grows else 0.0 if b_stays else left
    closed = size if left == 0 else 0.0 if b_grows else size if b_stays else -held
    # Nothing that is closed, or opened, is worth 0, costs 0 and leaves the cash as it is.
    gain = -closed * (price - paid)
    freed = -closed * paid
    closed_costs = f_closing_more(i_o, i_d, closed, price) if BILLED else f_commission(i_d, closed, price)
    cash = (A.cash + (freed + gain)) - closed_costs
    bound = opened * price
    fee = (
        f_opening_more(i_o, i_d, opened, closed, price, closed_costs)
        if BILLED
        else f_opening(i_d, opened, closed, price, closed_costs)
    )
    cash_after = (cash - bound) - fee
    b_refused = opened != 0 and cash_after < 0.0
    A.cash = cash if b_refused else cash_after
    done = closed if b_refused else closed + opened
    if done != 0:
        after = held + done
        b_more = (held > 0) == (done > 0)
        average = ratio(paid * held + done * price, after)
        kept = paid if (held > 0) == (after > 0) else price
        A.paid[i_d] = 0.0 if after == 0 else price if held == 0 else average if b_more else kept
        A.position[i_d] = after
        opened_costs = 0.0 if b_refused else fee
        costs = closed_costs + opened_costs
        before = A.filled[i_o] * A.average[i_o]
        rest = A.rest[i_o] - done
        filled = A.filled[i_o] + done
        A.rest[i_o] = rest
        A.filled[i_o] = filled
        A.average[i_o] = (before + done * price) / filled
        A.costs[i_o] = A.costs[i_o] + costs
        if VALUES:
            A.worth[i_o] = A.worth[i_o] + (freed if b_refused else freed + bound)
            A.gain[i_o] = A.gain[i_o] + gain
        A.closed[i_o] = stamp
        A.status[i_o] = PARTIAL if rest != 0 else COMPLETED
        log_fill(i_o, i_d, stamp, done, price, costs)
        if SLIPS:
            log_asked(asked)
        if TIERED:
            A.month_shares = f_in_month(i_d) + abs(ratio(done, N.split[i_d]) if SPLIT else done)
            A.month = N.month[i_d]
        if BILLED:
            bill(i_o, closed, closed_costs, price)
            bill(i_o, 0.0 if b_refused else opened, opened_costs, price)
        if TRADES:
            trade(i_d, closed, closed_costs, 0.0 if b_refused else opened, opened_costs, price)
        note(i_o)
        if GROUPS:
            end_group(i_o)
    if b_refused:
        A.status[i_o] = MARGIN
        A.closed[i_o] = N.stamp[i_d]
        note(i_o)
        if GROUPS:
            end_group(i_o)
        if FAMILIES:
            end_family(i_o)
    if BILLED:
        A.carried = 0.0
