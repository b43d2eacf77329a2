"""Differences between Linux, macOS and Windows: locks, flushing to disk, files that other programs have open."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import subprocess
    from queue import SimpleQueue

_T = TypeVar("_T")

PATIENCE = 10.0
"""Seconds for which Windows is asked again for a file that another process has open, before that is an error."""

OPEN_FILES_STAY = sys.platform == "win32"
"""Whether a file cannot be removed as long as a process has it open."""

_ASKED_AGAIN = 0.005  # seconds between two tries to lock a file, where the system cannot wait for it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds, between two tries to open or replace a file
_LISTED_WITHIN, _INVALID_NAME = 1.0, 123  # seconds, and Windows' number of an error
_HEARD_AFTER = 0.5  # seconds after which a wait begins again: Windows handles Ctrl-C only between two waits

_STANDING_IN = "backtest.standing_in"  # how the error handler is called
_STAND_INS = {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": ".", "µ": "u", "█": "#", "▒": ":", "’": "'"}
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a system that lacks them has no such flag


def wait_for(items: SimpleQueue[_T]) -> _T:
    """
    Return the next item of a queue; Ctrl-C and other signals are heard meanwhile.

    For the main thread, in place of `concurrent.futures.wait` and `threading.Event.wait`: these are written in Python,
    and a signal between two of their steps can leave a lock taken, for which the thread that ends the wait then waits
    forever. A `SimpleQueue` is one step, and a signal handler may put an item into it.
    """
    from queue import Empty  # imported here, since most commands never wait

    while True:
        with contextlib.suppress(Empty):
            return items.get(timeout=_HEARD_AFTER)


def take_lock(handle: IO[Any], *, wait: bool = True) -> bool:
    """
    Lock an open file for this process until it is closed; the system frees the lock with the process, never stale.

    Not by `filelock`: it polls, so that of eight writers some wait for seconds while others get the lock. The kernels
    of Linux and macOS grant it in order of arrival. Windows has no such call for a file; there this function polls.

    Args:
        wait: whether to wait until its holder releases it; with False the call returns at once.

    Returns:
        Whether the lock is held now.
    """
    if sys.platform == "win32":
        return _take_byte(handle, wait)
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def opened_safely(path: str, flags: int) -> int:
    """
    Open a file, as an `opener` of `open`: refuse a link, and do not wait for a pipe in the file's place.

    Raises:
        OSError: ELOOP if it is a link.
    """
    if sys.platform == "win32" and is_link(Path(path)):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return opened_through_links(path, flags | getattr(os, "O_NOFOLLOW", 0))


def opened_through_links(path: str, flags: int) -> int:
    """Open a file, as an `opener` of `open`: do not wait for a pipe in the file's place."""
    # For a folder Windows reports "access denied", as for a file that another process is replacing.
    if sys.platform == "win32" and os.path.isdir(path):  # noqa: PTH112
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return patiently(lambda: os.open(path, flags | _NO_WAITING, 0o666))


def set_blocking(descriptor: int, blocking: bool) -> None:
    """Set whether reads and writes block, for files opened without blocking; Windows has no such files."""
    if sys.platform != "win32":
        os.set_blocking(descriptor, blocking)


def put_in_place(source: Path, target: Path) -> None:
    """Replace a file by another atomically; on Windows as soon as no process has it open."""
    patiently(lambda: source.replace(target))


def remove_file(path: Path, *, missing_ok: bool = False) -> None:
    """Remove a file; on Windows as soon as no process has it open."""
    patiently(lambda: path.unlink(missing_ok=missing_ok))


def patiently(do: Callable[[], _T]) -> _T:
    """
    Return the result of a call that opens, replaces or removes a file; on Windows retry it for `PATIENCE`.

    For a file that another process has open or is just replacing, Windows raises the same error as for missing
    permissions. Linux and macOS never do.
    """
    return tried_again(do, PATIENCE) if sys.platform == "win32" else do()


def list_patiently(do: Callable[[], _T]) -> _T:
    """
    Return the result of a call that lists a folder; on Windows retry it for a second.

    For a folder that another process is just removing, Windows raises "access denied", and Wine also "invalid name".
    """
    return tried_again(do, _LISTED_WITHIN, _INVALID_NAME) if sys.platform == "win32" else do()


def tried_again(do: Callable[[], _T], seconds: float, also: int | None = None) -> _T:
    """
    Return the result of a call, repeated while it is refused for lack of permission; in the end raise that error.

    Args:
        also: another error of Windows, by its number, that passes.
    """
    until, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return do()
        except OSError as error:
            passes = isinstance(error, PermissionError) or (also and getattr(error, "winerror", None) == also)
            if not passes or time.monotonic() >= until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def sync(descriptor: int) -> None:
    """Wait until what was written to an open file is on the disk; on macOS flush the disk's own cache too."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOTTY, errno.EINVAL):
                raise
        else:
            return
    os.fsync(descriptor)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows has no such call, and writes them in order."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def take_rights(handle: IO[Any], model: Path) -> None:
    """Give an open file the permissions of another one, if the system has them and lets us."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            mode = model.lstat().st_mode
            if stat.S_ISREG(mode):
                os.fchmod(handle.fileno(), stat.S_IMODE(mode))


