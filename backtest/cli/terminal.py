"""Text and tables in a terminal: messages on stderr, results on stdout, 80 columns."""

from __future__ import annotations

import atexit
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from backtest._system import stop_signals
from backtest.errors import BacktestError

if TYPE_CHECKING:
    from queue import SimpleQueue

    from rich.text import Text

_WIDTH = 80
_NARROWEST = 12  # columns of a text that is folded
_WIDE = 160  # columns of a row in a file or a pipe
_OUT, _ERR = 1, 2  # the descriptors of stdout and stderr
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"}
# Characters without width, or that change the direction of text: with them a name could look like another. Halves of
# surrogate pairs are included: file names that are not UTF-8 have them, and no stream accepts them.
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_LONGEST = 4000  # characters of a message, or of a line of a result
_MANY_ROWS = 500  # longer texts would take rich a long time
_LONGEST_CELL = 500  # characters of a cell of a table


def say(text: str) -> None:
    """Print a message on stderr, or nowhere if that is closed."""
    if sys.stderr is not None:
        with _unless_closed():
            print(harmless(shortened(text)), file=sys.stderr, flush=True)


@contextmanager
def _unless_closed() -> Iterator[None]:
    """Ignore a stream that is closed, as an object or, as a strategy can do, by its descriptor."""
    try:
        yield
    except ValueError:
        if not sys.stderr.closed:
            raise
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def give(text: str) -> None:
    """Print a result on stdout; a line too long to read is cut."""
    _give("\n".join(map(shortened, text.split("\n"))) if len(text) > _LONGEST else text)


def _give(text: str) -> None:
    if _held is None:
        print(harmless(text), flush=True)
    else:
        _held.append(text)


_held: list[str] | None = None  # results that wait for the end of `results_alone`


@contextmanager
def results_alone() -> Iterator[None]:
    """
    Send what strategies and libraries write to stdout to stderr; print only the results to stdout, at the end.

    So stdout holds one valid document, whatever a strategy prints: by `print`, by logging, by the descriptor, in a
    process that it starts, or when Python exits.
    """
    global _held
    out, kept = sys.stdout, _lead_to_stderr()
    _held, sys.stdout = [], _ToPeople()
    try:
        yield
    finally:
        texts, _held = _held, None
        for stream in (out, sys.__stdout__):  # what was written to them still has to go to stderr
            if stream is not None and not stream.closed:
                stream.flush()
        if kept is not None:
            os.dup2(kept, _OUT)
            os.close(kept)
        sys.stdout = out
        for text in texts:
            _give(text)
        atexit.unregister(_speak_to_people)
        atexit.register(_speak_to_people)  # before what a strategy registered, since the last comes first


class _ToPeople(io.TextIOBase):
    """A stdout that writes to stderr; closing it does not close stderr."""

    @property
    def buffer(self) -> BinaryIO | io.BytesIO:
        """The byte stream below stderr."""
        return sys.stderr.buffer if sys.stderr is not None else io.BytesIO()

    def write(self, text: str) -> int:
        """Write to stderr, if there is one."""
        return sys.stderr.write(text) if sys.stderr is not None else len(text)

    def flush(self) -> None:
        """Flush stderr."""
        if sys.stderr is not None:
            sys.stderr.flush()

    def fileno(self) -> int:
        """Return the descriptor of stderr."""
        return sys.stderr.fileno()

    def isatty(self) -> bool:
        """Return whether stderr is a terminal."""
        return sys.stderr is not None and sys.stderr.isatty()

    def writable(self) -> bool:
        """Return that the stream can be written."""
        return True


def _lead_to_stderr() -> int | None:
    """Redirect the descriptor of stdout to stderr, and return a copy of the original one; None if either is closed."""
    with suppress(OSError):
        kept = os.dup(_OUT)
        try:
            os.dup2(_ERR, _OUT)
        except OSError:
            os.close(kept)
            raise
        return kept
    return None


def _speak_to_people() -> None:
    sys.stdout = _ToPeople()
    with suppress(OSError):
        os.dup2(_ERR, _OUT)


def give_json(value: dict[str, Any]) -> None:
    """Print a result as JSON."""
    global _documents
    _documents += 1
    _give(json.dumps(value, indent=1, allow_nan=False))


_documents = 0  # given so far in this process


def documents_given() -> int:
    """Return how many documents were printed so far."""
    return _documents


def failure_of(error: BaseException) -> tuple[str, int]:
    """Return the message for an error that ends a command, and the exit code."""
    text, code = _failure_of(error)
    return shortened(text), code


