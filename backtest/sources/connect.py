"""`connect`: a source opened by its address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from backtest import _arguments
from backtest._clock import Clock, utc_now
from backtest.errors import NoBars, UsageError
from backtest.sources.base import Patience, Source

if TYPE_CHECKING:
    from backtest.sources.files import FileSource
    from backtest.sources.ib.source import IbSource

DEFAULT = "ib://127.0.0.1:7497"

_OLD_SCHEMES = {"gateway": "emulator"}  # still taken, and shown nowhere


_PATIENT = Patience()


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
            "emulator:FOLDER" to start the emulator on a store and connect to it; "csv:FOLDER[?tz=ZONE]" for files.
        patience: how long to wait for what.
        state: a folder in which the request budget and learnt steps outlive the session, shared by all programs.
        time_scale: how much faster than the clock the windows of the limits pass, as a running emulator's may.
        clock: what day it is here, and for an emulator that this starts.

    Raises:
        UsageError: the address is of none of these forms.
        SourceError: nobody answers there.
    """
    example = f"write {DEFAULT} (TWS or IB Gateway), emulator:FOLDER (a store) or csv:FOLDER (files)"
    scheme, _, rest = _arguments.text(address, "the address of the source", example).partition(":")
    scheme = _OLD_SCHEMES.get(scheme, scheme)
    _arguments.instance(patience, "patience", Patience, "write a Patience, or leave it out")
    scale = _arguments.number(time_scale, "time_scale", "write 1, or how much faster the emulator's limits pass")
    if not scale > 0:
        _arguments.refuse("time_scale", time_scale, "write 1, or how much faster the emulator's limits pass")
    place = _arguments.path(state, "state") if state else None
    _arguments.function(clock, "clock", "write a function that returns a time in UTC, or leave it out")
    if "@" in address and scheme not in ("emulator", "csv"):  # these name folders
        raise UsageError(f"the address of the source holds a login, which a gateway never asks for; write {DEFAULT}")
    if scheme == "ib":
        return _open_ib(address, patience, place, scale, clock)
    if scheme == "emulator" and rest:
        return _open_emulator(rest, patience, clock)
    if scheme == "csv" and rest:
        return _open_files(rest, clock)
    raise UsageError(f"no source {scheme!r}; {example}")


def _open_ib(address: str, patience: Patience, state: Path | None, time_scale: float, clock: Clock) -> IbSource:
    from backtest.sources.ib.source import IbSource

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
    from backtest.emulator.server import Gateway
    from backtest.sources.ib.source import IbSource
    from backtest.store.store import Store

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
