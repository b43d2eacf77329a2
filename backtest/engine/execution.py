"""How orders fill by the settings of a `Brokerage`: slippage, spread, market impact, a fraction of the volume."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import new_class
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt

from backtest import _arguments
from backtest._suggest import there_are
from backtest.engine.account.commissions import Costs, MonthlyVolume, bill_of, charges_by_order, model_for, read_number
from backtest.engine.account.contracts import Terms, trade_by
from backtest.engine.account.converted import Converted
from backtest.engine.account.schedules import costs_for
from backtest.engine.cash_flows import Interest
from backtest.errors import UsageError
from backtest.market.series import CONTRACT_KINDS, Series
from backtest.runs.currencies import BY_CURRENCY
from backtest.runs.spec import Brokerage

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.engine.account.borrowing import Borrowing, StoredFees

NEXT_BAR, THIS_CLOSE = FILLS = ("next-bar", "this-close")

_NO_TICKS: Mapping[str, float] = {}
HalfSpreads = Mapping[str, tuple[list[float], list[float]]]  # by the feed's name: stamps, and half of ask less bid


class Slippage(NamedTuple):
    """How much worse than the bar's own price an order fills: a kind and its number."""

    kind: str  # "", "basis points", "money", "ticks", "impact" or "spread"
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Slippage:
        """
        Read "" (none), "5bp" (basis points), "0.01" or "money:0.01" (per share), "1tick", "impact:0.1" or "spread".

        "impact:0.1" is the square-root law: an order as large as the bar's volume moves the price by a tenth, an order
        of a hundredth of the volume by a hundredth. "spread" is half the difference between the stored BID and ASK bars
        at the open; "spread:2" is twice that.

        Raises:
            UsageError: it is none of these.
        """
        example = "write 5bp, 0.01 (amount per share), 1tick (of a contract), impact:0.1, or spread"
        if text in ("", "spread"):
            return cls(text)
        what = f"the slippage {text!r}"
        if text.startswith("spread:"):
            return cls("spread", read_number(text.removeprefix("spread:"), what, example))
        if text.startswith("impact:"):
            return cls("impact", read_number(text.removeprefix("impact:"), what, example))
        if text.endswith("bp"):
            return cls("basis points", read_number(text.removesuffix("bp"), what, example) / 10_000)
        if text.endswith(("tick", "ticks")):
            return cls("ticks", read_number(text.removesuffix("s").removesuffix("tick"), what, example))
        return cls("money", read_number(text.removeprefix("money:"), what, example))


class _ByOrder:
    """A broker that charges an order as a whole, if its commission model supports that: see `OrderBill`."""

    def _execute(self, order: Any, *rest: Any, **named: Any) -> Any:
        bill = bill_of(self.getcommissioninfo(order.data), order)  # type: ignore[attr-defined]  # of Backtrader's broker
        try:
            return super()._execute(order, *rest, **named)  # type: ignore[misc]
        finally:
            if bill is not None:
                bill.end()


def charge_by_order(broker: Any) -> None:
    """Make a broker of Backtrader's own loops charge orders as a whole; the broker of a lean run does so itself."""
    kind: Any = type(broker)
    if not issubclass(kind, _ByOrder) and any(map(charges_by_order, broker.comminfo.values())):
        broker.__class__ = _by_order(kind)


@cache  # Backtrader keeps each class that is ever made
def _by_order(kind: Any) -> Any:
    return new_class(kind.__name__, (_ByOrder, kind), exec_body=lambda body: body.update(__module__=__name__))


