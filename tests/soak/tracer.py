"""
Run code in a child process and intercept each of its file system calls: observe, kill, fail, or cut a write short.

Only on Linux on x86-64: a seccomp filter stops the child at the calls of `_CALLS`, and ptrace reads and changes them.
Nothing is installed, compiled or patched, and the child is what a user runs. Threads and children are followed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACKNOWLEDGE = "acknowledge"  # the name of a write to the pipe that `acknowledge` writes to


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is about to be made: its name, the paths it concerns, and what it would write."""

    name: str
    paths: tuple[str, ...]
    flags: int = 0
    data: bytes = b""
    result: int = 0  # known only to `after`

    @property
    def changes(self) -> bool:
        """Whether the call may need room or permission to write."""
        return self.name in _CHANGING or (self.name in ("open", "openat") and bool(self.flags & _WRITE_FLAGS))


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process, with all its threads, before the call."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Do not make the call; it ends with this error number."""

    errno: int


@dataclass(frozen=True, slots=True)
class Shorten:
    """Write only so many bytes."""

    count: int


Judgement = Kill | Fail | Shorten | None
Judge = Callable[[Call], Judgement]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code, or minus the signal; what it acknowledged; whether it hung."""

    code: int
    acknowledged: tuple[str, ...]
    hung: bool


def require_linux() -> None:
    """
    Check that this machine can be traced.

    Raises:
        RuntimeError: it is not Linux on x86-64.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise RuntimeError(f"the tracer knows Linux on x86-64, not {sys.platform} on {platform.machine()}")


def acknowledge(text: str) -> None:
    """Report, in a traced child, that something is done; the text has no newline."""
    os.write(_pipe, text.encode() + b"\n")


def trace(
    act: Callable[[], object],
    root: Path,
    judge: Judge = lambda call: None,
    after: Callable[[Call], None] | None = None,
    *,
    seconds: float = 60.0,
) -> Ended:
    """
    Run `act` in a forked child; pass each call on a path below the root to `judge`, and to `after` once it is made.

    Args:
        act: an integer that it returns is the exit code; an exception that it does not catch is 99.
        seconds: a child that takes longer is killed, and has hung.

    Raises:
        PermissionError: this machine does not let a process trace its child.
    """
    require_linux()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_traced(act, writing)
    traced = _Traced(child, root, str(Path(f"/proc/self/fd/{writing}").readlink()), judge, after)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, _alarm(child, seconds) as rang:
        code = traced.run()
        said = tuple(line.decode() for line in pipe.read().splitlines())
    return Ended(code, said, bool(rang))


# --- the child

_pipe = -1


def _be_traced(act: Callable[[], object], writing: int) -> None:
    global _pipe
    code = 98
    try:
        _pipe = writing
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(_libc.ptrace(_PTRACE_TRACEME, 0, 0, 0))
        os.kill(os.getpid(), signal.SIGSTOP)
        _install_filter()
        code = 99
        done = act()
        code = done if isinstance(done, int) else 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001 - whatever it is, the exit code says so and the trace is shown
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _install_filter() -> None:
    """Let the kernel stop this process, its threads and children at the calls of `_CALLS` and no others."""
    numbers = sorted(number for number, _ in _CALLS.values())
    rows = [(0x20, 0, 0, 0)]  # load the number of the call
    rows += [(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]  # equal: to the end
    rows += [(0x06, 0, 0, _SECCOMP_RET_ALLOW), (0x06, 0, 0, _SECCOMP_RET_TRACE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in rows))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(rows), ctypes.addressof(code)))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(program), 0, 0))


# --- the tracer


