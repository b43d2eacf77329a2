"""How the address of a gateway is written, what is refused, and which words a failing connection gets."""

import asyncio
import logging
import socket

import pytest

from backtest.emulator.server import Gateway
from backtest.errors import NoConnection, UsageError
from backtest.sources.base import Patience
from backtest.sources.connect import connect
from backtest.sources.ib.address import GatewayAddress, ip_addresses, parse_address, why_no_connection

BRIEF = Patience(connect=20.0)


@pytest.fixture
def hosts(monkeypatch):
    """Return a function that lets names lead to addresses, as a file of hosts does; other names are unknown."""
    known: dict[str, tuple[str, ...]] = {}

    def look_up(host, port, *args, **words):
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.fixture
def port():
    """Return a port on which nothing is listening."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("rest", "host", "port", "shown"),
    [
        ("", "127.0.0.1", 7497, "127.0.0.1:7497"),
        ("//ib-gateway:4002", "ib-gateway", 4002, "ib-gateway:4002"),
        ("//IB_Gateway.lan", "ib_gateway.lan", 7497, "ib_gateway.lan:7497"),
        ("//192.168.1.20:4001/?client_id=3", "192.168.1.20", 4001, "192.168.1.20:4001"),
        ("//[::1]:4002", "::1", 4002, "[::1]:4002"),
        ("//[fe80::2%eth0]:4002", "fe80::2%eth0", 4002, "[fe80::2%eth0]:4002"),
        ("//[fe80::2%25eth0]:4002", "fe80::2%eth0", 4002, "[fe80::2%eth0]:4002"),  # as RFC 6874 writes it
        ("//bücher.example:4002", "bücher.example", 4002, "bücher.example:4002"),
    ],
)
def test_any_host_is_taken(rest, host, port, shown):
    address, _, _ = parse_address(rest)

    assert (address.host, address.port, str(address)) == (host, port, shown)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("127.0.0.1:4002", "two slashes"),
        ("4002", "two slashes"),
        ("//4002", "four numbers"),
        ("//192.168.1.300:4002", "four numbers"),
        ("//::1:4002", "in brackets"),
        ("//fe80::2", "in brackets"),
        ("//[::g]:4002", "not a valid address"),
        ("//0.0.0.0:4002", "cannot be reached at it"),
        ("//[::]:4002", "cannot be reached at it"),
        ("//ib gateway:4002", "letters, digits"),
        ("//one,two:4002", "letters, digits"),
        ("//ib..gateway:4002", "not a valid gateway host"),
        (f"//{'a' * 64}:4002", "not a valid gateway host"),
        ("//ib-gateway:0", "from 1 to 65535"),
        ("//ib-gateway:65536", r"the port '65536' is not a number from 1 to 65535\); "),
        ("//ib-gateway:port", r"not a valid address \(the port 'port' is not a number from 1 to 65535\); "),
        ("//ib-gateway:4002/paper", "nothing follows the port"),
        ("//ib-gateway:4002#x", "nothing follows the port"),
        ("//ib-gateway:4002?client=7", "unknown option 'client' in .*; only client_id and limits can be given"),
        ("//ib-gateway:4002?client_id=", "client_id has no value"),
        ("//ib-gateway:4002?client_id=1&client_id=2", "client_id has several values"),
        ("//ib-gateway:4002?client_id=-1", "from 0 to 2147483647"),
        ("//ib-gateway:4002?client_id=2147483648", "from 0 to 2147483647"),
        ("//ib-gateway:4002?client_id=one", "from 0 to 2147483647"),
    ],
)
def test_what_cannot_be_a_gateway_is_refused_before_anything_is_looked_up(hosts, rest, said):
    with pytest.raises(UsageError, match=said):
        connect(f"ib:{rest}")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.3.4.5", True),
        ("localhost", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("ib-gateway", False),
        ("192.168.1.20", False),
        ("fe80::2", False),
        ("::ffff:192.168.1.20", False),
        ("localhost.example.com", False),
    ],
)
def test_only_an_address_of_this_machine_needs_no_warning(host, loopback):
    address = GatewayAddress(host, 4002)

    assert address.loopback is loopback
    assert bool(address.exposure) is not loopback


@pytest.mark.slow
@pytest.mark.second_client
def test_a_name_is_connected_to_with_one_warning(sample, hosts, caplog):
    hosts["ib-gateway.test"] = ("127.0.0.1",)

    with Gateway(sample) as gateway, caplog.at_level(logging.WARNING, "backtest"):
        for _ in range(2):
            with connect(f"ib://ib-gateway.test:{gateway.port}", patience=BRIEF) as source:
                assert source.now()

    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(
        f"the connection to ib-gateway.test:{gateway.port} is neither encrypted nor authenticated"
    )


@pytest.mark.slow
def test_this_machine_is_connected_to_without_a_warning(sample, hosts, caplog):
    hosts["localhost"] = ("127.0.0.1",)

    with Gateway(sample) as gateway, caplog.at_level(logging.WARNING, "backtest"):
        for host in ("127.0.0.1", "localhost"):
            connect(f"ib://{host}:{gateway.port}", patience=BRIEF).close()

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_first_address_of_a_name_that_answers_is_taken(sample, hosts):
    hosts["two.test"] = ("127.0.0.2", "127.0.0.1")  # the emulator listens on the second alone

    with Gateway(sample) as gateway, connect(f"ib://two.test:{gateway.port}", patience=BRIEF) as source:
        assert source.now()


def test_a_name_at_none_of_whose_addresses_somebody_listens_is_told_so(hosts, port):
    hosts["two.test"] = ("127.0.0.2", "127.0.0.1")

    with pytest.raises(
        NoConnection, match=rf"nothing is listening on two\.test:{port}; .* trusted IPs; a container has to"
    ):
        connect(f"ib://two.test:{port}", patience=BRIEF)


def test_nobody_at_an_ipv6_address_is_told_with_its_brackets(port):
    with pytest.raises(NoConnection, match=rf"\[::1\]:{port}"):
        connect(f"ib://[::1]:{port}", patience=BRIEF)


def test_a_mistyped_name_is_told_as_unknown(hosts):
    with pytest.raises(NoConnection, match=r"unknown host 'ib-gatway' .*; check its spelling"):
        connect("ib://ib-gatway:4002", patience=BRIEF)


@pytest.mark.slow
@pytest.mark.second_client
def test_who_hangs_up_on_another_machine_is_named_with_its_settings(hosts):
    hosts["mute.test"] = ("127.0.0.1",)

    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(NoConnection) as caught:
        connect(f"ib://mute.test:{server.getsockname()[1]}", patience=Patience(connect=0.3))

    assert "accepts connections but did not finish the handshake" in str(caught.value)
    assert "trusted IPs" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "did not accept a connection within 5 s"),
        (OSError(113, "No route to host"), "cannot be reached (No route to host)"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "Temporary failure"),
    ],
)
def test_each_failure_of_a_connection_has_its_own_words(error, said):
    assert said in why_no_connection(GatewayAddress("192.168.1.20", 4002), error, 5.0)


def test_an_ip_address_is_not_looked_up(hosts):
    assert asyncio.run(ip_addresses(GatewayAddress("192.168.1.20", 4002), 1.0)) == ["192.168.1.20"]
