"""What differs between systems is known to one file; here what of it can be seen on the one at hand."""

import ast
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
from rights import shown_by_no_disk

import backtest
from backtest import _system
from backtest._system import (
    _kind_in,
    add_name,
    free_in,
    free_memory,
    is_link,
    is_running,
    is_there,
    opened_safely,
    patiently,
    put_in_place,
    take_lock,
    tried_again,
    wait_for,
)
from backtest.cli.terminal import signalled, stop_signals
from backtest.runs import kept
from backtest.store import layout

PACKAGE = Path(backtest.__file__).parent
OURS = PACKAGE / "_system.py"
OF_ONE_SYSTEM = {"fcntl", "msvcrt", "filelock", "resource", "pwd", "grp", "termios", "_winapi", "winreg"}
OF_ONE_SYSTEM_IN_OS = {
    "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_DIRECTORY", "O_CLOEXEC", "fork", "forkpty", "fsync", "fdatasync", "link",
    "symlink", "kill", "getuid", "geteuid", "getpgid", "setsid", "startfile", "mkfifo", "statvfs",
}  # fmt: skip
OPENING = {"open", "read_text", "write_text"}  # which use the machine's encoding if none is named
WITHOUT_TEXT = {
    ("os", "open"), ("webbrowser", "open"), ("socket", "open"), ("scheme", "open"), ("tarfile", "open"),
    ("archive", "open"),  # of a zip, whose files are bytes
}  # fmt: skip


def code():
    """Yield each file of the package and each node of it, templates and strategies among them."""
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "strategies").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            yield path, node


def place(path, node):
    return f"{path.relative_to(PACKAGE.parent).as_posix()}:{node.lineno}"


def test_a_lock_that_somebody_holds_is_not_had_until_it_is_let_go(tmp_path):
    path = tmp_path / "lock"

    with path.open("wb") as holder, path.open("wb") as other:
        first, second = take_lock(holder), take_lock(other, wait=False)
        holder.close()
        third = take_lock(other, wait=False)

    assert (first, second, third) == (True, False, True)


MEMINFO = "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:   1500 kB\n"


@pytest.mark.parametrize(
    ("texts", "free"),
    [
        ((MEMINFO, "", ""), 1500 * 1024),
        ((MEMINFO, "max\n", "300\n"), 1500 * 1024),
        ((MEMINFO, "1000\n", "300\n"), 700),
        (("", "1000", "300"), 700),
        (("nothing", "", ""), None),
    ],
)
def test_what_is_free_is_what_both_machine_and_container_leave(texts, free):
    assert free_in(*texts) == free


def test_this_machine_says_what_is_free():
    assert 1 << 20 < (free_memory() or 0) < 1 << 50


@pytest.mark.slow
def test_no_other_file_knows_the_calls_of_one_system():
    knowing = [
        place(path, node)
        for path, node in code()
        if path != OURS
        if (isinstance(node, ast.Import) and {name.name for name in node.names} & OF_ONE_SYSTEM)
        or (isinstance(node, ast.ImportFrom) and node.module in OF_ONE_SYSTEM)
        or (isinstance(node, ast.Attribute) and node.attr in OF_ONE_SYSTEM_IN_OS and ast.unparse(node.value) == "os")
    ]

    assert knowing == []


@pytest.mark.slow
def test_every_text_file_is_opened_by_its_encoding():
    unnamed = [
        place(path, node) for path, node in code() if isinstance(node, ast.Call) and opens_as_the_machine_does(node)
    ]

    assert unnamed == []


