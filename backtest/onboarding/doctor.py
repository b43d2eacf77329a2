"""`diagnose`: check the installation; each finding names its subject, and how to fix a problem."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backtest._clock import Clock, utc_now
from backtest._resources import installed_version
from backtest._system import kind_of_disk
from backtest.errors import BacktestError, NoConnection, NoData, UsageError
from backtest.market.series import BarSize, Series
from backtest.market.span import Span
from backtest.sources.base import Patience, Source
from backtest.sources.connect import connect
from backtest.sources.ib.address import (
    PORTS,
    WITHOUT_A_GATEWAY,
    GatewayAddress,
    elsewhere,
    exposure_once,
    parse_address,
)
from backtest.sources.ib.source import IbSource
from backtest.store.store import Store, open_folder

if TYPE_CHECKING:
    from backtest.store.manifest import Manifest

_State = Literal["ok", "warning", "problem"]
_PYTHONS = ((3, 11), (3, 14))  # from, to before; as pyproject.toml says
_FAR = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs")  # disks of other machines
_PACKAGES = ("backtrader", "pandas", "pyarrow")
_CLIENTS = ("ib_insync", "ib_async")
_BACKTRADER = "1.9.78.123"  # the feed fills its private buffers; tested with this one
_SKEW = timedelta(seconds=2)  # the gateway reports whole seconds, so one second is not a skew
_MADE = datetime(2010, 1, 1, tzinfo=UTC)  # long before this version: no machine that has it has an earlier time
_LIFETIME = timedelta(days=20 * 365)
_LITTLE_SPACE = 2**30  # bytes: ten years of 1-minute bars of some 30 stocks
_PROBE_SECONDS = 1.0  # for a port on this machine
_HURRIED = Patience(answer=20.0, connect=5.0, outage=10.0)  # seconds: a quick check; the nightly reset is longer


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked, its state, and what to do if it is not ok."""

    what: str
    state: _State
    detail: str
    fix: str = ""


def diagnose(address: str, folder: str | Path, series: Series | None = None, clock: Clock = utc_now) -> list[Check]:
    """
    Return the findings about this Python, the source at an address and the store in a folder.

    Args:
        series: a series of which to request a few daily bars, which shows whether the user may have them.

    Raises:
        UsageError: the address is invalid.
    """
    system, encoding = f"{platform.system()} {platform.release()}", sys.stdout.encoding if sys.stdout else ""
    return [
        of_python(sys.version_info[:2], platform.python_version()),
        of_system(system, encoding, kind_of_disk(Path(folder))),
        *of_packages(_installed()),
        *of_this_clock(clock()),
        *of_source(address, series, clock=clock),
        *of_store(Path(folder)),
    ]


def of_system(system: str, encoding: str, disk: str) -> Check:
    """Return the system, the encoding of the output, and the kind of disk that holds the store."""
    told = f"{system}, output encoding {encoding or 'unknown'}, store on {disk or 'an unknown disk'}"
    if disk in _FAR:
        return Check("system", "warning", told, "keep the store on a local disk: others may not support locks")
    return Check("system", "ok", told)


def of_python(version: tuple[int, int], text: str) -> Check:
    """Return whether this version of Python is one of those that the package is tested with."""
    first, before = _PYTHONS
    if first <= version < before:
        return Check("Python", "ok", text)
    return Check("Python", "problem", f"{text} is not supported", "use Python 3.11, 3.12 or 3.13")


def of_packages(installed: Mapping[str, str]) -> list[Check]:
    """Return the findings about the packages, given the installed versions."""
    return [_of_clients(installed), *(_of_package(name, installed.get(name)) for name in _PACKAGES)]


def of_source(
    address: str, series: Series | None = None, patience: Patience = _HURRIED, clock: Clock = utc_now
) -> Iterator[Check]:
    """Yield whether the source at the address answers, has the right time and serves bars of the series."""
    exposed = list(_of_exposure(address))
    try:
        source = connect(address, patience=patience, clock=clock)
    except NoConnection as error:
        yield _of_no_connection(address, error)
        return
    except UsageError:
        raise
    except BacktestError as error:
        yield _of_error("source", error)
        return
    with source:
        yield _of_connection(address, source)
        yield from exposed
        yield of_link(getattr(source, "outage", ""))
        yield from _of_clock(source, clock)
        if series is not None:
            yield _of_permission(source, series)


