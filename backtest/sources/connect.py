"""`connect`: open a source by its address; `SCHEMES` has one row per vendor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backtest import _arguments
from backtest._clock import Clock, utc_now
from backtest.errors import NoBars, UsageError, quoted
from backtest.sources.base import Patience, Source

DEFAULT = "ib://127.0.0.1:7497"

_OLD_SCHEMES = {"gateway": "emulator"}  # still taken, and shown nowhere


_PATIENT = Patience()


@dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments of `connect` besides the address."""

    patience: Patience
    state: Path | None
    time_scale: float
    clock: Clock


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of source: how its addresses look, what answers there, and the function that opens what follows ":"."""

    form: str
    what: str
    open: Callable[[str, _Asked], Source]
    names_folder: bool = False  # then "@" is a part of a name, not of a login


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
            "emulator:FOLDER" to start the emulator on a store and connect to it; "csv:FOLDER[?tz=ZONE&extra=A,B]"
            for files, whose columns A and B are stored besides those of a bar.
        patience: how long to wait for each kind of answer.
        state: a folder that keeps the request budget, the learnt request lengths and the head timestamps of gateways,
            shared by all programs that name it; `backtest download` uses ~/.cache/ib-backtest. Default: none, so that
            the connection has its own.
        time_scale: how much faster than real time the pacing windows elapse; an emulator may use the same factor.
        clock: the clock to use, also by an emulator that this call starts.

    Raises:
        UsageError: the address has none of these forms.
        SourceError: nothing answers there.
    """
    forms = [f"{row.form} ({row.what})" for row in SCHEMES.values()]
    example = f"write {', '.join(forms[:-1])} or {forms[-1]}"
    name, _, rest = _arguments.text(address, "the address of the source", example).partition(":")
    name = _OLD_SCHEMES.get(name, name)
    scheme = SCHEMES.get(name)
    _arguments.instance(patience, "patience", Patience, "write a Patience, or leave it out")
    scale = _arguments.number(time_scale, "time_scale", "write 1, or how much faster the emulator's limits pass")
    if not scale > 0:
        _arguments.refuse("time_scale", time_scale, "write 1, or how much faster the emulator's limits pass")
    place = _arguments.path(state, "state") if state else None
    _arguments.function(clock, "clock", "write a function that returns a time in UTC, or leave it out")
    if "@" in address and not (scheme and scheme.names_folder):
        raise UsageError(f"the address of the source holds a login, which a gateway never asks for; write {DEFAULT}")
    if scheme is None or not (rest or name == "ib"):
        raise UsageError(f"unknown source {quoted(name)}; {example}")
    return scheme.open(rest, _Asked(patience, place, scale, clock))


def _open_ib(rest: str, asked: _Asked) -> Source:
    from backtest.sources.ib.address import parse_address
    from backtest.sources.ib.source import IbSource

    address, client_id, limits = parse_address(rest)
    return IbSource(
        address.host, address.port, client_id, patience=asked.patience, state=asked.state, limits=limits,
        time_scale=asked.time_scale, clock=asked.clock,
    )  # fmt: skip


def _open_emulator(folder: str, asked: _Asked) -> Source:
    from backtest.emulator.server import Gateway
    from backtest.sources.ib.source import IbSource
    from backtest.store.reader import nothing_in
    from backtest.store.store import open_local

    store = open_local(folder)
    if not store.series():
        raise NoBars(
            f"the emulator has nothing to serve: {nothing_in(store)}; or name another store, such as emulator:sample"
        )
    gateway = Gateway(store, clock=asked.clock)
    gateway.start()
    try:
        return IbSource(port=gateway.port, patience=asked.patience, clock=asked.clock, on_close=gateway.stop)
    except BaseException:
        gateway.stop()
        raise


def _open_files(rest: str, asked: _Asked) -> Source:
    from backtest.sources.files.folder import FileSource

    folder, _, query = rest.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    given = {name: value for name, _, value in pairs}
    if len(given) < len(pairs) or not all(given.values()) or set(given) - {"tz", "extra", "stamped"}:
        raise UsageError(
            f"csv:{rest} asks for {query!r}; write csv:FOLDER or csv:FOLDER?tz=America/New_York, or "
            "csv:FOLDER?extra=signal,score to keep these columns, or csv:FOLDER?stamped=close for times of bars' ends"
        )
    return FileSource(folder, given.get("tz"), asked.clock, given.get("extra", ()), given.get("stamped", ""))


SCHEMES = {
    "ib": Scheme(DEFAULT, "TWS or IB Gateway", _open_ib),
    "emulator": Scheme("emulator:FOLDER", "a store", _open_emulator, names_folder=True),
    "csv": Scheme("csv:FOLDER", "files", _open_files, names_folder=True),
}
