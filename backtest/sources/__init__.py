"""`Source`: what a source of bars must do, and `connect`, which opens one by its address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from backtest.bars import ContractDetails, Instrument, Series, Span
from backtest.calendars import Session
from backtest.clock import Clock, utc_now
from backtest.errors import NoBars, UsageError
from backtest.sources.link import Patience

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.sources.files import FileSource
    from backtest.sources.ib import IbSource

DEFAULT = "ib://127.0.0.1:7497"
_PATIENT = Patience()


class Source(Protocol):
    """Where bars come from; every call blocks, and failure raises: an empty answer is never a failure."""

    name: str  # what the store notes as the bars' origin
    requests: int  # bar requests sent so far
    violations: int  # of the vendor's pacing, so far

    @property
    def waiting_for(self) -> str:
        """Why nothing is sent just now, such as a used-up request budget; "" where nothing waits."""

    def now(self) -> datetime:
        """Return the source's time, UTC: bars that end later are not finished."""

    def know(self, instrument: Instrument, details: ContractDetails) -> None:
        """Take what was said of an instrument earlier, so that it need not be asked again."""

    def qualify(self, instrument: Instrument) -> ContractDetails:
        """Return what the source says of the instrument; raise UnknownContract, AmbiguousContract."""

    def windows(self, series: Series, gap: Span) -> list[Span]:
        """Return the spans to fetch, one request each, that cover the gap."""

    def halve(self, series: Series, window: Span) -> list[Span]:
        """Return smaller windows for one that was not answered; itself where there are none."""

    def learn(self, series: Series, window: Span) -> list[Span]:
        """Learn that a window was too long, and return smaller ones for it; itself where there are none."""

    def fetch(self, series: Series, window: Span) -> pa.Table:
        """Return the bars in the window; raise NoData where the source says that there are none."""

    def provenance(self, series: Series, window: Span) -> Mapping[str, str]:
        """Return what is to be kept of a request and of who answered it, by the names in `segments.PROVENANCE`."""

    def head(self, series: Series) -> datetime | None:
        """Return when the instrument's first bar starts, as a hint; None where the source does not say."""

    def sessions(self, instrument: Instrument, since: date, until: date, regular_hours: bool) -> list[Session] | None:
        """Return the exchange's sessions known by the dates, both included; None where the source does not say."""

    def close(self) -> None:
        """Let go of the connection."""

    def __enter__(self) -> Self:
        """Return the source itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the source."""


def connect(
    address: str = DEFAULT,
    *,
    patience: Patience = _PATIENT,
    state: str | Path | None = None,
    time_scale: float = 1.0,
    clock: Clock = utc_now,
) -> Source:
    """
    Open the source at an address.

    Args:
        address: "ib://HOST:PORT[?client_id=N&limits=legacy]" for TWS, IB Gateway or a running emulator;
            "gateway:FOLDER" to start the emulator on a store and connect to it; "csv:FOLDER[?tz=ZONE]" for files.
        patience: how long to wait for what.
        state: a folder in which the request budget and learnt steps outlive the session, shared by all programs.
        time_scale: how much faster than the clock the windows of the limits pass, as a running emulator's may.
        clock: what day it is here, and for an emulator that this starts.

    Raises:
        UsageError: the address is of none of these forms.
        SourceError: nobody answers there.
    """
    scheme, _, rest = address.partition(":")
    if "@" in address and scheme not in ("gateway", "csv"):  # these name folders
        raise UsageError(f"the address of the source holds a login, which a gateway never asks for; write {DEFAULT}")
    if scheme == "ib":
        return _open_ib(address, patience, Path(state) if state else None, time_scale, clock)
    if scheme == "gateway" and rest:
        return _open_emulator(rest, patience, clock)
    if scheme == "csv" and rest:
        return _open_files(rest, clock)
    raise UsageError(
        f"no source {scheme!r}; write {DEFAULT} (TWS or IB Gateway), gateway:FOLDER (emulator) or csv:FOLDER (files)"
    )


def _open_ib(address: str, patience: Patience, state: Path | None, time_scale: float, clock: Clock) -> IbSource:
    from backtest.sources.ib import IbSource

    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "127.0.0.1", parts.port or 7497
        query = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        client_id, limits = int(query.pop("client_id", "1")), query.pop("limits", "practical")
    except ValueError as error:
        raise UsageError(
            f"{address!r} is no address ({error}); write such as ib://127.0.0.1:4002?client_id=7"
        ) from error
    if query:
        raise UsageError(f"{DEFAULT}?{'=...&'.join(query)}=... means nothing; only client_id and limits can be given")
    return IbSource(
        host, port, client_id, patience=patience, state=state, limits=limits, time_scale=time_scale, clock=clock
    )


def _open_emulator(folder: str, patience: Patience, clock: Clock) -> Source:
    from backtest.sources.gateway import Gateway
    from backtest.sources.ib import IbSource
    from backtest.store import Store

    store = Store(folder)
    if not store.series():
        raise NoBars(f"{folder} holds no bars for the emulator to serve; name a store with bars, such as data/sample")
    gateway = Gateway(store, clock=clock)
    gateway.start()
    try:
        return IbSource(port=gateway.port, patience=patience, clock=clock, on_close=gateway.stop)
    except BaseException:
        gateway.stop()
        raise


def _open_files(rest: str, clock: Clock) -> FileSource:
    from backtest.sources.files import FileSource

    folder, _, query = rest.partition("?")
    name, _, zone = query.partition("=")
    if query and (name != "tz" or not zone):
        raise UsageError(f"csv:{rest} asks for {query!r}; write csv:FOLDER or csv:FOLDER?tz=America/New_York")
    return FileSource(folder, zone or None, clock)
