"""What the README shows is what happens; `python tests/test_readme.py` writes the output of its commands anew."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def console(block, folder):
    """Return the block with the output of each command as it is now."""
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"{command}\n{output(command[2:], folder)}" for command in commands)


def output(command, folder):
    words = shlex.split(command.replace("make demo", "backtest demo"))
    ran = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in ran.stdout.splitlines()) + "\n"


def workplace(folder):
    for name in ("data", "strategies"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_the_commands_print_what_the_readme_shows(tmp_path):
    folder = workplace(tmp_path)

    for block in CONSOLE.findall(README.read_text()):
        assert console(block, folder) == block


def test_the_python_of_the_readme_runs(tmp_path):
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]  # test_other_readers has the others

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace(tmp_path), capture_output=True, text=True, check=True
    )

    assert "Sharpe ratio" in ran.stdout
    assert "runs/readme/page/index.html" in ran.stdout
    assert len([line for line in code.splitlines() if line and not line.startswith("from")]) <= 12


def test_the_first_commands_of_the_readme_are_the_two_that_set_all_up():
    commands = re.findall(r"^(?:\$ )?(make \w+|backtest \w+|pip .*)", README.read_text(), re.MULTILINE)

    assert commands[:2] == ["make demo", "make test"]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        there = workplace(Path(place))
        README.write_text(CONSOLE.sub(lambda block: f"```console\n{console(block[1], there)}```", README.read_text()))
