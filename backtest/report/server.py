"""`PageServer`: the gallery of a folder on loopback, updated as runs arrive; it writes each page on request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from backtest.errors import BacktestError, UsageError
from backtest.report.gallery import SWEEP, WALK_FORWARD, Gallery, gallery_page
from backtest.runs.record import FILES
from backtest.store.replacement import current

_log = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_PAGE = "/index.html"


class PageServer:
    """
    Serves the pages of a folder to browsers on this machine only; use it as a context manager.

    Args:
        root: the folder.
        write: writes the page of a run, a sweep or a walk-forward, and returns its path.
        compare: returns the page of some runs side by side.
        port: 0 for any free one.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(
        self, root: Path, write: Callable[[Path], Path], compare: Callable[[Sequence[Path]], str], port: int = 0
    ) -> None:
        self._gallery, self._write, self._compare, self._lock = Gallery(root), write, compare, Lock()
        try:
            self._server = ThreadingHTTPServer((_LOOPBACK, port), _handler_of(self))
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on port {port} ({error}); name another --port, or 0") from error
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        """Where it is, for a browser."""
        return f"http://{_LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def is_own(self, host: str) -> bool:
        """Return whether a browser requested this server by its own name, not through a page of another."""
        return host in (f"{name}:{self._server.server_port}" for name in (_LOOPBACK, "localhost"))

    def answer(self, target: str) -> tuple[int, str, str]:
        """Return status, content type and text for a browser's request."""
        asked = urlsplit(target)
        name, html = unquote(asked.path), "text/html; charset=utf-8"
        if name == "/favicon.ico":  # which browsers ask for by themselves
            return 204, "image/x-icon", ""
        try:
            with self._lock:  # so that no page is made twice at once
                if name == "/version":
                    return 200, "text/plain; charset=utf-8", self._gallery.version
                if name in ("/", _PAGE):
                    return 200, html, self._gallery_page()
                if name == "/compare":
                    return 200, html, self._compared(parse_qs(asked.query).get("run", []))
                folder = self._gallery.folder_of(name[1:].removesuffix(_PAGE)) if name.endswith(_PAGE) else None
                if folder is not None:
                    return 200, html, self._page(folder)
        except BacktestError as error:
            return 500, "text/plain; charset=utf-8", f"{error}\n"
        return 404, "text/plain; charset=utf-8", f"nothing is saved as {name}\n"

    def _gallery_page(self) -> str:
        rows = self._gallery.rows
        links = {row.name: f"/{quote(row.name)}{_PAGE}" for row in rows}
        return gallery_page(self._gallery.root, rows, links, served=True)

    def _page(self, folder: Path) -> str:
        page, made = current(folder, "index.html"), _written(folder, "index.html")
        if not made or any(_written(folder, name) > made for name in (*FILES, SWEEP, WALK_FORWARD)):
            page = self._write(folder)
        return page.read_text(encoding="utf-8")

    def _compared(self, names: Sequence[str]) -> str:
        folders = [self._gallery.folder_of(name) for name in names]
        known = [folder for folder in folders if folder is not None]
        if len(known) < len(names):
            raise UsageError(f"nothing is saved as {names[folders.index(None)]}; go back to {_PAGE}")
        return self._compare(known)


def _written(folder: Path, name: str) -> int:
    """Return when a file was written, in nanoseconds; 0 where there is none."""
    path = current(folder, name)
    return path.stat().st_mtime_ns if path.exists() else 0


def _handler_of(server: PageServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers a browser."""

        def do_GET(self) -> None:
            """Answer a GET request."""
            if not server.is_own(self.headers.get("Host", "")):
                self._send(403, "text/plain; charset=utf-8", f"open {server.address}\n")
                return
            self._send(*server.answer(self.path))

        def _send(self, status: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
            for name, value in {**headers, "X-Content-Type-Options": "nosniff"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Log the request instead of printing it."""
            _log.debug(format, *args)

    return Handler