def add_name(path: Path, second: Path) -> bool:
    """Give a file, or a link itself, a second name on the same disk; return whether the disk can do that."""
    try:
        if sys.platform == "win32":
            os.link(path, second)
        else:
            os.link(path, second, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        return False
    return True


def is_there(path: Path) -> bool:
    """
    Return whether a path exists, be it a link that leads nowhere.

    Unlike `os.path.lexists`, which returns False for every error: a file that the disk cannot show would count as
    absent, and be left behind, written over or reported as lost.

    Raises:
        OSError: the system cannot tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if getattr(error, "winerror", None) != _INVALID_NAME:  # which no file of Windows can have
            raise
        return False
    return True


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link, or a junction of Windows."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return leads_elsewhere(status)


def leads_elsewhere(status: os.stat_result) -> bool:
    """Return whether a file's status is that of a symbolic link or a junction."""
    if sys.platform == "win32" and status.st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT:
        return True
    return stat.S_ISLNK(status.st_mode)


def one_word(text: str) -> str:
    """Return a text quoted as one word for the current shell: sh, or cmd and PowerShell."""
    if sys.platform == "win32":
        return text if re.fullmatch(r"[\w./:\\+=-]+", text) else f'"{text}"'
    import shlex

    return shlex.quote(text)


def write_anything(*streams: Any) -> None:
    """Let streams replace characters that their encoding lacks, instead of raising an error."""
    import codecs

    codecs.register_error(_STANDING_IN, _stand_in)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors=_STANDING_IN)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    written = (_STAND_INS.get(one) or one.encode("ascii", "backslashreplace").decode() for one in letters)
    return "".join(written), error.end


def stop_signals() -> list[int]:
    """Return the signals that stop a program: Ctrl-C, SIGTERM, and Ctrl-Break of Windows."""
    if sys.platform == "win32":
        return [signal.SIGINT, signal.SIGTERM, signal.SIGBREAK]
    return [signal.SIGINT, signal.SIGTERM]


def end_family(process: subprocess.Popen[bytes]) -> None:
    """End a process that is the leader of its session, and the processes that it started."""
    if sys.platform == "win32":
        import subprocess

        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def kind_of_disk(folder: Path) -> str:
    """Return the kind of disk that holds a folder, such as ext4, NTFS or nfs; "" if unknown."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if sys.platform == "win32":
        import ctypes

        name = ctypes.create_unicode_buffer(64)
        root = f"{there.drive}\\"
        known = ctypes.WinDLL("kernel32").GetVolumeInformationW(root, None, 0, None, None, None, name, 64)
        return name.value if known else ""
    if sys.platform != "linux":
        return ""
    return _kind_in(Path("/proc/self/mounts").read_text("utf-8", "replace"), there.resolve())


def _kind_in(mounts: str, folder: Path) -> str:
    """Return the kind of the deepest mount that holds a folder, as /proc/self/mounts lists them."""
    rows = [[word.replace("\\040", " ") for word in line.split()] for line in mounts.splitlines()]
    holding = [(len(row[1]), at, row[2]) for at, row in enumerate(rows) if folder.is_relative_to(row[1])]
    return max(holding)[2] if holding else ""


def return_freed_memory() -> None:
    """Let the C library return freed memory to the system, if it is one that keeps some (glibc)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def free_memory() -> int | None:
    """Return how many bytes of memory a process may still use, on macOS the installed memory; None if unknown."""
    if sys.platform == "win32":
        return _free_of_windows()
    if sys.platform == "linux":
        group = Path("/sys/fs/cgroup")
        texts = [_text_if_any(path) for path in (Path("/proc/meminfo"), group / "memory.max", group / "memory.current")]
        return free_in(*texts)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def free_in(meminfo: str, most: str, taken: str) -> int | None:
    """Return the free bytes, by /proc/meminfo and by the memory limit and usage of a container, if it has one."""
    found = re.search(r"^MemAvailable: +([0-9]+) kB$", meminfo, re.MULTILINE)
    bounds = [int(found[1]) * 1024] if found else []
    if most.strip().isdecimal() and taken.strip().isdecimal():
        bounds.append(int(most) - int(taken))
    return min(bounds) if bounds else None


def _text_if_any(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


COPIES = hasattr(os, "fork")  # whether a process can be copied


def copied() -> int:
    """Fork this process: return 0 in the fork, and its process id in this one; only on systems with `COPIES`."""
    if sys.platform == "win32":
        raise OSError("Windows copies no process")
    return os.fork()


def is_administrator() -> bool:
    """Return whether this process has all permissions, as root on Linux, with which browsers refuse a sandbox."""
    return sys.platform != "win32" and os.geteuid() == 0


def is_running(number: int) -> bool:
    """Return whether a process with this number exists; True if that cannot be known."""
    if sys.platform == "win32":
        return _is_open(number)
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


if sys.platform == "win32":

    def _take_byte(handle: IO[Any], wait: bool) -> bool:
        import msvcrt

        while True:
            handle.seek(0)
            try:
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK, 0):  # Wine gives no number
                    raise
                if not wait:
                    return False
                time.sleep(_ASKED_AGAIN)
            else:
                return True

    def _free_of_windows() -> int | None:
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [
                ("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
                *((name, ctypes.c_ulonglong) for name in ("all", "free", "file", "left", "own", "own_left", "more")),
            ]  # fmt: skip

        status = Status(length=ctypes.sizeof(Status))
        known = ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.free) if known else None

    def _is_open(number: int) -> bool:
        # Not os.kill(number, 0), which on Windows sends Ctrl-C.
        import ctypes

        if number >= 1 << 32:  # no process has such a number
            return False
        query, invalid, still_active = 0x1000, 87, 259
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(query, False, number)
        if not handle:
            return ctypes.get_last_error() != invalid
        code = ctypes.c_ulong()
        known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return not known or code.value == still_active
