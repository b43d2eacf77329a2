"""The doctor finds what is off, says what to do, and finds nothing where all is well."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
from market import store_with

from backtest.cli.app import main
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import UsageError
from backtest.market.series import Series
from backtest.onboarding.doctor import (
    diagnose,
    listening,
    of_clocks,
    of_link,
    of_packages,
    of_python,
    of_source,
    of_space,
    of_store,
    of_system,
    of_this_clock,
)
from backtest.sources.base import Patience

SOUND = {"ib_insync": "0.9.86", "backtrader": "1.9.78.123", "pandas": "3.1.1", "pyarrow": "26.0.1"}
AAPL = Series.parse("AAPL/1day")


def states(findings):
    return {finding.what: finding.state for finding in findings}


@pytest.fixture
def port():
    """Return a port on which nothing is listening."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# --- all in place


def test_where_all_is_well_every_finding_is_ok(gateway, sample):
    findings = diagnose(gateway.address, sample.root)

    assert {finding.state for finding in findings} == {"ok"}
    assert all(not finding.fix for finding in findings)
    assert states(findings).keys() >= {
        "Python",
        "system",
        "IB client",
        "backtrader",
        "source",
        "clock",
        "store",
        "series",
        "disk",
    }
    assert "server version 17" in next(finding.detail for finding in findings if finding.what == "source")


@pytest.fixture
def call(capsys):
    """Call `backtest doctor` in this process; return exit code and stdout."""

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *map(str, words)])
        return ended.value.code or 0, capsys.readouterr().out

    return call


def test_the_command_prints_lines_that_fit(call, gateway, sample):
    code, out = call("--source", gateway.address, "--store", sample.root)

    assert code == 0
    assert all(line[:2] == "ok" and len(line) <= 80 for line in out.splitlines())


def test_the_command_gives_one_document_as_json(call, gateway, sample):
    code, out = call("--source", gateway.address, "--store", sample.root, "--json")

    document = json.loads(out)
    assert (code, document["problems"]) == (0, 0)
    assert {finding["state"] for finding in document["findings"]} == {"ok"}


def test_the_command_ends_with_1_where_there_is_a_problem(call, port, sample):
    code, out = call("--source", f"ib://127.0.0.1:{port}", "--store", sample.root)

    lines = out.splitlines()
    assert code == 1
    assert next(line for line in lines if line.startswith("!!")).split()[1] == "source"
    assert max(map(len, lines)) <= 80


# --- Python and packages


@pytest.mark.parametrize(("version", "state"), [((3, 10), "problem"), ((3, 11), "ok"), ((3, 14), "problem")])
def test_a_python_that_is_not_tested_is_a_problem(version, state):
    assert of_python(version, "").state == state


def test_both_client_libraries_at_once_are_a_problem():
    client = of_packages(SOUND | {"ib_async": "2.1.0"})[0]

    assert (client.what, client.state) == ("IB client", "problem")
    assert "pip uninstall ib_insync ib_async eventkit aeventkit" in client.fix


def test_a_package_that_is_missing_is_a_problem_and_an_unknown_backtrader_a_warning():
    findings = of_packages({"backtrader": "1.9.99", "pandas": "3.1.1"})

    assert states(findings) == {"IB client": "problem", "backtrader": "warning", "pandas": "ok", "pyarrow": "problem"}


# --- the source


def test_nobody_listening_is_a_problem_with_what_to_start(port):
    (finding,) = of_source(f"ib://127.0.0.1:{port}")

    assert finding.state == "problem"
    assert f"nothing is listening on 127.0.0.1:{port}" in finding.detail


def test_the_ports_that_accept_are_found(gateway, port):
    assert listening([gateway.port, port]) == [gateway.port]


@pytest.mark.slow
def test_a_port_that_accepts_and_says_nothing_is_told_from_one_where_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (finding,) = of_source(f"ib://127.0.0.1:{mute.getsockname()[1]}", patience=Patience(connect=0.3))

    assert finding.state == "problem"
    assert "does not finish the TWS handshake" in finding.detail


def test_client_ids_in_use_are_named_as_such(sample):
    taken = Faults.of([{"when": {"connection": 1, "times": 20}, "do": "taken"}])
    with Gateway(sample, faults=taken) as gateway:
        (finding,) = of_source(gateway.address)

    assert (finding.what, finding.state) == ("source", "problem")
    assert "in use" in finding.detail
    assert "client_id=" in finding.fix


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (datetime(1970, 1, 1, 0, 5, tzinfo=UTC), ["1970-01-01 00:05 UTC, which is before this version was released"]),
        (datetime(2099, 1, 1, tzinfo=UTC), ["2099-01-01 00:00 UTC, which is far in the future"]),
        (datetime(2026, 7, 1, tzinfo=UTC), []),
    ],
)
def test_a_clock_that_is_surely_off_is_a_problem(ours, said):
    assert [one.detail.partition("says ")[2] for one in of_this_clock(ours) if one.state == "problem"] == said


@pytest.mark.parametrize(("seconds", "state"), [(2, "ok"), (-2, "ok"), (3, "warning"), (-3600, "warning")])
def test_clocks_that_differ_by_more_than_two_seconds_are_a_warning(seconds, state):
    ours = datetime(2024, 3, 28, 12, tzinfo=UTC)

    assert of_clocks(ours + timedelta(seconds=seconds), ours).state == state


