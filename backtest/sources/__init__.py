"""`Source`: what a source of bars must do, and `connect`, which opens one by its address."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from backtest.bars import ContractDetails, Instrument, Series, Span
from backtest.errors import NoBars, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.sources.ib import IbSource

DEFAULT = "ib://127.0.0.1:7497"


class Source(Protocol):
    """Where bars come from; every call blocks, and failure raises: an empty answer is never a failure."""

    name: str  # what the store notes as the bars' origin
    requests: int  # bar requests sent so far

    def now(self) -> datetime:
        """Return the source's time, UTC: bars that end later are not finished."""

    def qualify(self, instrument: Instrument) -> ContractDetails:
        """Return what the source says of the instrument; raise UnknownContract, AmbiguousContract."""

    def windows(self, series: Series, gap: Span) -> list[Span]:
        """Return the spans to fetch, one request each, that cover the gap."""

    def fetch(self, series: Series, window: Span) -> pa.Table:
        """Return the bars in the window; raise NoData where the source says that there are none."""

    def close(self) -> None:
        """Let go of the connection."""

    def __enter__(self) -> Self:
        """Return the source itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the source."""


def connect(address: str = DEFAULT) -> Source:
    """
    Open the source at an address.

    Args:
        address: "ib://HOST:PORT[?client_id=N]" for TWS, IB Gateway or a running emulator;
            "gateway:FOLDER" to start the emulator on a store and connect to it.

    Raises:
        UsageError: the address is of neither form.
        SourceError: nobody answers there.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "ib":
        return _open_ib(address)
    if scheme == "gateway" and rest:
        return _open_emulator(rest)
    raise UsageError(f"no source {address!r}; write {DEFAULT} (TWS or IB Gateway) or gateway:FOLDER (emulator)")


def _open_ib(address: str) -> IbSource:
    from backtest.sources.ib import IbSource

    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "127.0.0.1", parts.port or 7497
        query = {
            name: int(values[-1]) for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
        }
        client_id = query.pop("client_id", 1)
    except ValueError as error:
        raise UsageError(
            f"{address!r} is no address ({error}); write such as ib://127.0.0.1:4002?client_id=7"
        ) from error
    if query:
        raise UsageError(f"{address!r} asks for {', '.join(query)}; only client_id can be given")
    return IbSource(host, port, client_id)


def _open_emulator(folder: str) -> Source:
    from backtest.sources.gateway import Gateway
    from backtest.sources.ib import IbSource
    from backtest.store import Store

    store = Store(folder)
    if not store.series():
        raise NoBars(f"{folder} holds no bars for the emulator to serve; name a store with bars, such as data/sample")
    gateway = Gateway(store)
    gateway.start()
    try:
        return IbSource(port=gateway.port, on_close=gateway.stop)
    except BaseException:
        gateway.stop()
        raise