class MarketBroker(_ByOrder, bt.brokers.BackBroker):
    """
    Backtrader's broker, with prices that depend on the order's size and on the spread; never outside the bar.

    Slippage never moves a limit order past its limit.

    Attributes:
        clipped: how many fills would have slipped outside their bar.
        asked: the prices without slippage of an order's fills, by its reference.
        as_priced: the references of orders without slippage.
    """

    slippage = Slippage("")
    half_spreads: HalfSpreads
    ticks: Mapping[str, float]  # by the feed's name
    asked: dict[int, list[float]]
    as_priced: set[int]
    _cut: bool  # whether the current fill would have slipped out of its bar

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clipped, self.asked, self.as_priced, self._cut = 0, {}, set(), False

    def _execute(self, order: Any, ago: Any = None, price: Any = None, *rest: Any, **named: Any) -> Any:
        asked, before = price, len(order.executed.exbits)
        self._cut = False
        slips = order.exectype != order.Historical and order.ref not in self.as_priced
        if ago is not None and price is not None and slips:
            at_close = named.get("dtcoc")  # which was that of the bar before, where the feed has moved since
            price = self._slipped(order, ago - bool(at_close and order.data.datetime[ago] > at_close), price)
        done = super()._execute(order, ago, price, *rest, **named)
        if len(order.executed.exbits) > before and order.executed.exbits[-1].size:
            self.asked.setdefault(order.ref, []).append(asked[0] if isinstance(asked, bt.LineRoot) else asked)
            self.clipped += self._cut
        return done

    def unslipped(self, refs: Iterable[int]) -> list[float]:
        """Return the price without slippage of each fill, given the references of their orders, by time."""
        prices = {ref: iter(asked) for ref, asked in self.asked.items()}
        return [next(prices[ref]) for ref in refs]

    def _slipped(self, order: Any, ago: int, price: float) -> float:
        data, sign = order.data, 1 if order.isbuy() else -1
        distance = self._distance(order, ago, price)
        worse = price + sign * distance
        limits = {order.Limit: order.created.price, order.StopLimit: order.created.pricelimit}
        limits[order.StopTrailLimit] = order.created.pricelimit
        if order.exectype in limits:
            limit = limits[order.exectype]
            worse = min(worse, limit) if sign > 0 else max(worse, limit)
        inside: float = min(max(worse, data.low[ago]), data.high[ago])
        self._cut = inside != worse and math.isfinite(distance)
        return inside

    def _distance(self, order: Any, ago: int, price: float) -> float:
        kind, amount, data = self.slippage.kind, self.slippage.amount, order.data
        if kind == "money":
            return amount
        if kind == "basis points":
            return price * amount
        if kind == "ticks":
            return amount * self.ticks[data._name]
        if kind == "spread":
            return half_spread(self.half_spreads[data._name], data.datetime[ago]) * (amount or 1.0)
        volume, cap = data.volume[ago], self.p.filler
        if not volume > 0:
            return math.inf  # not known: use the worst price of the bar
        size = cap.left(order, ago) if isinstance(cap, VolumeCap) else abs(order.executed.remsize)
        distance: float = price * amount * math.sqrt(size / volume)
        return distance


def half_spread(known: tuple[list[float], list[float]], stamp: float) -> float:
    """Return half the spread of a bar, by its timestamp; 0 if the quotes have no such bar."""
    stamps, halves = known
    at = bisect_left(stamps, stamp)
    return halves[at] if at < len(stamps) and stamps[at] == stamp else 0.0


_Bar = tuple[float, int]  # its stamp, and the place of the small bar in it, if orders are filled on such


class VolumeCap:
    """
    A filler for Backtrader's broker: at most a fraction of a bar's volume, in whole shares, for all its orders.

    The rest of an order waits for the next bar. A bar without volume sets no limit. Coins use their own smallest size.

    Attributes:
        nothing: the number of bars in which that fraction was below the smallest size, so that an order got nothing.
    """

    def __init__(self, share: float) -> None:
        self.share, self.nothing = share, 0
        self._taken: dict[str, tuple[_Bar, float]] = {}  # by the feed's name: the bar, and how much of it

    def __call__(self, order: Any, price: float, ago: int) -> float:
        """Return how much of the order fills in this bar, and deduct it from the volume."""
        filled = self.left(order, ago)
        stamp, taken = self._bar(order, ago)
        self.nothing += not filled and not taken and order.data.volume[ago] > 0
        self._taken[order.data._name] = stamp, taken + filled
        return filled

    def left(self, order: Any, ago: int) -> float:
        """Return how much of the order may fill in this bar."""
        volume: float = order.data.volume[ago]
        wanted = float(abs(order.executed.remsize))
        if not volume >= 0:  # not a number: a series of quotes has none
            return wanted
        step = smallest_size(order.data)
        left = in_steps(volume * self.share, step) - self._bar(order, ago)[1]
        if step != 1:  # a remainder of binary rounding is not a part of a coin
            left = wanted if abs(left - wanted) < step / 2 else in_steps(left, step, nearest=True)
        return max(min(wanted, left), 0.0)

    def _bar(self, order: Any, ago: int) -> tuple[_Bar, float]:
        own = order.data.datetime[ago], getattr(order.data, "_at_small", -1)
        known, taken = self._taken.get(order.data._name, (own, 0.0))
        return own, taken if known == own else 0.0


