"""
The client's end of the gateway socket: bars from TWS, IB Gateway or the emulator through ib_insync.

The only file that knows ib_insync; its heir ib_async, where that is installed instead, has the same names. All of
asyncio stays in here, on one thread with its own loop: the source is called from anywhere, and it blocks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, TypeVar

from backtest.bars import ContractDetails, Instrument, Series, Span, table_of
from backtest.errors import (
    AmbiguousContract,
    LinkLost,
    NoConnection,
    NoData,
    Refused,
    Unanswered,
    UnknownContract,
    UsageError,
)
from backtest.sources import plan
from backtest.sources.limits import SMALL_BAR_SECONDS
from backtest.sources.pacing import Ask, Budget

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
PORTS = {7496: "TWS, live", 7497: "TWS, paper", 4001: "IB Gateway, live", 4002: "IB Gateway, paper"}
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0  # base of the time an answer may take ...
_BARS_A_SECOND = 1000.0  # ... plus what slow gateways need for the bars (20,000 hourly bars took 34 s)
_WARNINGS = {110, 165, 202, 399, 404, 434, 492, 10167}  # codes that end no request, with 2100-2199
_log = logging.getLogger(__name__)


class IbSource:
    """
    A connection to TWS, IB Gateway or the emulator; read-only.

    Raises:
        UsageError: the host is not this machine.
        NoConnection: nobody listens, or the handshake failed.
    """

    name = "ib"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7497,
        client_id: int = 1,
        *,
        answer_seconds: float = _ANSWER_SECONDS,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        _refuse_elsewhere(host)
        self._on_close = on_close
        self._host, self._port, self._client_id, self._answer_seconds = host, port, client_id, answer_seconds
        self._budget = Budget()
        self._contracts: dict[Instrument, tuple[Any, ContractDetails]] = {}
        self._refusals: dict[int, asyncio.Future[Any]] = {}
        self._connect_errors: list[str] = []
        self.requests = 0  # bar requests sent
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="backtest-ib", daemon=True)
        self._thread.start()
        try:
            self._call(self._connect())
        except BaseException:
            self._stop_loop()
            raise

    def __enter__(self) -> IbSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; closing twice does nothing."""
        if self._thread.is_alive():
            self._call(self._disconnect())
            self._stop_loop()
            self._on_close()

    def now(self) -> datetime:
        """Return the gateway's time, UTC."""
        return self._call(self._now())

    def qualify(self, instrument: Instrument) -> ContractDetails:
        """
        Return what IB says of the instrument.

        Raises:
            UnknownContract: IB knows no such instrument.
            AmbiguousContract: several fit; the text lists them.
        """
        return self._call(self._qualified(instrument))[1]

    def windows(self, series: Series, gap: Span) -> list[Span]:
        """Return the fewest windows that IB serves which cover the gap."""
        plan.refuse_impossible(series)
        return plan.windows(series, gap)

    def fetch(self, series: Series, window: Span) -> pa.Table:
        """
        Return the bars of a window that `windows` named.

        Raises:
            NoData: IB says that it has none.
            Refused: IB answered with another error code.
            Unanswered: no answer in time; says nothing about whether there are bars.
            LinkLost: the socket broke.
        """
        return self._call(self._fetch(series, window))

    # --- on the loop's thread

    async def _connect(self) -> None:
        client = _client_library()
        self._ib = client.IB()
        self._ib.RaiseRequestErrors = True
        self._ib.errorEvent += self._on_error
        try:
            await self._ib.connectAsync(
                self._host, self._port, self._client_id, timeout=_CONNECT_SECONDS, readonly=True
            )
        except (OSError, TimeoutError) as error:
            raise NoConnection(self._why_no_connection(error)) from error
        _log.info("connected", extra={"port": self._port, "server_version": self._ib.client.serverVersion()})

    def _why_no_connection(self, error: BaseException) -> str:
        where = f"{self._host}:{self._port}"
        if isinstance(error, ConnectionRefusedError):
            return (
                f"nobody listens on {where}; start TWS or IB Gateway and tick 'Enable ActiveX and Socket Clients' in "
                f"its API settings (ports: {', '.join(f'{port} {what}' for port, what in PORTS.items())}), "
                "or run: backtest gateway"
            )
        said = f" It said: {'; '.join(self._connect_errors)}." if self._connect_errors else ""
        return (
            f"{where} accepts connections but did not finish the handshake within {_CONNECT_SECONDS:g} s.{said} "
            f"Is it a TWS or IB Gateway, is a window waiting there for a click, is client id {self._client_id} in "
            f"use (another is ib://{where}?client_id={self._client_id + 1})?"
        )

    async def _disconnect(self) -> None:
        self._ib.disconnect()

    async def _now(self) -> datetime:
        try:
            answer = await asyncio.wait_for(self._ib.reqCurrentTimeAsync(), _CONNECT_SECONDS)
        except TimeoutError as error:
            raise Unanswered(f"the gateway did not tell its time within {_CONNECT_SECONDS:g} s; restart it") from error
        except ConnectionError as error:
            raise _link_lost() from error
        moment: datetime = answer.astimezone(UTC)
        return moment

    async def _qualified(self, instrument: Instrument) -> tuple[Any, ContractDetails]:
        if instrument not in self._contracts:
            contract = _contract_of(instrument)
            found = await self._request(
                self._ib.reqContractDetailsAsync(contract), contract, f"contract details of {instrument}"
            )
            self._contracts[instrument] = _only(instrument, found)
        return self._contracts[instrument]

    async def _fetch(self, series: Series, window: Span) -> pa.Table:
        contract, _ = await self._qualified(series.instrument)
        contract = type(contract)(**vars(contract))  # a copy: an error is told apart by its contract object
        duration = plan.duration(series, window, datetime.now(UTC))
        end = plan.end_text(series, window)
        await self._wait_for_budget(series, (contract.conId, end, duration))
        seconds = self._answer_seconds + _expected_bars(series, window) / _BARS_A_SECOND
        self.requests += 1
        asked = self._ib.reqHistoricalDataAsync(
            contract,
            end,
            duration,
            _wire_size(series),
            series.prices,
            series.regular_hours,
            2,
            False,
            [],
            seconds,
        )
        what = f"{duration} of {series.short} up to {end or 'now'}"
        started = self._loop.time()
        bars = await self._request(asked, contract, what)
        if not bars:
            raise _unanswered(what, self._loop.time() - started)
        return _table(bars, window)

    async def _wait_for_budget(self, series: Series, request: tuple[Any, ...]) -> None:
        if series.size.seconds > SMALL_BAR_SECONDS:
            return
        ask = Ask((str(series), *request), (str(series.instrument), series.prices), 1 + (series.prices == "BID_ASK"))
        while (seconds := self._budget.delay(ask, self._loop.time())) > 0:
            _log.info("waiting for the request budget", extra={"seconds": round(seconds, 1)})
            await asyncio.sleep(seconds)
        self._budget.spend(ask, self._loop.time())

    async def _request(self, asked: Any, contract: Any, what: str) -> Any:
        """Await a request; an error code that the library only logs ends it as well."""
        refused: asyncio.Future[Any] = self._loop.create_future()
        self._refusals[id(contract)] = refused
        answer = asyncio.ensure_future(asked)
        try:
            await asyncio.wait({answer, refused}, return_when=asyncio.FIRST_COMPLETED)
            if refused.done() and not answer.done():
                answer.cancel()
                code, text = refused.result()
                raise _refusal(code, text, what)
            return answer.result()
        except ConnectionError as error:
            raise _link_lost() from error
        except Exception as error:
            if hasattr(error, "code") and hasattr(error, "message"):  # RequestError of either library
                raise _refusal(error.code, error.message, what) from error
            raise
        finally:
            del self._refusals[id(contract)]

    def _on_error(self, request_id: int, code: int, text: str, contract: Any) -> None:
        _log.info("gateway says", extra={"request": request_id, "code": code, "text": text})
        if code in _WARNINGS or 2100 <= code < 2200:
            return
        self._connect_errors.append(f"error {code}: {text}")
        refused = self._refusals.get(id(contract))
        if refused is not None and not refused.done():
            refused.set_result((code, text))

    # --- the bridge to the loop's thread

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)  # eventkit, which ib_insync imports, asks for the thread's loop
        self._loop.run_forever()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _client_library() -> Any:
    try:
        import ib_async as client
    except ImportError:
        import ib_insync as client
    # The libraries log what we raise; whoever wants their words turns them on by name.
    logging.getLogger(client.__name__).setLevel(logging.CRITICAL)
    return client


