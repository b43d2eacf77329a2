"""One function locks files for all that need it, on every system."""

import ast
from pathlib import Path

import backtest
from backtest.store.files import take_lock

PACKAGE = Path(backtest.__file__).parent


def test_a_lock_that_somebody_holds_is_not_had_until_it_is_let_go(tmp_path):
    path = tmp_path / "lock"

    with path.open("wb") as holder, path.open("wb") as other:
        first, second = take_lock(holder), take_lock(other, wait=False)
        holder.close()
        third = take_lock(other, wait=False)

    assert (first, second, third) == (True, False, True)


def test_no_other_file_knows_how_a_system_locks():
    knowing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import) and {name.name for name in node.names} & {"fcntl", "msvcrt", "filelock"}
    }

    assert knowing == {"store/files.py"}
