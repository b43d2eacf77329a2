"""
How Ctrl-C and Ctrl-Break end commands, on the system at hand; it ends with 1 if one did not end as it should.

stops.py                    (all of it, in a folder of its own)
stops.py NAME FILE WORD ... (one command, to whose main thread the signal of that name comes once there is the file)

A console sends its event to all processes at once; Wine has none behind pipes. So the signal is raised in the process
itself, as Windows raises it: whoever waits without hearing of it goes on. The console's own event is tried beside that.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve()
SLOW = """
import pathlib
import time

import backtrader as bt

class Slow(bt.Strategy):
    params = (("size", 1),)

    def start(self):
        pathlib.Path(__file__).with_name("begun").touch()

    def next(self):
        time.sleep(60)
"""
SECONDS = 30.0  # within which a command has to end, under Wine on a busy machine
UNTRIED = "untried"
DELAY = 0.5  # until a command waits that has said nothing
PYTHON = [sys.executable, "-W", "ignore"]
BREAK = "SIGBREAK" if sys.platform == "win32" else "SIGTERM"


def raised(name: str, file: Path, words: list[str]) -> None:
    """Run a command in this process, and raise a signal in it a while after a file is made."""
    import backtest.cli.app as app

    def strike() -> None:
        while not file.exists():  # not a line on stdin: whoever asks Windows of a pipe that is read waits, too
            time.sleep(0.05)
        time.sleep(DELAY)
        _thread.interrupt_main(getattr(signal, name))

    threading.Thread(target=strike, daemon=True).start()
    app.main(words)


def ended(words: list[str], *, name: str = "", told: str = "", begun: Path | None = None) -> tuple[object, str]:
    """
    Start a command, wait until it says something on stdout, send it a signal, and return how it ended.

    Args:
        name: of the signal to be raised in it; without one, a console's Ctrl-Break is sent, or SIGTERM.
        told: what it says; "" for one that says nothing before its end.
        begun: a file that the command itself makes, when the signal is to be raised.
    """
    file = begun or Path(tempfile.mkdtemp()) / "now"
    command = [*PYTHON, str(HERE), name, str(file), *words] if name else [*PYTHON, "-m", "backtest", *words]
    group = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0  # type: ignore[attr-defined,unused-ignore]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, creationflags=group) as process:
        assert process.stdout
        line = process.stdout.readline() if told else ""
        began = time.monotonic()
        if begun:
            while not begun.exists() and process.poll() is None:
                time.sleep(0.05)
            began = time.monotonic()
        elif name:
            file.touch()
        else:
            try:
                process.send_signal(signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGTERM)
            except OSError as error:  # behind pipes Wine has no console to send it by
                process.kill()
                return UNTRIED, f"{error}"
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return "did not end", line + out + err
    said = f"{line}{out}{err}"
    if told not in line or "Traceback" in said:
        return "traceback" if "Traceback" in said else "said nothing", said
    return process.returncode, f"{said} ({time.monotonic() - began:.1f} s)"


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Yield the port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def main() -> int:
    """Stop each command in each way."""
    failed: list[str] = []
    folder = Path(tempfile.mkdtemp())
    (folder / "slow.py").write_text(SLOW, "utf-8")
    store = str(folder / "bars")
    begun = folder / "begun"
    sweep = ["sweep", str(folder / "slow.py"), "AAPL/1day", "--grid", "size=1:9:1", "--jobs", "2", "--store", "sample"]
    sweep += ["--out", str(folder / "grid")]
    emulator = ["emulator", "--store", store, "--port", "0"]
    with silent() as port:
        download = [
            "download",
            "AAPL/1day",
            "--since",
            "2024-01-02",
            "--source",
            f"ib://127.0.0.1:{port}",
            "--store",
            store,
        ]
        for what, words, name, told, fine in (
            ("emulator, Ctrl-C", emulator, "SIGINT", "listening", (0,)),
            (f"emulator, {BREAK}", emulator, BREAK, "listening", (0,)),
            ("download from a server that is silent, Ctrl-C", download, "SIGINT", "", (4, 130)),
            (f"download from a server that is silent, {BREAK}", download, BREAK, "", (4, 130, 143)),
            ("sweep in two processes while a trial runs, Ctrl-C", sweep, "SIGINT", "", (130,)),
            ("emulator, the console's own event", emulator, "", "listening", (0,)),
        ):
            code, said = ended(words, name=name, told=told, begun=begun if words is sweep else None)
            if code == UNTRIED:
                print(f"{UNTRIED}  {what}: there is no console to send it by ({said})", flush=True)
                continue
            print(f"{'ok' if code in fine else 'FAILED':>7}  {what}", flush=True)
            if code not in fine:
                failed.append(what)
                print(f"exit code {code}:\n{said[-1500:]}", flush=True)
    print(f"{len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        raised(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(main())
