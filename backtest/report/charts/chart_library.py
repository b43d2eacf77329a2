"""
TradingView's Lightweight Charts, which draws the interactive charts: the script from the package `litecharts`.

The package is never imported, and its script is used only if it is byte for byte a release on npm: so no version of the
package can put another script into a page.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGE = "litecharts"
_FILE = "litecharts/js/lightweight-charts.js"
# SHA-256 of dist/lightweight-charts.standalone.production.js in npm's package lightweight-charts, by version.
_KNOWN = {
    "756b0ba9f58930226d6b8b9d47ad310448ab85d799ea1f7c2c02304777c10b52": "5.1.0",
    "c0992580867c4912cc9385b3c2728315bcc1a76c7f1087dca908430fccdf31d7": "5.2.0",
    "e21cc5caa0226ef30bd8549c50b9ef926615f2a4ee6b4e486353477a55f598cf": "5.2.1",
}


@dataclass(frozen=True, slots=True)
class Library:
    """The script; or "" and the reason why there is none."""

    script: str
    why_not: str = ""


@cache
def library() -> Library:
    """Return the script of the library."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError:
        return Library("", f"the package {PACKAGE} is not installed; run: pip install {PACKAGE}")
    return checked(path)


def checked(path: Path) -> Library:
    """Return the script in a file, if it is a known one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return Library("", f"the script of {PACKAGE} cannot be read ({error.strerror}); install the package again")
    if hashlib.sha256(content).hexdigest() not in _KNOWN:
        versions = ", ".join(_KNOWN.values())
        return Library(
            "", f"the script of {PACKAGE} is not one of the versions {versions} of lightweight-charts; install the "
            "package"
            " again, or a release of it that brings one of these"
        )  # fmt: skip
    return Library(content.decode())
