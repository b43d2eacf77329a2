"""The tutorial is true; `python tests/test_tutorial.py` writes the output of its commands anew."""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from backtest.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"```(console|sh)\n(.*?)```", re.DOTALL)
WHO = {f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in (("NAME", "T"), ("EMAIL", "t@e"))}


def followed(text, folder):
    """Return the text of the page with what its commands say now, after doing all that it says in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return BLOCK.sub(lambda block: f"```{block[1]}\n{done(block[1], block[2])}```", text)
    finally:
        os.chdir(before)


def done(kind, text):
    """Return a block with what its commands say now; one that fails is followed by `echo $?`."""
    if kind == "sh":
        assert {command: code for command in text.splitlines() if (code := call(command)[0])} == {}
        return text
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    shown, code = "", 0
    for command in commands:
        assert not code or command == "echo $?"
        code, said = (0, f"{code}\n") if command == "echo $?" else call(command)
        shown += f"$ {command}\n" + "".join(f"{line.rstrip()}\n" for line in said.splitlines())
    assert code == 0
    return shown


def call(command):
    words = command.split()
    if words[0] == "pip":
        return 0, ""  # whoever tests has installed it
    if words[0] == "cd":
        os.chdir(words[1])
        return 0, ""
    if words[0] == "backtest":
        return called(words[1:])
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", command], env={**os.environ, **WHO, "PATH": scripts}, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def called(words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def test_what_the_tutorial_shows_is_what_happens(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    text = PAGE.read_text("utf-8")

    assert followed(text, tmp_path) == text


if __name__ == "__main__":
    os.environ |= {"NO_COLOR": "1", "COLUMNS": "80"}
    with tempfile.TemporaryDirectory() as place:
        PAGE.write_text(followed(PAGE.read_text("utf-8"), place), "utf-8")