class _Traced:
    """A child under ptrace, until it and all that it started have ended."""

    def __init__(self, child: int, root: Path, pipe: str, judge: Judge, after: Callable[[Call], None] | None) -> None:
        self._child, self._root, self._pipe = child, str(root.resolve()), pipe
        self._judge, self._after = judge, after
        self._inside: dict[int, Call] = {}  # by thread: a call under way
        self._code = 0
        self._new: set[int] = set()

    def run(self) -> int:
        _, status = os.waitpid(self._child, 0)
        if not os.WIFSTOPPED(status):
            raise PermissionError("this machine does not let a process trace its child; allow ptrace to test crashes")
        _check(_libc.ptrace(_PTRACE_SETOPTIONS, self._child, 0, _OPTIONS))
        self._go(self._child, _PTRACE_CONT)
        living = {self._child}
        while living:
            try:
                task, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                break
            living.add(task)
            if os.WIFSTOPPED(status):
                self._stopped(task, status)
                continue
            living.discard(task)
            if task == self._child:
                self._code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self._code

    def _stopped(self, task: int, status: int) -> None:
        number, event = os.WSTOPSIG(status), status >> 16
        if event == _EVENT_SECCOMP:
            self._go(task, self._enter(task))
        elif number == signal.SIGTRAP | 0x80:
            self._leave(task)
            self._go(task, _PTRACE_CONT)
        elif event or (number == signal.SIGSTOP):
            self._go(task, _PTRACE_CONT)  # a new thread or child, an exec
        else:
            self._go(task, _PTRACE_CONT, number)

    def _enter(self, task: int) -> int:
        """Judge the call that a thread is about to make, and return how it continues."""
        registers = _registers(task)
        call = _call_of(task, registers, self._root, self._pipe)
        if call is None:
            return _PTRACE_CONT
        verdict = self._judge(call)
        match verdict:
            case Kill():
                os.kill(self._child, signal.SIGKILL)
            case Fail(errno=errno):
                registers[_ORIG_RAX] = -1
                registers[_RAX] = -errno
                _set_registers(task, registers)
                return _PTRACE_CONT
            case Shorten(count=count):
                registers[_RDX] = count
                _set_registers(task, registers)
        if self._after is None or isinstance(verdict, Kill):
            return _PTRACE_CONT
        self._inside[task] = call
        return _PTRACE_SYSCALL

    def _leave(self, task: int) -> None:
        call = self._inside.pop(task)
        result = ctypes.c_long(_registers(task)[_RAX]).value
        assert self._after is not None
        self._after(Call(call.name, call.paths, call.flags, call.data, result))

    def _go(self, task: int, how: int, number: int = 0) -> None:
        if _libc.ptrace(how, task, 0, number) and ctypes.get_errno() != _ESRCH:  # killed meanwhile
            _check(-1)


def _call_of(task: int, registers: ctypes.Array[ctypes.c_long], root: str, pipe: str) -> Call | None:
    """Return the call that a stopped thread is about to make; None if it does not concern the root."""
    name, shape = _BY_NUMBER[registers[_ORIG_RAX]]
    arguments = [registers[place] for place in _ARGUMENTS]
    if name == "newfstatat" and arguments[3] & _AT_EMPTY_PATH:
        name, shape = "fstat", ("f0",)  # as the C library spells it
    try:
        paths = tuple(_path(task, kind, arguments) for kind in shape)
    except OSError:
        return None  # a descriptor that is none
    if name in ("write", "writev") and paths == (pipe,):
        return Call(ACKNOWLEDGE, (), 0, _written(task, name, arguments))
    if not any(path == root or path.startswith(root + "/") for path in paths):
        return None
    flags = ctypes.c_int(arguments[1 if name == "open" else 2]).value if name in ("open", "openat") else 0
    flags = os.O_WRONLY | os.O_CREAT if name == "creat" else flags
    return Call(name, paths, flags, _written(task, name, arguments) if name in _WRITES else b"")


def _path(task: int, kind: str, arguments: list[int]) -> str:
    """Return the path that arguments mean: f0 is a descriptor, p0 a path, d0 a folder's descriptor and a path."""
    place = int(kind[1])
    if kind[0] == "f":
        return os.readlink(f"/proc/{task}/fd/{ctypes.c_int(arguments[place]).value}")  # noqa: PTH115 - hot
    text = _string(task, arguments[place + (kind[0] == "d")])
    if text.startswith("/"):
        return os.path.normpath(text)
    folder = ctypes.c_int(arguments[place]).value if kind[0] == "d" else _AT_FDCWD
    where = f"/proc/{task}/cwd" if folder == _AT_FDCWD else f"/proc/{task}/fd/{folder}"
    return os.path.normpath(f"{Path(where).readlink()}/{text}")


def _written(task: int, name: str, arguments: list[int]) -> bytes:
    if name in ("write", "pwrite64"):
        return _memory(task, arguments[1], arguments[2])
    if name != "writev":
        return b""
    table = _memory(task, arguments[1], 16 * arguments[2])
    return b"".join(_memory(task, place, size) for place, size in struct.iter_unpack("<QQ", table))