def _refuse_elsewhere(host: str) -> None:
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise UsageError(
            f"{host!r} is not this machine; the gateway's socket is neither encrypted nor locked, so make a tunnel "
            f"(ssh -L 4002:127.0.0.1:4002 {host}) and use ib://127.0.0.1:4002"
        )


def _contract_of(instrument: Instrument) -> Any:
    return _client_library().Contract(
        secType=instrument.kind,
        symbol=instrument.symbol,
        exchange=instrument.exchange,
        currency=instrument.currency,
        lastTradeDateOrContractMonth=instrument.expiry,
        strike=float(instrument.strike or 0),
        right=instrument.right,
        includeExpired=instrument.kind == "FUT",
    )


def _only(instrument: Instrument, found: list[Any]) -> tuple[Any, ContractDetails]:
    if len(found) > 1:
        candidates = "; ".join(
            f"conId {d.contract.conId} {d.contract.primaryExchange or d.contract.exchange} {d.contract.currency} "
            f"{d.contract.lastTradeDateOrContractMonth} {d.longName}".replace("  ", " ")
            for d in found[:10]
        )
        raise AmbiguousContract(f"{instrument} fits {len(found)} contracts; name exchange or expiry: {candidates}", 200)
    if not found:
        raise UnknownContract(f"the gateway has no details of {instrument}; check symbol, kind and exchange", 200)
    contract = found[0].contract
    expiry = contract.lastTradeDateOrContractMonth
    contract.lastTradeDateOrContractMonth = expiry.split()[0] if expiry else ""  # without the hour
    contract.exchange = instrument.exchange
    contract.includeExpired = instrument.kind == "FUT"
    return contract, _details_of(found[0])


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
    )


