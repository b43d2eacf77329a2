"""A headless Chromium that tests talk to: the DevTools protocol over a pipe, without a port and without a package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"no browser looked at the page: none of {', '.join(NAMES)} is installed; apt-get install chromium"
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-extensions", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads from file 3 and writes to file 4.
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_PATIENCE = 60  # seconds for an answer, on a busy machine

Message = dict[str, Any]


def installed() -> str:
    """Return the path of a browser, "" where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), "")


@contextmanager
def started(folder: Path) -> Iterator[Tab]:
    """Yield an empty tab of a browser that keeps its files in a new folder, and is gone afterwards."""
    (from_us, to_browser), (from_browser, to_us) = _high_pipe(), _high_pipe()
    command = [sys.executable, "-c", _LAUNCH, str(from_us), str(to_us), installed(), *_OPTIONS]
    browser = subprocess.Popen(
        [*command, f"--user-data-dir={folder}"], pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL
    )
    os.close(from_us)
    os.close(to_us)
    try:
        yield Tab(to_browser, from_browser)
    finally:
        os.close(to_browser)  # at which it ends by itself
        browser.wait(_PATIENCE)
        os.close(from_browser)


class Tab:
    """A tab: what was asked of it is answered, and what happens in it meanwhile is kept in `events`."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from, self._read = to_browser, from_browser, b""
        self._asked, self._session = 0, ""
        self.events: list[Message] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **options: Any) -> Message:
        """Return the answer to a command of the protocol."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": options}
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps({**message, **session}).encode() + b"\0")
        answer = self._until(lambda one: one.get("id") == self._asked)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: Message = answer["result"]
        return result

    def open(self, page: Path | str, width: int, dark: bool = False) -> None:
        """Show a page, or an address, on a screen of so many pixels across, a telephone if they are few."""
        self.events.clear()
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str) -> None:
        """Wait until something happens in the tab, if it did not happen since the page was opened, or waited for."""
        if not any(one.get("method") == event for one in self.events):
            self._until(lambda one: one.get("method") == event)
        self.events = [one for one in self.events if one.get("method") != event]

    def value(self, script: str) -> Any:
        """Return what a line of JavaScript comes to in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def awaited(self, script: str) -> Any:
        """Return what a promise of the page comes to."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **options: Any) -> None:
        """Do with the mouse what a hand would: "mouseMoved", "mousePressed", "mouseReleased", "mouseWheel"."""
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **options)

    def press(self, key: str) -> None:
        """Press a key and let go of it."""
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self) -> bytes:
        """Return what is seen, as a PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    @property
    def complaints(self) -> list[str]:
        """What the console was told since the page was opened."""
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
        return [json.dumps(one["params"]) for one in self.events if one.get("method") in kinds]

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        sent = [one["params"] for one in self.events if one.get("method") == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def _until(self, wanted: Callable[[Message], bool]) -> Message:
        while True:
            message = self._next()
            if "id" not in message:
                self.events.append(message)
            if wanted(message):
                return message

    def _next(self) -> Message:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from], [], [], _PATIENCE)
            assert ready, f"the browser said nothing for {_PATIENCE} seconds"
            piece = os.read(self._from, 1 << 16)
            assert piece, "the browser ended by itself"
            self._read += piece
        first, _, self._read = self._read.partition(b"\0")
        message: Message = json.loads(first)
        return message


def _high_pipe() -> tuple[int, int]:
    """Return a pipe whose ends are no file that a shell would need for something else."""
    import fcntl  # which Windows does not have, where these helpers are only imported

    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]
