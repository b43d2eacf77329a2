"""An emulator that has no file handle left says so once a minute, and serves again when some are let go."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from places import ROOT
from rawclient import RawClient, rows

from backtest.emulator.archive import Archive
from backtest.emulator.connection import Desk
from backtest.emulator.faults import Faults
from backtest.emulator.limiter import Limiter
from backtest.store.store import Store

SAMPLE = ROOT / "data" / "sample"
HANDLES = 48  # for a process that needs some twenty of them itself
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({handles}, {handles}))
from backtest.cli.app import main
main(["emulator", "--store", {store!r}, "--port", "0"])
"""


# Soak, as it fails in one run of sixteen beside busy loops: a client is refused or reset, and why is not known yet.
@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="a process there has no limit of handles that can be set")
def test_clients_beyond_the_file_handles_get_one_line_and_are_served_when_others_end():
    words = [sys.executable, "-c", LIMITED.format(handles=HANDLES, store=str(SAMPLE))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        port = int(serving.stdout.readline().rpartition(":")[2])
        early = RawClient(port, client_id=1)
        clients = [early, *(connected(port) for _ in range(2 * HANDLES))]
        line = serving.stderr.readline()  # of the first that got none
        early.ask_bars(5)  # whose file cannot be opened now
        refused = early.answer(5)

        for client in clients:
            client.socket.close()
        with RawClient(port, client_id=2) as late:
            late.ask_bars(7)
            answer = late.answer(7)
        serving.terminate()
        _, rest = serving.communicate(timeout=60)

    assert "no file handle is left for more clients (Too many open files): " in line
    assert "ulimit -n" in line
    assert refused[:1] != ["17"]  # no bars, and not the number 0 of them
    assert rest == ""
    assert len(rows(answer)) == 10
    assert serving.returncode == 0


def connected(port):
    """Return a client that says nothing, so that it is there whether or not it is accepted."""
    client = RawClient.__new__(RawClient)
    client.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
    return client


def test_a_shortage_is_told_once_a_minute(caplog):
    now = [datetime(2024, 1, 2, tzinfo=UTC)]
    desk = Desk(Archive(Store(SAMPLE), ()), Limiter(1.0, True), Faults(), lambda: now[0], None, lambda *_: None)
    error = OSError(24, "Too many open files")

    with caplog.at_level(logging.WARNING):
        for seconds in (0, 0, 1, 58, 60, 61, 0, 119, 120):
            now[0] = datetime(2024, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)
            desk.tell_shortage(error)

    # At 0, 60, then at 0 again, since the clock was put back, and at 119: a minute after the last.
    assert len(caplog.records) == 4
    assert all(record.exc_info is None for record in caplog.records)
