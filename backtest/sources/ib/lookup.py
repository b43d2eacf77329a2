"""
`ContractLookup`: IB's contract for an instrument, the choice among several, and similar names.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from backtest.errors import AmbiguousContract, SourceError, UnknownContract, UsageError
from backtest.market.series import ContractDetails, Instrument, did_you_mean_today
from backtest.runs.currencies import MINOR_UNITS
from backtest.sources.ib.contracts import contract_of

if TYPE_CHECKING:
    from backtest.sources.base import Patience
    from backtest.sources.ib.session import GatewaySession

_T = TypeVar("_T")
_SHOWN = 10  # candidates
_TELLING = {"primary": "primaryExchange", "multiplier": "multiplier", "class": "tradingClass", "local": "localSymbol"}
_NONE: Mapping[str, str] = MappingProxyType({})
_log = logging.getLogger(__name__)


class ContractLookup:
    """
    The contracts of instruments, each requested once; its coroutines run on the session's loop.

    Args:
        patience: the time limits for an answer and for an outage.
    """

    def __init__(self, session: GatewaySession, patience: Patience) -> None:
        self._session, self._patience = session, patience
        self._known: dict[Instrument, ContractDetails] = {}
        self._contracts: dict[Instrument, tuple[Any, ContractDetails]] = {}
        self._qualifying: defaultdict[Instrument, asyncio.Lock] = defaultdict(asyncio.Lock)

    def know(self, instrument: Instrument, details: ContractDetails) -> None:
        """Use earlier details of an instrument instead of requesting them; without a contract number, request them."""
        if details.con_id:
            self._known[instrument] = details
        else:
            self._known.pop(instrument, None)
            self._contracts.pop(instrument, None)

    async def qualified(self, instrument: Instrument) -> tuple[Any, ContractDetails]:
        """
        Return the instrument's contract, ready for requests, and IB's details of it.

        Raises:
            UnknownContract: IB knows no such instrument; the text lists similar ones.
            AmbiguousContract: several fit; the text lists them.
        """
        if known := self._known.get(instrument):
            return contract_of(instrument, known), known
        async with self._qualifying[instrument]:
            found = self._contracts.get(instrument)
            if found is None:
                found = self._contracts[instrument] = await self.believed(instrument, lambda: self._details(instrument))
        return found

    async def believed(self, instrument: Instrument, work: Callable[[], Awaitable[_T]], known: bool = False) -> _T:
        """
        Return the result of the work; on "no such instrument" repeat it until that answer is credible.

        The gateway reports it falsely during an outage, for a while afterwards, and just before it notices an outage
        itself. So it does not count after an outage, and for a `known` contract one such answer is not enough.

        Raises:
            UnknownContract: IB still says so; the text lists similar instruments.
            AmbiguousContract: several instruments fit.
        """
        until = self._session.time() + self._patience.outage
        doubted = not known
        while True:
            try:
                return await work()
            except (UnknownContract, AmbiguousContract) as error:
                seconds = self._session.disbelief() or (0.0 if doubted else self._patience.belief)
                if not seconds or self._session.time() >= until:
                    near = await self._did_you_mean(instrument) if isinstance(error, UnknownContract) else ""
                    raise type(error)(f"{error}{near}", error.code) from error
                words = {"instrument": str(instrument), "code": error.code, "seconds": seconds}
                _log.info("no such instrument; requesting it again before believing this", extra=words)
            doubted = True
            await self._session.pause(seconds, f"the gateway does not know {instrument}, perhaps only for a moment")

    async def near(self, text: str) -> list[str]:
        """Return the instruments that IB finds by a symbol or a name, best first; none if it finds none."""
        if not text:
            return []
        await self._session.ready("contracts")
        try:
            found = await self._session.ask(
                lambda client, number: client.reqMatchingSymbols(number, text),
                f"a search for {text!r}",
                self._patience.connect,
                kind="contracts",
            )
        except SourceError as error:
            if error.scope == "all":
                raise
            return []  # a hint, not an answer
        return matches(found)

    async def _details(self, instrument: Instrument) -> tuple[Any, ContractDetails]:
        contract = contract_of(instrument)
        await self._session.ready("contracts")
        found = await self._session.ask(
            lambda client, number: client.reqContractDetails(number, contract),
            f"contract details of {instrument}",
            self._patience.answer,
            kind="contracts",
        )
        return only(instrument, found)

    async def _did_you_mean(self, instrument: Instrument) -> str:
        if hint := did_you_mean_today(instrument):
            return hint
        found = await self.near(instrument.symbol) or await self.near(instrument.symbol[:-1])
        return f"; did you mean {', '.join(found[:5])}?" if found else ""


def only(instrument: Instrument, found: Sequence[Any]) -> tuple[Any, ContractDetails]:
    """
    Return the single contract that was found for an instrument, ready for requests, and IB's details of it.

    Raises:
        UnknownContract: none was found.
        AmbiguousContract: several were found; the text lists them.
        UsageError: the contract number or the ISIN in the spelling belongs to another instrument.
    """
    if len(found) > 1:
        raise AmbiguousContract(_choice(instrument, found), 200)
    if not found:
        raise UnknownContract(f"the gateway has no details of {instrument}; check symbol, kind and exchange", 200)
    contract = found[0].contract
    _check_identity(instrument, contract)
    contract.lastTradeDateOrContractMonth = _expiry(contract)
    contract.exchange = instrument.exchange
    contract.includeExpired = instrument.kind == "FUT"
    return contract, _details_of(found[0])


def matches(found: Iterable[Any]) -> list[str]:
    """Return the results of a symbol search, spelled as instruments, each with its name."""
    spellings = [(_spelled(one.contract, _usual_exchange(one.contract)), one.contract) for one in found]
    return [f"{spelling} ({_name(contract)})" if _name(contract) else spelling for spelling, contract in spellings]


def _choice(instrument: Instrument, found: Sequence[Any]) -> str:
    shown = [details.contract for details in found[:_SHOWN]]
    spellings, keys = _told_apart(instrument, [details.contract for details in found])
    spellings = spellings[:_SHOWN]
    rows = [("write", "conId", "exchange", "currency", "expiry", "name")] + [
        (spelling, str(c.conId), c.primaryExchange or c.exchange, c.currency, _expiry(c) or "-", details.longName)
        for spelling, c, details in zip(spellings, shown, found, strict=False)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    more = f"\n... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    named = ", ".join(dict.fromkeys(spellings))
    by = f" by its {' and '.join(keys)}" if keys else ""
    return f"{instrument} fits {len(found)} contracts; name one{by}, such as {named}:\n" + "\n".join(lines) + more


def _told_apart(instrument: Instrument, found: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return a unique spelling of each contract, and the keys of the qualifiers that it needs."""
    spellings = [_spelled(contract, contract.exchange, dict(instrument.qualifiers)) for contract in found]
    alike = defaultdict(list)
    for place, spelling in enumerate(spellings):
        alike[spelling].append(place)
    keys = []
    for places in (places for places in alike.values() if len(places) > 1):
        key, values = _distinct([found[place] for place in places])
        keys.append(key)
        for place, value in zip(places, values, strict=True):
            contract = found[place]
            spellings[place] = _spelled(contract, contract.exchange, {**dict(instrument.qualifiers), key: value})
    return spellings, list(dict.fromkeys(keys))


