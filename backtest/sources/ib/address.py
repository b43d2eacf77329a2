"""`GatewayAddress`: the host and port of a gateway, as written, and checks before connecting."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from backtest.errors import UsageError

PORTS = {7496: "TWS live", 7497: "TWS paper", 4001: "IB Gateway live", 4002: "IB Gateway paper"}
_HOST, _PORT = "127.0.0.1", 7497
_MOST_CLIENTS = 2**31 - 1  # an id is an int of Java
_TOLD: set[GatewayAddress] = set()  # about whose exposure this process has warned
_EXAMPLE = "write, for example, ib://127.0.0.1:4002?client_id=7"


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """
    The host and the port of a gateway: a name, an IPv4 or an IPv6 address.

    Raises:
        UsageError: the host or the port cannot be one.
    """

    host: str = _HOST
    port: int = _PORT

    def __post_init__(self) -> None:
        _check_host(self.host)
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 < self.port < 65_536:
            raise UsageError(f"{self.port!r} is not a valid gateway port; write one from 1 to 65535, such as 4002")

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is certainly this machine; a name other than localhost may lead anywhere, and change."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        address = _ip(self.host)
        mapped = getattr(address, "ipv4_mapped", None)
        return bool(address and (mapped or address).is_loopback)

    @property
    def exposure(self) -> str:
        """The warning about a socket that leaves this machine; "" for one that does not."""
        if self.loopback:
            return ""
        return (
            f"the connection to {self} is neither encrypted nor authenticated: whoever can reach that port can use the "
            "login; keep it in a private network, or use a tunnel: "
            f"ssh -L {self.port}:127.0.0.1:{self.port} {self.host}"
        )


def exposure_once(address: GatewayAddress) -> str:
    """Return the warning about a socket that leaves this machine, once per process; then ""."""
    if address in _TOLD:
        return ""
    _TOLD.add(address)
    return address.exposure


def parse_address(rest: str) -> tuple[GatewayAddress, int, str]:
    """
    Return the parts after "ib:" in the address of a source: host and port, client id, and limits.

    Raises:
        UsageError: its form is not //HOST:PORT?client_id=N&limits=legacy.
    """
    if "@" in rest:
        raise UsageError(
            f"the address of a gateway contains a login, which no gateway needs; write ib://{_HOST}:{_PORT}"
        )
    text = f"ib:{rest}"
    try:
        if rest and not rest.startswith(("//", "?")):
            raise ValueError("the host follows two slashes")
        if text.partition("?")[0].count(":") > 2 and "[" not in text:
            raise ValueError("write an IPv6 address in brackets, as in ib://[::1]:4002")
        parts = urlsplit(text)
        if parts.path not in ("", "/") or parts.fragment:
            raise ValueError("nothing follows the port but ?client_id=N")
        host, port = unquote(parts.hostname or _HOST), _port(parts)
        query = _query(parts.query)
        client_id, limits = _client_id(query.pop("client_id", "1")), query.pop("limits", "practical")
    except ValueError as error:
        raise UsageError(f"{_without_values(text)!r} is not a valid address ({error}); {_EXAMPLE}") from error
    if query:
        raise UsageError(
            f"unknown option {next(iter(query))!r} in {_without_values(text)!r}; only client_id and limits can be given"
        )
    return GatewayAddress(host, port), client_id, limits


async def ip_addresses(address: GatewayAddress, seconds: float) -> list[str]:
    """
    Return the IP addresses of a host, to try one by one, so that each failure is known.

    Args:
        seconds: the time limit of the look-up.

    Raises:
        OSError: the name is unknown.
    """
    if _ip(address.host):
        return [address.host]
    look_up = asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.wait_for(look_up, seconds)
    except TimeoutError as error:
        raise socket.gaierror(socket.EAI_AGAIN, f"its look-up took longer than {seconds:g} s") from error
    return list(dict.fromkeys(str(row[4][0]) for row in found))


def why_no_connection(address: GatewayAddress, error: BaseException, seconds: float) -> str:
    """
    Return why no connection to an address was made, and what to do.

    Args:
        seconds: how long the caller waited for an answer.
    """
    ports = ", ".join(f"{port} {what}" for port, what in PORTS.items())
    tick = "tick 'Enable ActiveX and Socket Clients' in its API settings"
    there = "" if address.loopback else f", {elsewhere()}; a container has to publish the port"
    if isinstance(error, socket.gaierror | UnicodeError):
        said = getattr(error, "strerror", None) or error
        return (
            f"unknown host {address.host!r} ({said}); check its spelling, whether the container or the "
            "machine runs, and whether this machine is in its network; an IP address needs no look-up"
        )
    if isinstance(error, ConnectionRefusedError):
        here = WITHOUT_A_GATEWAY if address.loopback else there
        return (
            f"connection refused: nothing is listening on {address}; start TWS or IB Gateway and {tick} "
            f"(ports: {ports}){here}"
        )
    if isinstance(error, TimeoutError):
        return (
            f"{address} did not accept a connection within {seconds:g} s; check that the machine is on, that the "
            f"address is right and that no firewall is between{there}"
        )
    said = getattr(error, "strerror", None) or error
    return f"{address} cannot be reached ({said}); check the address, the network and the firewall{there}"


WITHOUT_A_GATEWAY = (
    "; without TWS or IB Gateway, import a file of your own: backtest import FILE AAPL/1day, or use the sample: "
    "backtest demo --store data/bars"
)


def elsewhere() -> str:
    """Return the settings that a gateway on another machine needs."""
    return "untick 'Allow connections from localhost only' there and add this machine to the trusted IPs"


def _query(text: str) -> dict[str, str]:
    """Return the values in a query by name; raise ValueError if a name is repeated or has no value."""
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    for name, value in pairs:
        if not value or [other for other, _ in pairs].count(name) > 1:
            raise ValueError(f"{name} has {'several values' if value else 'no value'}")
    return dict(pairs)


def _without_values(text: str) -> str:
    """Return an address without the values of unknown options, which may be secret."""
    place, mark, options = text.partition("?")
    shown = [one if one.partition("=")[0] in ("client_id", "limits") else f"{one.partition('=')[0]}=..."
             for one in options.split("&")]  # fmt: skip
    return f"{place}{mark}{'&'.join(shown) if options else ''}"


def _port(parts: SplitResult) -> int:
    try:
        return _PORT if parts.port is None else parts.port
    except ValueError:  # whose words are those of int()
        given = parts.netloc.rpartition(":")[2]
        raise ValueError(f"the port {given!r} is not a number from 1 to 65535") from None


def _client_id(text: str) -> int:
    number = int(text) if re.fullmatch("[0-9]{1,10}", text) else _MOST_CLIENTS + 1
    if number > _MOST_CLIENTS:
        raise ValueError(f"client_id {text!r} is not a number from 0 to {_MOST_CLIENTS}")
    return number


def _check_host(host: str) -> None:
    wrong = f"{host!r} is not a valid gateway host"
    if not isinstance(host, str) or not host:
        raise UsageError(f"{wrong}; write a name or an IP address, such as 127.0.0.1")
    address = _ip(host)
    if address and address.is_unspecified:
        raise UsageError(f"{wrong}: programs listen on it, but cannot be reached at it; write, for example, 127.0.0.1")
    if address:
        return
    if re.fullmatch(r"[0-9.]+", host):
        raise UsageError(
            f"{wrong}: an IP address has four numbers from 0 to 255; write, for example, ib://127.0.0.1:4002"
        )
    if ":" in host:
        raise UsageError(f"{wrong} nor an IPv6 address; write, for example, ib://127.0.0.1:4002 or ib://[::1]:4002")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise UsageError(f"{wrong} ({error}); write a name such as ib-gateway, or an IP address") from error
    if not re.fullmatch(r"[\w.-]+", host):
        raise UsageError(f"{wrong}: a name has letters, digits, hyphens and dots; write, for example, ib-gateway")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