def opens_as_the_machine_does(call):
    """Return whether a call opens a file for text and names no encoding."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if (
        name not in OPENING
        or (isinstance(function, ast.Name) and name != "open")
        or any(word.arg == "encoding" for word in call.keywords)
    ):
        return False
    owner = ast.unparse(function.value).split(".")[-1] if isinstance(function, ast.Attribute) else ""
    if (owner, name) in WITHOUT_TEXT:
        return False
    words = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if name == "read_text":
        return not words
    if name == "write_text":
        return len(call.args) < 2
    modes = [*words, *(word.value.value for word in call.keywords if word.arg == "mode")]
    return not any("b" in mode for mode in modes)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('open("a")', True),
        ('open("a", "w", encoding="utf-8")', False),
        ('open(path, "rb")', False),
        ("path.open()", True),
        ("path.read_text()", True),
        ('path.read_text("utf-8")', False),
        ("path.write_text(text)", True),
        ('path.write_text(text, "utf-8")', False),
        ("os.open(path, 0)", False),
        ("path.open(mode='wb')", False),
    ],
)
def test_what_opens_text_is_told_from_what_does_not(text, found):
    assert opens_as_the_machine_does(ast.parse(text).body[0].value) is found


def test_what_is_refused_for_a_while_is_done_in_the_end():
    refusals = iter([PermissionError(), PermissionError(), None])

    def refused_twice():
        if error := next(refusals):
            raise error
        return "done"

    assert tried_again(refused_twice, 10.0) == "done"


@pytest.mark.parametrize(("number", "result"), [(123, "done"), (267, None)])
def test_another_error_of_windows_passes_if_it_is_named(number, result):
    passing = OSError(22, "Invalid name", "bars")
    passing.winerror = number
    errors = iter([passing, None])

    def listed():
        if error := next(errors):
            raise error
        return "done"

    if result is None:
        with pytest.raises(OSError, match="Invalid name"):
            tried_again(listed, 10.0, 123)
    else:
        assert tried_again(listed, 10.0, 123) == result


@pytest.mark.parametrize("listed", [layout.files_in, layout.folders_of_series, kept.state_of])
def test_windows_is_asked_again_for_a_folder_that_is_just_being_removed(tmp_path, monkeypatch, listed):
    (tmp_path / "AAPL-STK-SMART-USD" / "1day" / "TRADES" / "rth" / "bars").mkdir(parents=True)
    (tmp_path / "spec.json").write_text("{}")
    (tmp_path / "AAPL-STK-SMART-USD/1day/TRADES/rth/manifest.json").write_text("{}")
    expected, tries, scandir = listed(tmp_path), [], os.scandir

    def refused_at_first(folder):
        tries.append(folder)
        if len(tries) == 1:
            raise PermissionError(13, "Access is denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(_system, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(os, "scandir", refused_at_first)

    assert listed(tmp_path) == expected
    assert expected
    assert tries[:2] == [tries[0]] * 2


def test_what_is_refused_for_good_is_raised_after_the_seconds():
    tries = []

    def refused():
        tries.append(1)
        raise PermissionError(13, "Permission denied", "bars")

    with pytest.raises(PermissionError, match="bars"):
        tried_again(refused, 0.02)
    assert len(tries) > 1


def test_another_error_is_raised_at_once():
    tries = []

    def missing():
        tries.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        tried_again(missing, 10.0)
    assert tries == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses for a while, too")
def test_a_lack_of_rights_is_told_at_once_where_no_other_process_can_be_its_cause():
    tries = []

    def refused():
        tries.append(1)
        raise PermissionError

    with pytest.raises(PermissionError):
        patiently(refused)
    assert tries == [1]


def test_a_file_takes_the_place_of_another(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).write_bytes(name.encode())

    put_in_place(tmp_path / "new", tmp_path / "old")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old", b"new")]


def test_a_second_name_is_of_the_same_file(tmp_path):
    (tmp_path / "first").write_bytes(b"bars")

    assert add_name(tmp_path / "first", tmp_path / "second")
    assert (tmp_path / "first").samefile(tmp_path / "second")


def test_a_folder_opened_as_a_file_is_named_as_one(tmp_path):
    with pytest.raises(IsADirectoryError), open(tmp_path, "rb", opener=opened_safely):
        pass


def test_a_link_is_told_from_what_it_leads_to(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    try:
        (tmp_path / "link").symlink_to(tmp_path / "file")
    except OSError:
        pytest.skip("this user of Windows may make no links")
    if not (tmp_path / "link").is_symlink():
        pytest.skip("Wine 8 makes no links that Python could tell")

    assert [is_link(tmp_path / name) for name in ("file", "link", "missing")] == [False, True, False]
    with pytest.raises(OSError, match="link"), open(tmp_path / "link", "rb", opener=opened_safely):
        pass


def test_a_file_that_cannot_be_looked_at_is_not_absent(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with shown_by_no_disk("broken"):
        assert [is_there(tmp_path / name) for name in ("file", "missing", "file/below")] == [True, False, False]
        with pytest.raises(OSError, match="broken"):
            is_there(tmp_path / "broken")


def test_a_process_that_ended_is_told_from_one_that_runs():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        running = is_running(process.pid)
        process.communicate()

    assert (running, is_running(process.pid), is_running(os.getpid())) == (True, False, True)
    assert not is_running(2**40)


def test_the_kind_of_a_disk_is_that_of_the_deepest_mount():
    mounts = "a / ext4 rw 0 0\nb /mnt/my\\040share nfs4 rw 0 0\nc /mnt ext3 rw 0 0\n"

    kinds = [_kind_in(mounts, Path(folder)) for folder in ("/mnt/my share/bars", "/mnt/x", "/home")]

    assert kinds == ["nfs4", "ext3", "ext4"]


@pytest.mark.parametrize("step", range(1, 13))
def test_an_interrupt_at_any_step_of_a_wait_leaves_no_lock_taken(step, monkeypatch):
    monkeypatch.setattr("backtest._system._HEARD_AFTER", 0.001)
    future, items = Future(), SimpleQueue()
    future.add_done_callback(items.put)

    with pytest.raises(KeyboardInterrupt):
        interrupted(step, lambda: wait_for(items))

    another = threading.Thread(target=future.set_result, args=(1,), daemon=True)
    another.start()
    another.join(30)
    assert not another.is_alive()  # as it is after step 7 of `concurrent.futures.wait`
    assert wait_for(items).result() == 1


def interrupted(step, call):
    """Call a function, and raise KeyboardInterrupt at a step of it, by lines of Python."""
    seen = []

    def trace(frame, event, argument):
        if event == "line":
            seen.append(frame)
            if len(seen) == step:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(before)


def test_a_signal_ends_a_wait_whatever_it_interrupts():
    before = {number: signal.getsignal(number) for number in stop_signals()}
    try:
        signals = signalled()
        for number in before:
            signal.raise_signal(number)
            assert wait_for(signals) == number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_nobody_waits_by_what_an_interrupt_leaves_locked():
    found = [
        place(path, node)
        for path, node in code()
        if isinstance(node, ast.ImportFrom) and node.module == "concurrent.futures"
        for name in node.names
        if name.name in ("wait", "as_completed")
    ]

    assert found == []
