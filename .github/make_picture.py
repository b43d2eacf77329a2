"""
Make the picture of the README: the head of the page that the demo writes of SmaCross on GOOG. It takes a Chromium.

Run:  python .github/make_picture.py
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backtest import run
from backtest.report.run_page import page

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "support"))
import browser  # noqa: E402 - it finds the browser, for this script as for the tests

SIZE = (1000, 1160)  # pixels: down to the end of the first figure
COLOURS = 128  # of the palette; the page has few, and a third of the bytes


def shown() -> str:
    """Return the page."""
    return page(run("sma_cross", "GOOG/1day", store=ROOT / "data" / "sample"))


def words(text: str) -> str:
    """Return what can be read at the head of a page: the summary, the verdict, the numbers; no definitions on hover."""
    head = text[text.index("<header>") : text.index("</dl>")]
    head = re.sub('<span class="tip".*?</span>', "", head)
    return " ".join(re.sub("<[^>]*>", " ", head).split())


def make(picture: Path, text: str) -> None:
    """Write the picture of a page into a file, which also tells in words what it shows."""
    with TemporaryDirectory() as folder:
        page, shot = Path(folder, "index.html"), Path(folder, "shot.png")
        page.write_text(text, "utf-8")
        options = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",  # so that scripts have ended, however busy the machine is
            f"--user-data-dir={folder}/files",
        )
        size, to = f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={shot}"
        subprocess.run([browser.installed(), *options, size, to, page.as_uri()], check=True, capture_output=True)
        told = PngInfo()
        told.add_itxt("Description", words(text))
        Image.open(shot).convert("RGB").quantize(COLOURS).save(picture, optimize=True, pnginfo=told)


if __name__ == "__main__":
    make(Path(__file__).with_name("report.png"), shown())