def _wire_size(series: Series) -> str:
    return {"1 week": "1W", "1 month": "1M"}.get(series.size.label, series.size.label)


def _expected_bars(series: Series, window: Span) -> float:
    return (window.end - window.start).total_seconds() / series.size.seconds


def _table(bars: Any, window: Span) -> pa.Table:
    """Return the bars as a table; those outside the window are cut: "N D" reaches further back than asked."""
    rows = [(_stamp(b.date), b.open, b.high, b.low, b.close, *_counts(b)) for b in bars]
    return table_of([row for row in rows if row[0] in window])


def _stamp(stamp: date | datetime) -> datetime:
    if isinstance(stamp, datetime):
        return stamp.astimezone(UTC)
    return datetime.combine(stamp, time(), UTC)


def _counts(bar: Any) -> tuple[float | None, float | None, int | None]:
    # IB's -1 means "does not apply": quotes have no volume.
    average = None if bar.average == -1 or math.isnan(bar.average) else bar.average
    return (
        None if bar.volume == -1 else float(bar.volume),
        average,
        None if bar.barCount == -1 else int(bar.barCount),
    )


def _refusal(code: int, text: str, what: str) -> Refused:
    said = f"IB answered {what} with error {code}: {text}"
    if code == 200:
        return UnknownContract(f"{said}; check symbol, kind, exchange and currency", code)
    if code == 162 and "no data" in text.lower():
        return NoData(f"{said}", code)
    if code in (354, 10089, 10090, 10168, 10186) or "permission" in text.lower():
        return Refused(f"{said}; subscribe to the market data in IB's Client Portal, then run this again", code)
    return Refused(f"{said}; what is stored stays, run this again to go on", code)


def _unanswered(what: str, seconds: float) -> Unanswered:
    return Unanswered(
        f"no bars and no word came for {what} in {seconds:.0f} s, which does not mean that there are none; "
        "what is stored stays, run this again to go on"
    )


def _link_lost() -> LinkLost:
    return LinkLost("the connection to the gateway broke; what is stored stays, run this again to go on")