def of_link(outage: str) -> Check:
    """Return whether the gateway's link to IB and its data farms work."""
    if not outage:
        return Check("link", "ok", "the link to IB and the data farms work")
    return Check("link", "problem", outage, "wait: resets take minutes, at night an hour; then restart the gateway")


def of_this_clock(ours: datetime) -> Iterator[Check]:
    """Yield that this machine's clock is wrong, if that is certain: before this version was released, or far ahead."""
    if ours < _MADE or ours > _MADE + _LIFETIME:
        where = "before this version was released" if ours < _MADE else "far in the future"
        detail = f"this machine's clock says {ours:%Y-%m-%d %H:%M} UTC, which is {where}"
        fix = "set it, and keep it in sync by NTP: it decides which sessions have ended and can be requested"
        yield Check("clock", "problem", detail, fix)


def of_clocks(theirs: datetime, ours: datetime) -> Check:
    """Return whether two clocks agree, to the second."""
    skew = (theirs - ours).total_seconds()
    if abs(skew) <= _SKEW.total_seconds():
        return Check("clock", "ok", f"the source's differs by {abs(skew):.0f} s")
    detail = f"the source's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    return Check("clock", "warning", detail, "let the machines set their clocks by NTP")


def of_store(folder: Path) -> Iterator[Check]:
    """Yield whether the folder is a store that can be read and written, and has room."""
    try:
        store = open_folder(folder)
        series = store.series()
    except BacktestError as error:
        yield _of_error("store", error)
        return
    yield _of_writing(folder, len(series))
    if series:
        broken = [finding for one in series if (finding := _of_series(store, one))]
        yield from broken or [_of_sound_series(store, series)]
    yield of_space(shutil.disk_usage(_existing(folder)).free)


def of_space(free: int) -> Check:
    """Return whether a disk has enough free bytes."""
    if free >= _LITTLE_SPACE:
        return Check("disk", "ok", f"{free / 2**30:,.0f} GiB free")
    return Check("disk", "warning", f"only {free / 2**20:,.0f} MiB free", "free space, or name another --store")


def listening(ports: Iterable[int], host: str = "127.0.0.1") -> list[int]:
    """Return the ports of a machine, by default this one, that accept connections."""
    return [port for port in ports if _accepts(host, port)]


# --- Python and packages


def _installed() -> dict[str, str]:
    return {name: version for name in (*_CLIENTS, *_PACKAGES) if (version := installed_version(name))}


def _of_clients(installed: Mapping[str, str]) -> Check:
    found = [name for name in _CLIENTS if name in installed]
    detail = " and ".join(f"{name} {installed[name]}" for name in found)
    if len(found) == 1:
        return Check("IB client", "ok", detail)
    if not found:
        return Check("IB client", "problem", "neither ib_insync nor ib_async is installed", "pip install ib_insync")
    return Check(
        "IB client",
        "problem",
        f"{detail} are both installed, and each overwrote the other's eventkit",
        "pip uninstall ib_insync ib_async eventkit aeventkit, then pip install ib_insync",
    )


def _of_package(name: str, version: str | None) -> Check:
    if version is None:
        return Check(name, "problem", "is not installed", f"pip install {name}")
    if name == "backtrader" and version != _BACKTRADER:
        detail = f"{version}; the feed is tested with {_BACKTRADER} only"
        return Check(name, "warning", detail, f"pip install backtrader=={_BACKTRADER}")
    return Check(name, "ok", version)


# --- the source


def _of_exposure(address: str) -> Iterator[Check]:
    """Yield the warning about a connection that leaves this machine; the log does not repeat it."""
    scheme, _, rest = address.partition(":")
    if scheme == "ib" and (place := parse_address(rest)[0]).exposure:
        exposure_once(place)
        detail, _, fix = place.exposure.partition("; ")
        yield Check("network", "warning", detail, fix)