def _string(task: int, place: int) -> str:
    text = b""
    while place and b"\0" not in text:
        text += _memory(task, place + len(text), 256 - (place + len(text)) % 256)  # never over the end of a page
    return os.fsdecode(text.partition(b"\0")[0])


def _memory(task: int, place: int, size: int) -> bytes:
    with open(f"/proc/{task}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - hot
        memory.seek(place)
        return memory.read(size)


def _registers(task: int) -> ctypes.Array[ctypes.c_long]:
    registers = (ctypes.c_long * 27)()
    _check(_libc.ptrace(_PTRACE_GETREGS, task, 0, ctypes.addressof(registers)), of=task)
    return registers


def _set_registers(task: int, registers: ctypes.Array[ctypes.c_long]) -> None:
    _check(_libc.ptrace(_PTRACE_SETREGS, task, 0, ctypes.addressof(registers)), of=task)


@contextmanager
def _alarm(child: int, seconds: float) -> Iterator[list[int]]:
    rang: list[int] = []

    def ring(number: int, frame: object) -> None:
        rang.append(child)
        os.kill(child, signal.SIGKILL)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield rang
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _check(result: int, of: int = 0) -> None:
    if result and not (of and ctypes.get_errno() == _ESRCH):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# --- numbers of Linux on x86-64, from its headers

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_PTRACE_TRACEME, _PTRACE_CONT, _PTRACE_SYSCALL, _PTRACE_SETOPTIONS = 0, 7, 24, 0x4200
_PTRACE_GETREGS, _PTRACE_SETREGS = 12, 13
# Stops at calls are told from signals; forks, threads, execs and the filter's calls stop; children end with us.
_OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x00100000
_EVENT_SECCOMP = 7
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_RET_ALLOW, _SECCOMP_RET_TRACE = 0x7FFF0000, 0x7FF00000
_WALL = 0x40000000
_ESRCH = 3
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_RAX, _RDX, _ORIG_RAX = 10, 12, 15
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9
_CALLS: dict[str, tuple[int, tuple[str, ...]]] = {
    "read": (0, ("f0",)), "write": (1, ("f0",)), "open": (2, ("p0",)), "close": (3, ("f0",)), "stat": (4, ("p0",)),
    "fstat": (5, ("f0",)), "lstat": (6, ("p0",)), "pread64": (17, ("f0",)), "pwrite64": (18, ("f0",)),
    "readv": (19, ("f0",)), "writev": (20, ("f0",)), "access": (21, ("p0",)), "sendfile": (40, ("f0", "f1")),
    "flock": (73, ("f0",)), "fsync": (74, ("f0",)), "fdatasync": (75, ("f0",)), "truncate": (76, ("p0",)),
    "ftruncate": (77, ("f0",)), "rename": (82, ("p0", "p1")), "mkdir": (83, ("p0",)), "rmdir": (84, ("p0",)),
    "creat": (85, ("p0",)), "link": (86, ("p0", "p1")), "unlink": (87, ("p0",)), "symlink": (88, ("p1",)),
    "readlink": (89, ("p0",)), "chmod": (90, ("p0",)), "fchmod": (91, ("f0",)), "getdents64": (217, ("f0",)),
    "openat": (257, ("d0",)), "mkdirat": (258, ("d0",)), "newfstatat": (262, ("d0",)), "unlinkat": (263, ("d0",)),
    "renameat": (264, ("d0", "d2")), "linkat": (265, ("d0", "d2")), "symlinkat": (266, ("d1",)),
    "readlinkat": (267, ("d0",)), "fchmodat": (268, ("d0",)), "faccessat": (269, ("d0",)),
    "utimensat": (280, ("d0",)), "fallocate": (285, ("f0",)), "renameat2": (316, ("d0", "d2")),
    "copy_file_range": (326, ("f0", "f2")), "statx": (332, ("d0",)), "openat2": (437, ("d0",)),
    "faccessat2": (439, ("d0",)),
}  # fmt: skip
_BY_NUMBER = {number: (name, shape) for name, (number, shape) in _CALLS.items()}
_WRITES = ("write", "pwrite64", "writev")
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGING = frozenset(
    (*_WRITES, "creat", "sendfile", "fsync", "fdatasync", "truncate", "ftruncate", "rename", "renameat", "renameat2",
     "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir", "chmod", "fchmod",
     "fchmodat", "utimensat", "fallocate", "copy_file_range")
)  # fmt: skip
