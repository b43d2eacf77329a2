"""`print_page`: print a page as a PDF, with a browser on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from backtest._system import is_administrator
from backtest.errors import UsageError
from backtest.store.replacement import replace_file

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
_ELSEWHERE = (  # where macOS and Windows have them, outside of the path
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
_OPTIONS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-sync",
    "--disable-component-update", "--disable-background-networking", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer", "--window-size=720,1000", "--virtual-time-budget=10000",
)  # fmt: skip  # as wide as a sheet, so that what is drawn fits it
_PATIENCE = 300  # seconds
_LINK = re.compile(r'<a href="(?!#|https?:)[^"]*"')  # to another file: in a PDF it would be a path of this machine
_DATE = re.compile(rb"/(?:CreationDate|ModDate) \(D:[^)]*\)")
_SHOWN = 300  # characters of what a browser says


def browser() -> str:
    """Return the program of a browser that prints pages; "" if there is none."""
    here = filter(None, map(shutil.which, BROWSERS))
    return next(here, "") or next((path for path in _ELSEWHERE if Path(path).is_file()), "")


def print_page(page: Path, file: Path) -> None:
    """
    Print a page as a PDF; the same page gives the same file with the same browser.

    Raises:
        UsageError: there is no browser, it fails, or the file cannot be written.
    """
    program = browser()
    if not program:
        raise UsageError(f"no browser prints pages here (none of {', '.join(BROWSERS[:3])} ...); install Chromium")
    with tempfile.TemporaryDirectory() as folder:
        copy, printed = Path(folder) / "page.html", Path(folder) / "page.pdf"
        copy.write_text(_LINK.sub("<a", page.read_text(encoding="utf-8")), encoding="utf-8")
        places = (f"--user-data-dir={Path(folder) / 'browser'}", f"--print-to-pdf={printed}", copy.as_uri())
        command = [program, *_OPTIONS, *(["--no-sandbox"] if is_administrator() else []), *places]
        said = _run(command)
        if not printed.exists():
            raise UsageError(f"{program} printed nothing ({said[-_SHOWN:].strip() or 'and said nothing'}); try another")
        content = _DATE.sub(lambda found: b" " * len(found[0]), printed.read_bytes())
    try:
        replace_file(file, content, named=True)
    except OSError as error:
        raise UsageError(f"no PDF can be written ({error}); name another place") from error


def _run(command: list[str]) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{command[0]} did not print within {_PATIENCE} seconds; print the page from it yourself"
        ) from error
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be started ({error}); install Chromium again") from error
    return ran.stderr.decode(errors="replace")