def _of_no_connection(address: str, error: NoConnection) -> Check:
    place = parse_address(address.partition(":")[2])[0]
    if "handshake" in str(error):
        detail = f"{place} accepts connections but does not finish the TWS handshake"
        fix = "check that it is TWS or IB Gateway, and whether a dialog there waits for a click; then restart it"
        return Check("source", "problem", detail, fix if place.loopback else f"{fix}, or {elsewhere()}")
    if "nothing is listening" in str(error):
        return _nobody(place, listening((other for other in PORTS if other != place.port), place.host))
    return _of_error("source", error)


def _nobody(place: GatewayAddress, others: list[int]) -> Check:
    detail = f"connection refused: nothing is listening on {place}"
    if others:
        detail += f", but something is on {' and '.join(f'{other} ({PORTS[other]})' for other in others)}"
        return Check("source", "problem", detail, f"try --source ib://{replace(place, port=others[0])}")
    detail += f", nor on {', '.join(str(other) for other in PORTS if other != place.port)}"
    fix = "start TWS or IB Gateway and tick 'Enable ActiveX and Socket Clients' in its API settings"
    more = WITHOUT_A_GATEWAY if place.loopback else f", and {elsewhere()}"
    return Check("source", "problem", detail, f"{fix}{more}")


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _of_connection(address: str, source: Source) -> Check:
    version = f", server version {source.server_version}" if isinstance(source, IbSource) else ""
    return Check("source", "ok", f"{address} answers{version}")


def _of_clock(source: Source, clock: Clock) -> Iterator[Check]:
    try:
        yield of_clocks(source.now(), clock())
    except BacktestError as error:
        yield _of_error("clock", error)


def _of_permission(source: Source, series: Series) -> Check:
    """Request the daily bars of the last week, which does not count towards IB's budget for small bars."""
    daily = Series(series.instrument, BarSize.parse("1day"), series.prices, series.regular_hours)
    try:
        today = source.now().date()
        details = source.qualify(series.instrument)
        week = Span.of_dates(today - timedelta(days=7), today - timedelta(days=1))
        bars = [source.fetch(daily, window) for window in source.windows(daily, week)]
    except NoData as error:
        return Check("bars", "warning", str(error), f"check whether {series.instrument} traded in the last week")
    except BacktestError as error:
        return _of_error("bars", error)
    count = sum(map(len, bars))
    return Check("bars", "ok", f"{count} daily bars of {details.name or series.instrument} in the last week")


def _of_error(what: str, error: BacktestError) -> Check:
    # Our errors say what happened, a semicolon, and what to do.
    detail, _, fix = str(error).partition("; ")
    return Check(what, "problem", detail, fix)


# --- the store


def _of_writing(folder: Path, count: int) -> Check:
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place, prefix=".tmp-"):
            pass
    except OSError as error:
        detail = f"{folder} cannot be written ({error.strerror})"
        return Check("store", "problem", detail, "change its owner or mode, or name another --store")
    if place != folder:
        return Check("store", "ok", f"{folder} does not exist yet; the first download creates it")
    return Check("store", "ok", f"{folder} has {count} series and can be written")


def _of_series(store: Store, series: Series) -> Check | None:
    try:
        manifest = store.manifest_or_empty(series)
        for moment in _ends(manifest):
            store.read(series, Span(moment, moment + timedelta(microseconds=1)))
    except BacktestError as error:
        return _of_error(series.short, error)
    except OSError as error:
        detail = f"{error.filename} cannot be read ({error.strerror})"
        return Check(series.short, "problem", detail, "change its owner or mode")
    return None


def _ends(manifest: Manifest) -> list[datetime]:
    ends = (manifest.segments[0].first, manifest.segments[-1].last) if manifest.segments else ()
    return [datetime.fromisoformat(end) for end in ends]


def _of_sound_series(store: Store, series: list[Series]) -> Check:
    rows = sum(store.manifest_or_empty(one).rows for one in series)
    return Check("series", "ok", f"{len(series)} series, {rows:,} bars; manifests, first and last bars are valid")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