def _distinct(alike: Sequence[Any]) -> tuple[str, list[str]]:
    """Return the first qualifier with a different value for each contract; contract numbers always differ."""
    for key, field in _TELLING.items():
        values = [str(getattr(contract, field)) for contract in alike]
        if all(values) and len(set(values)) == len(values):
            return key, values
    return "conid", [str(contract.conId) for contract in alike]


def _check_identity(instrument: Instrument, contract: Any) -> None:
    """Raise UsageError if a number or an ISIN names an instrument other than the words before it."""
    named = [f"{key} {value}" for key, value in instrument.qualifiers if key in ("conid", "isin")]
    words = (instrument.symbol, instrument.kind, instrument.currency)
    if named and (contract.symbol, contract.secType, contract.currency) != words:
        found = _spelled(contract, instrument.exchange, dict(instrument.qualifiers))
        raise UsageError(
            f"{' and '.join(named)} is {found}, not {instrument}; write {found}, or leave out the qualifier"
        )


def _details_of(found: Any) -> ContractDetails:
    contract = found.contract
    return ContractDetails(
        contract.conId,
        contract.localSymbol,
        contract.tradingClass,
        found.longName,
        contract.primaryExchange,
        found.validExchanges,
        found.timeZoneId,
        float(found.minTick),
        contract.multiplier,
        contract.lastTradeDateOrContractMonth,
        found.contractMonth,
        found.tradingHours,
        found.liquidHours,
        _magnifier(found),
    )


def _magnifier(found: Any) -> str:
    """Return how many units of price make one of the currency, if that may be more than one; otherwise ""."""
    magnifier, contract = int(found.priceMagnifier or 1), found.contract
    divided = contract.secType == "STK" and contract.currency in {unit.currency for unit in MINOR_UNITS.values()}
    return str(magnifier) if magnifier != 1 or divided else ""


def _spelled(contract: Any, exchange: str, qualifiers: Mapping[str, str] = _NONE) -> str:
    right = contract.right[:1] if contract.right in ("C", "P", "CALL", "PUT") else ""
    strike = f"{contract.strike:g}" if right else ""
    words = (contract.symbol, contract.secType, exchange, contract.currency, _expiry(contract), strike, right)
    try:
        return str(Instrument(*words, qualifiers=tuple(qualifiers.items())))
    except UsageError:
        return f"{contract.symbol} {contract.secType} {exchange} {contract.currency}".strip()


def _usual_exchange(contract: Any) -> str:
    exchange = Instrument.parse(f"X-{contract.secType}").exchange if contract.secType in ("STK", "CASH") else ""
    return exchange or contract.primaryExchange or contract.exchange


def _name(contract: Any) -> str:
    return str(getattr(contract, "description", ""))


def _expiry(contract: Any) -> str:
    expiry = contract.lastTradeDateOrContractMonth
    return expiry.split()[0] if expiry else ""  # without the hour