_STEPS = {"CRYPTO": 1e-8}  # by the kind of an instrument; of all others whole shares, contracts or units are traded


def smallest_size(data: Any) -> float:
    """Return the smallest tradable size of a feed's instrument; all sizes are multiples of it."""
    return _smallest_size_of(data._name)


@cache
def _smallest_size_of(name: str) -> float:
    try:
        return _STEPS.get(Series.parse(name).instrument.kind, 1)
    except UsageError:  # a feed that a strategy made
        return 1


def in_steps(size: float, step: float, nearest: bool = False) -> float:
    """Return a size rounded down, or to the nearest, multiple of a step; a whole number for a step of 1."""
    if step == 1:
        return round(size) if nearest else math.floor(size)
    from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

    unit = Decimal(repr(step))
    return float((Decimal(repr(size)) / unit).to_integral_value(ROUND_HALF_EVEN if nearest else ROUND_FLOOR) * unit)


class CashInterest(bt.Analyzer):
    """
    Pays daily interest (365 days per year) on idle cash, which excludes the proceeds of short sales.

    The interest that a bar's cash earns until the next bar is paid with the bar after that.
    """

    params = (("rate", 0.0),)

    def start(self) -> None:
        """Begin without a day."""
        self._day, self._idle = 0, 0.0

    def prenext(self) -> None:
        """Do as in any other bar."""
        self.next()

    def next(self) -> None:
        """Pay interest for the days since the previous bar."""
        if self.strategy.datetime[0] <= getattr(self.strategy, "_window_begins", 0.0):
            return  # what is before is a warm-up
        broker, day = self.strategy.broker, int(self.strategy.datetime[0])
        earned = self._idle * self.p.rate * (day - self._day) / 365
        if earned:
            broker.add_cash(Interest(earned))
        short = sum(_worth_of_short(broker, data) for data in self.datas if len(data))
        self._day, self._idle = day, max(broker.getcash() + short, 0.0)


def _worth_of_short(broker: Any, data: Any) -> float:
    """Return the value of a short position, negative; 0 for any other."""
    size, model = min(held_size(broker, data), 0), broker.getcommissioninfo(data)
    if type(model) is not Converted:
        return float(size * data.close[0])
    return float(model.in_base(size * data.close[0]))


def held_size(broker: Any, data: Any) -> float:
    """
    Return the size of a position without changing the broker.

    Backtrader's `getposition` adds an entry for a feed that has none; values are then summed in another order.
    """
    positions = getattr(broker, "positions", None)
    if positions is None:  # another broker than Backtrader's
        return float(broker.getposition(data).size)
    return positions[data].size if data in positions else 0


def check_market(brokerage: Brokerage) -> None:
    """
    Refuse invalid settings of slippage, volume cap, fills, borrow fee and interest.

    Raises:
        UsageError: a number or a word is invalid.
    """
    Slippage.parse(brokerage.slippage)
    if not 0 <= brokerage.volume_cap <= 1:
        raise UsageError(f"the volume cap is {brokerage.volume_cap}; write 0.1 for a tenth of each bar's volume")
    if _arguments.text(brokerage.fills, "fills", f"write one of {', '.join(FILLS)}") not in FILLS:
        raise UsageError(f"unknown fill rule {brokerage.fills!r}; {there_are(brokerage.fills, FILLS)}")
    if brokerage.volume_cap and brokerage.fills == THIS_CLOSE:
        raise UsageError(
            "a volume cap carries orders over to later bars, whose close is not the signal bar's; leave out "
            "--volume-cap or --fills"
        )
    if brokerage.conversion == BY_CURRENCY and brokerage.universe:
        raise UsageError(
            "members of a universe that end are sold at their last close, and orders at the close cannot be filled "
            "while cash is held in each currency; leave out --conversion"
        )
    if brokerage.conversion == BY_CURRENCY and brokerage.fills == THIS_CLOSE:
        raise UsageError(
            "orders at the close cannot be filled while cash is held in each currency; leave out --fills or "
            "--conversion"
        )
    if not -1 < brokerage.cash_rate < 1:
        raise UsageError(f"the interest on cash is {brokerage.cash_rate} per year; write 0.02 for 2 %")
    borrowing_by(brokerage, {})