def _failure_of(error: BaseException) -> tuple[str, int]:
    if isinstance(error, BacktestError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        cure = "create the folder or choose" if isinstance(error, FileNotFoundError) else "free space or choose"
        return f"{where}{error.strerror or error}; {cure} another place, then run this again", 1
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; name a smaller file or fewer bars, or use a larger machine", 1
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; stored bars are kept; run this again to resume", 130
    return f"{type(error).__name__}: {error}", 1


@contextmanager
def stopped_by_term() -> Iterator[None]:
    """During the block, treat SIGTERM, which services and `timeout` send, and Ctrl-Break on Windows like Ctrl-C."""
    import signal
    import threading

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
        yield
        return
    others = [number for number in stop_signals() if number != signal.SIGINT]
    before = {number: signal.signal(number, interrupt) for number in others}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def give_table(columns: tuple[str, ...], rows: list[list[str]], limit: int = 0) -> None:
    """
    Print a table; columns of numbers are right-aligned, and never cut or folded.

    If the width is too small, texts are folded; if that is not enough, the table exceeds the width.

    Args:
        limit: the maximum width; `width()` if not given.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = [[shortened(cell, _LONGEST_CELL) for cell in row] for row in rows]
    if len(rows) > _MANY_ROWS and _give_plainly(columns, rows, limit or width()):
        return
    numbers = [_is_number(columns, rows, n) for n in range(len(columns))]
    widths = _column_widths(columns, rows, numbers, limit or width())
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, collapse_padding=True)
    for name, number, wide in zip(columns, numbers, widths, strict=True):
        table.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold", width=wide)
    for row in rows:
        table.add_row(*map(unmarked, row))
    Console(width=max(width(), sum(widths) + len(widths) - 1), highlight=False).print(table)


def _give_plainly(columns: tuple[str, ...], rows: list[list[str]], limit: int) -> bool:
    """Print a table of many rows as `rich` would without colours; return False if something has to be folded."""
    widths = _natural_widths(columns, rows)
    if sum(widths) + len(widths) - 1 > limit or any("\n" in cell for row in rows for cell in row):
        return False
    right = [_is_number(columns, rows, n) for n in range(len(columns))]
    lines = [[*columns], *([harmless(cell) for cell in row] for row in rows)]
    head, *texts = (" ".join(_padded(*cell) for cell in zip(line, widths, right, strict=True)) for line in lines)
    sys.stdout.write("\n".join([head, "─" * len_of(head), *texts, ""]))
    return True


def _padded(text: str, wide: int, right: bool) -> str:
    room = " " * (wide - len_of(text))
    return f"{room}{text}" if right else f"{text}{room}"


def len_of(text: str) -> int:
    """Return the width of a text on a terminal, in columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wide() -> int:
    """Return the width of a row that other programs search: that of the terminal, 160 without one."""
    return width() if sys.stdout.isatty() else _WIDE


def table_width(columns: tuple[str, ...], rows: list[list[str]]) -> int:
    """Return the width of a table in which nothing is folded."""
    return sum(_natural_widths(columns, rows)) + len(columns) - 1


def _is_number(columns: tuple[str, ...], rows: list[list[str]], n: int) -> bool:
    right = bool(rows) and all(row[n][:1] in "-–<0123456789" for row in rows)
    return right and "-" not in rows[0][n][1:]


def _column_widths(columns: tuple[str, ...], rows: list[list[str]], numbers: list[bool], limit: int) -> list[int]:
    """Return the widths of columns: texts share the width that numbers leave; the widest shrinks first."""
    widths = _natural_widths(columns, rows)
    texts = [n for n, number in enumerate(numbers) if not number]
    while sum(widths) + len(widths) - 1 > limit:
        widest = max(texts, key=lambda n: widths[n], default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _natural_widths(columns: tuple[str, ...], rows: list[list[str]]) -> list[int]:
    lines = [[line for text in {name, *(row[n] for row in rows)} for line in harmless(text).splitlines()]
             for n, name in enumerate(columns)]  # fmt: skip
    return [max(map(len_of, column), default=0) for column in lines]


def unmarked(text: str) -> Text:
    """Return the text unchanged: square brackets in it are not markup for rich."""
    from rich.text import Text

    return Text(harmless(shortened(text, _LONGEST_CELL)), overflow="fold")


def wrapped(text: str) -> str:
    """Return the text in lines of 80 columns."""
    import textwrap

    return textwrap.fill(shortened(text), _WIDTH, break_on_hyphens=False)


def width() -> int:
    """Return the width of the terminal, 80 without one."""
    import shutil

    return max(shutil.get_terminal_size().columns, 40) if sys.stdout.isatty() else _WIDTH


def harmless(text: str) -> str:
    """
    Return the text with characters escaped that are invisible or change how others look.

    A name from elsewhere could move the cursor by control characters, or pass for another name by direction marks and
    zero-width characters.
    """
    return _HIDDEN.sub(_escaped, text.translate(_CONTROLS))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def shortened(text: str, most: int = _LONGEST) -> str:
    """Return the text, or the beginning and end of a long one; the end says what to do."""
    if len(text) <= most:
        return text
    begin, end = most * 3 // 4, most // 4
    return f"{text[:begin]} ... {len(text) - begin - end:,} characters more ... {text[-end:]}"


def signalled() -> SimpleQueue[int]:
    """Return a queue that receives Ctrl-C, SIGTERM or Ctrl-Break from now on, instead of ending the process."""
    import signal
    from queue import SimpleQueue

    signals: SimpleQueue[int] = SimpleQueue()
    for number in stop_signals():
        signal.signal(number, lambda number, _: signals.put(number))
    return signals
