"""
What `make windows` does with the commands, one after the other, on the system at hand; it ends with 1 if one failed.

commands.py [FOLDER]: works in a folder of its own, and says of each command how it ended.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import backtest.cli.app as app

HERE = Path(__file__).resolve().parent


def ended(*words: str, encoding: str = "utf-8") -> tuple[object, str]:
    """Return the exit code of a command and what it wrote into pipes of an encoding."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app.main(list(words))
            code: object = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        except Exception:  # noqa: BLE001 - which a user would see as a traceback
            code, _ = "traceback", traceback.print_exc()
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    return code, "".join(texts)


def report(failed: list[str], name: str, code: object, said: str, fine: tuple[object, ...] = (0,)) -> None:
    """Print how a command ended, and note it if that was not as it should."""
    good = code in fine
    print(f"{'ok' if good else 'FAILED':>6}  {name}", flush=True)
    if not good:
        failed.append(name)
        print(f"exit code {code}:\n{said[-1500:]}", flush=True)


def tried(failed: list[str], *words: str, fine: tuple[object, ...] = (0,), encoding: str = "utf-8") -> str:
    """Run a command, and return what it wrote."""
    code, said = ended(*words, encoding=encoding)
    report(failed, " ".join(words) + (f"  ({encoding})" if encoding != "utf-8" else ""), code, said, fine)
    return said


def served(failed: list[str]) -> None:
    """Download by TWS' protocol from an emulator in another process."""
    command = [sys.executable, "-W", "ignore", "-m", "backtest", "emulator", "--store", "demo/store", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        port = process.stdout.readline().split(b":")[-1].strip().decode() if process.stdout else ""
        tried(
            failed, "download", "AAPL/1day", "--source", f"ib://127.0.0.1:{port}", "--store", "served", "--since",
            "2001-01-02", "--until", "2001-06-29",
        )  # fmt: skip
        process.terminate()


def main() -> int:
    """Run all commands in a new folder."""
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    failed: list[str] = []
    began = time.monotonic()
    tried(failed, "demo", "--out", "demo", "--store", "demo/store")
    store = ("--store", "demo/store")
    served(failed)
    tried(failed, "ls", *store, encoding="cp1252")
    tried(failed, "verify", *store, encoding="cp437")
    tried(failed, "export", "AAPL/1day", "aapl.csv", *store)
    tried(failed, "import", "aapl.csv", "AAPL/1day", "--store", "own")
    tried(failed, "pin", "AAPL/1day", *store)
    tried(failed, "pin", "--check", *store)
    Path("strategies").mkdir()
    text = (Path(app.__file__).parents[1] / "_bundled" / "strategies" / "sma_cross.py").read_text("utf-8")
    (Path("strategies") / "mine.py").write_text(text, "utf-8")
    file = str((Path("strategies") / "mine.py").resolve())
    dates = ("--since", "2004-01-02", "--until", "2008-12-31")
    for name, out in (("sma_cross", "one"), (str(Path("strategies") / "mine.py"), "two")):
        tried(failed, "run", name, "AAPL/1day", *dates, *store, "--out", f"runs/{out}")
    tried(failed, "compare", "one", "two", fine=(0, 1), encoding="cp1252")
    tried(failed, "validate", "one", *store, "--bootstrap", "20", fine=(0, 1), encoding="ascii")
    grid = ("--grid", "fast=5:15:5", "--jobs", "2", "--out", "sweep")
    tried(failed, "sweep", f"{file}:SmaCross", "AAPL/1day", *dates, *store, *grid)
    tried(failed, "baseline", "save", "two", *store)
    tried(failed, "baseline", "check", *store)
    tried(failed, "reproduce", "two", *store)
    tried(failed, "report", "two")
    tried(failed, "publish", Path("published").resolve().as_uri(), *store)
    tried(failed, "ls", "--store", Path("published").resolve().as_uri())
    tried(failed, "new", "momentum")
    tested = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd="momentum", capture_output=True, text=True, encoding="utf-8", errors="replace", check=False,
        stdin=subprocess.DEVNULL if sys.platform != "win32" else subprocess.PIPE,
    )  # fmt: skip
    report(failed, "the tests of a new folder", tested.returncode, tested.stdout + tested.stderr)
    print(f"{len(failed)} failed, in {time.monotonic() - began:,.0f} s")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