def borrowing_by(brokerage: Brokerage, fees: Mapping[Series, pa.Table]) -> Borrowing | StoredFees | None:
    """
    Return the borrow fees of a run; None if there are none.

    Args:
        fees: the stored fees of each series, if the run uses these.

    Raises:
        UsageError: a rule is invalid.
    """
    if not brokerage.borrow:
        return None
    from backtest.engine.account.borrowing import STORED, Borrowing, StoredFees

    return StoredFees.of(fees) if brokerage.borrow == STORED else Borrowing.parse(_borrow_rules(brokerage))


def check_borrowed(brokerage: Brokerage, series: Sequence[Series]) -> None:
    """
    Refuse a borrow fee of a series that a run does not have, which would be charged nowhere.

    Raises:
        UsageError: a rule names another series, or is invalid.
    """
    borrowing = borrowing_by(brokerage, {})
    named = {*getattr(borrowing, "rules", ())} - {""}
    known = [one.short for one in series]
    if unknown := sorted(named - {*known}):
        raise UsageError(f"a borrow fee is given for {unknown[0]}, which is not in the run; it has {', '.join(known)}")


def borrow_rules_of(brokerage: Brokerage, series: Series) -> str:
    """Return the borrow fees that apply to a series, as a run on it alone writes them: those of others are left out."""
    return ",".join(rule for rule in _borrow_rules(brokerage) if _is_of(rule, series))


def _is_of(rule: str, series: Series) -> bool:
    name = rule.rpartition("=")[0].partition("@")[0]
    return not name or Series.parse(name).short == series.short


def commission_model(
    borrowing: Borrowing | StoredFees | None,
    costs: Costs,
    series: Series,
    terms: Terms,
    feed: Any,
    traded: MonthlyVolume,
) -> Any:
    """Return the commission model of a series, by its product and terms, which also charges borrow fees."""
    made = trade_by(model_for(costs_for(costs, series), feed, traded), terms)
    lent = terms.model or series.instrument.kind not in CONTRACT_KINDS  # contracts are not
    return borrowing.charge(made, feed._name) if lent and borrowing is not None else made


def _borrow_rules(brokerage: Brokerage) -> list[str]:
    return [rule for rule in brokerage.borrow.split(",") if rule]


def set_up_market(
    cerebro: Any, brokerage: Brokerage, half_spreads: Callable[[], HalfSpreads], ticks: Mapping[str, float] = _NO_TICKS
) -> None:
    """
    Set up a Cerebro's broker.

    Backtrader's `slip_perc` is not used: with it a sell limit slips below the low of its bar. Slippage, a volume cap
    and fills at the close use Backtrader's own loop, not the lean one.

    Args:
        ticks: the smallest step of the price, by the name of the feed; 0 if unknown.

    Raises:
        UsageError: slippage is in ticks, and the tick of a series is unknown.
    """
    slippage = Slippage.parse(brokerage.slippage)
    if slippage.kind == "ticks" and (unknown := [name for name, tick in ticks.items() if not tick]):
        raise UsageError(
            f"the tick of {unknown[0]} is not known: it comes with the contract details of futures and options; write "
            "slippage as money per share or contract, such as 0.25, or as 5bp"
        )
    if slippage.kind:
        cerebro.broker = broker = MarketBroker()
        broker.slippage = slippage
        broker.half_spreads = half_spreads() if slippage.kind == "spread" else {}
        broker.ticks = ticks
    if brokerage.volume_cap:
        cerebro.broker.set_filler(VolumeCap(brokerage.volume_cap))
    cerebro.broker.set_coc(brokerage.fills == THIS_CLOSE)
    if brokerage.cash_rate:
        cerebro.addanalyzer(CashInterest, rate=brokerage.cash_rate)