def test_bars_of_a_series_show_that_the_user_may_have_them(sample):
    with Gateway(sample, clock=lambda: datetime(2012, 6, 8, 12, tzinfo=UTC)) as gateway:
        findings = {finding.what: finding for finding in of_source(gateway.address, AAPL)}

    assert findings["bars"].state == "ok"
    assert "5 daily bars" in findings["bars"].detail  # a Friday: the week before has five sessions
    assert findings["clock"].state == "warning"


def test_a_missing_permission_is_a_problem_in_words(sample):
    refused = {"when": {"request": 1, "times": 9}, "do": "error", "code": 354, "text": "Not subscribed"}
    with Gateway(sample, faults=Faults.of([refused])) as gateway:
        bars = {finding.what: finding for finding in of_source(gateway.address, AAPL)}["bars"]

    assert bars.state == "problem"
    assert "Not subscribed" in bars.detail
    assert "subscribe to the market data" in bars.fix


@pytest.mark.slow
def test_an_unknown_instrument_is_a_problem_and_a_week_without_bars_a_warning(gateway):
    unknown, old = (list(of_source(gateway.address, Series.parse(key)))[-1] for key in ("NOPE/1day", "AAPL/1day"))

    assert (unknown.what, unknown.state) == ("bars", "problem")
    assert (old.what, old.state) == ("bars", "warning")  # the sample ends in 2013


def test_words_that_are_no_address_are_a_mistake_and_no_finding(sample):
    with pytest.raises(UsageError, match="unknown source"):
        diagnose("tws", sample.root)


def test_system_encoding_and_disk_are_told():
    (told, far) = (of_system("Windows 11", "cp1252", disk) for disk in ("NTFS", "nfs4"))

    assert (told.state, told.detail) == ("ok", "Windows 11, output encoding cp1252, store on NTFS")
    assert (far.state, "a local disk" in far.fix) == ("warning", True)


# --- the store


def test_a_store_that_is_not_there_yet_is_no_problem(tmp_path):
    assert states(of_store(tmp_path / "a" / "b")) == {"store": "ok", "disk": "ok"}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_store_is_a_problem(tmp_path):
    (tmp_path / "letter").touch()

    (finding,) = of_store(tmp_path)

    assert finding.state == "problem"
    assert "is not a store" in finding.detail


def test_a_damaged_series_is_named_and_the_others_are_not(tmp_path):
    store = store_with(tmp_path, dict.fromkeys(("AAPL/1day", "IBM/1day"), ("2024-01-02", "2024-01-31")))
    (segment,) = (store.folder(AAPL) / "bars").iterdir()
    segment.write_bytes(segment.read_bytes()[:-1])

    findings = {finding.what: finding for finding in of_store(tmp_path)}

    assert states(findings.values()) == {"store": "ok", "AAPL/1day": "problem", "disk": "ok"}
    assert "is not what was written" in findings["AAPL/1day"].detail
    assert findings["AAPL/1day"].fix


def test_a_manifest_that_was_changed_is_a_problem(tmp_path):
    store = store_with(tmp_path, {"AAPL/1day": ("2024-01-02", "2024-01-31")})
    manifest = store.folder(AAPL) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("2024", "2025"))

    assert states(of_store(tmp_path))["AAPL/1day"] == "problem"


def test_little_room_on_the_disk_is_a_warning():
    assert (of_space(2**30).state, of_space(2**30 - 1).state) == ("ok", "warning")


def test_a_broken_link_is_a_problem_that_says_what_is_broken():
    assert of_link("").state == "ok"
    assert of_link("IB's history farm ushmds is broken").state == "problem"


# --- hosts


@pytest.fixture
def gateway_by_name(gateway, monkeypatch):
    """Return the address of the emulator by a name that leads to this machine, as a file of hosts may say."""

    def look_up(host, port, *args, **words):
        if host not in ("doctor.test", "127.0.0.1"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return f"ib://doctor.test:{gateway.port}"


def test_a_gateway_elsewhere_is_looked_at_with_one_warning(gateway_by_name, sample, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--source", gateway_by_name, "--store", str(sample.root), "--json"])

    said = capsys.readouterr()
    findings = {row["what"]: row for row in json.loads(said.out)["findings"]}
    assert ended.value.code in (0, None)
    assert findings["source"]["state"] == "ok"
    assert findings["network"]["state"] == "warning"
    assert "neither encrypted nor authenticated" in findings["network"]["detail"]
    assert "encrypted" not in said.err


def test_a_host_that_is_not_known_is_not_said_to_have_nobody_listening(gateway_by_name):
    (finding,) = of_source("ib://dcotor.test:4002")

    assert (finding.what, finding.state) == ("source", "problem")
    assert finding.detail.startswith("unknown host 'dcotor.test'")
    assert "spelling" in finding.fix


def test_where_nobody_listens_elsewhere_the_ports_there_are_tried(gateway_by_name, port):
    (finding,) = of_source(f"ib://doctor.test:{port}")

    assert finding.detail.startswith(f"connection refused: nothing is listening on doctor.test:{port}")
