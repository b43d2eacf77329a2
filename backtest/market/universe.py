"""`Universe`: the members of a market, such as an index, by session; from a table or a file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest import _arguments
from backtest.errors import UsageError, quoted, reason
from backtest.market.series import Instrument, Series, refuse_made
from backtest.market.span import session_of

if TYPE_CHECKING:
    import pyarrow as pa

_EXAMPLE = (
    "write the path of a CSV or Parquet file with the columns symbol, from, to (and delisting_return), or with date "
    "and a column for each symbol; in Python, a table with such columns also works"
)
_DIGEST = "sha256:"
_MOST_CELLS = 20_000_000  # of a Parquet file: 10,000 symbols on each of 2,000 sessions
_LONGEST_NAME = 60  # characters of a column in an error
_SHOWN = 16  # digits of a digest in a spec: no two universes share them in practice
_NAMES, _STRETCH, _RETURN = ("symbol", "series"), ("from", "to"), "delisting_return"
_DATE, _TIME = "date", "time"  # of a matrix: a user's own, and that of `Store.panel`
_INDEX = "__index_level_0__"  # as pandas writes an index without a name; as CSV, "" in front of all others
_YES, _NO = ("true", "yes", "t", "y"), ("false", "no", "f", "n")
_MISSING = ("nan", "nat", "na", "n/a", "<na>", "null", "none")  # as pandas and others write an empty cell


@dataclass(frozen=True, slots=True)
class Membership:
    """A range of sessions, both included, in which a name belonged; None for an open start or end."""

    series: Series
    first: date | None = None
    last: date | None = None
    delisting_return: float | None = None  # the return on the last close when its bars ended; -1 is a total loss


@dataclass(frozen=True, slots=True)
class Universe:
    """
    Index membership: which names belonged in which sessions; see `universe_of`. Iterating it yields all their series.

    Attributes:
        name: the name of the file, "" for a table.
        rows: the memberships by name and date; a name may have several.
    """

    name: str
    rows: tuple[Membership, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of names and dates, whatever the format of the file."""
        return hashlib.sha256(json.dumps(self._plain).encode()).hexdigest()

    @property
    def text(self) -> str:
        """The text that identifies it in a spec."""
        return f"{_DIGEST}{self.digest[:_SHOWN]}"

    @property
    def series(self) -> tuple[Series, ...]:
        """Every series that ever belonged; for a symbol without a bar size, its daily bars."""
        return tuple(dict.fromkeys(one.series for one in self.rows))

    def __iter__(self) -> Iterator[Series]:
        return iter(self.series)

    @property
    def by_instrument(self) -> dict[Instrument, tuple[Membership, ...]]:
        """The memberships of each name, in order of time."""
        return {name: tuple(rows) for name, rows in groupby(self.rows, key=lambda one: one.series.instrument)}

    @property
    def document(self) -> dict[str, Any]:
        """The universe as JSON types, which `Universe.read` accepts."""
        return {"name": self.name, "sha256": self.digest, "rows": self._plain}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Universe:
        """
        Return the universe from a `document`.

        Raises:
            UsageError: the document is not a universe.
        """
        rows = _arguments.several(document.get("rows"), "the rows of a universe", _EXAMPLE)
        return _made(_arguments.text(document.get("name"), "the name of a universe", _EXAMPLE), _listed(rows))

    @property
    def _plain(self) -> list[list[Any]]:
        ends = [(one.first, one.last) for one in self.rows]
        texts = [[day.isoformat() if day else "" for day in pair] for pair in ends]
        return [[one.series.key, *pair, one.delisting_return] for one, pair in zip(self.rows, texts, strict=True)]


def universe_of(given: Any) -> Universe | str:
    """
    Return a universe given as one, as a file or as a table; "" for none; its text in a spec unchanged.

    A table has a row for each membership: symbol, from, to (both included, empty if open), and optionally
    delisting_return. Or it has a row for each date, and a column for each symbol that says whether it belongs from that
    date until the next row, such as the result of a condition on a panel.

    Raises:
        UsageError: it cannot be read, memberships of a name overlap, or one ends before it begins.
    """
    if given is None or (isinstance(given, str) and not given):
        return ""
    if isinstance(given, Universe):
        return given
    if isinstance(given, str) and is_digest(given):
        return given
    if isinstance(given, str | Path):
        return read_universe(given)
    if hasattr(given, "__arrow_c_stream__"):
        return _of_table("", *_columns_of_table(given))
    return _made("", _listed(_arguments.several(given, "the universe", _EXAMPLE)))


def read_universe(file: str | Path) -> Universe:
    """
    Return the universe of a CSV or Parquet file: see `universe_of`.

    Raises:
        UsageError: it cannot be read.
    """
    path = _arguments.path(file, "the universe", _EXAMPLE)
    return _of_table(path.name, *_columns_of_file(path))


def memberships_in_order(rows: Sequence[Membership]) -> tuple[Membership, ...]:
    """
    Return the memberships of one name in order of time.

    Raises:
        UsageError: two of them overlap.
    """
    ordered = sorted(rows, key=lambda one: (one.first or date.min, one.last or date.max))
    for one, two in pairwise(ordered):
        if (one.last or date.max) >= (two.first or date.min):
            raise UsageError(
                f"{two.series.short} has overlapping memberships from {two.first or 'the beginning'} on in the "
                "universe; "
                "end the first one earlier, or merge them"
            )
    return tuple(ordered)


def is_digest(text: str) -> bool:
    """Return whether a text identifies a universe in a spec, and is not a path."""
    digits = text.removeprefix(_DIGEST)
    return text.startswith(_DIGEST) and len(digits) == _SHOWN and set(digits) <= set("0123456789abcdef")


def is_table(heading: str) -> bool:
    """Return whether the first line of a file is that of a universe, not a list of series."""
    cells = [cell.strip().strip('"').lower() for cell in _split(heading)]
    named = any(name in cells for name in _NAMES) and _STRETCH[0] in cells
    return len(cells) > 1 and (cells[0] in (_DATE, _TIME, "") or named)


# --- files and tables as columns


def _columns_of_file(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _columns_of_parquet(path)
        text = _arguments.text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the universe {quoted(path)} cannot be read ({reason(error)}); {_EXAMPLE}") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise UsageError(f"the universe {quoted(path)} is empty; {_EXAMPLE}")
    try:
        cells = csv.reader(io.StringIO("\n".join(lines)), delimiter=_delimiter(lines[0]))
        rows = [[cell.strip() for cell in row] for row in cells]
    except csv.Error as error:
        raise UsageError(f"the universe {quoted(path)} is not CSV ({error}); {_EXAMPLE}") from error
    rows = list(map(_without_blank_end, rows))
    rows = [rows[0], *filter(None, rows[1:])]
    heading = [rows[0][0] or _INDEX, *rows[0][1:]] if rows[0] else []
    wrong = next((row for row in rows[1:] if len(row) > len(heading)), None)
    if wrong is not None:
        raise UsageError(f"the universe {quoted(path)} has a row of {len(wrong)} cells, {','.join(wrong):.60}, and "
                         f"{len(heading)} columns; {_EXAMPLE}")  # fmt: skip
    return heading, [(*row, *[""] * (len(heading) - len(row))) for row in rows[1:]]


def _without_blank_end(cells: list[str]) -> list[str]:
    """Return the cells without blank ones at the end: spreadsheets write rows and columns of separators only."""
    return cells[: max((place for place, cell in enumerate(cells, 1) if cell), default=0)]


def _delimiter(heading: str) -> str:
    return max(",;\t|", key=heading.count)


def _split(heading: str) -> list[str]:
    return heading.split(_delimiter(heading))


def _columns_of_parquet(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(_arguments.named_bytes(path)), pre_buffer=False)
        if nested := [field.name for field in file.schema_arrow if pa.types.is_nested(field.type)]:
            raise ValueError(f"the column {nested[0][:_LONGEST_NAME]!r} has lists or records")
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
        if rows * columns > _MOST_CELLS:
            raise ValueError(f"{rows:,} rows of {columns:,} columns are more than the members of any market")
        return _columns_of_table(file.read(use_threads=False))
    except (pa.ArrowException, ArithmeticError, ValueError) as error:
        raise UsageError(f"the universe {quoted(path)} cannot be read ({str(error)[:200]}); {_EXAMPLE}") from error


def _columns_of_table(given: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    import pyarrow as pa

    try:
        table: pa.Table = given if isinstance(given, pa.Table) else _arrow(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"the universe is a table that cannot be read ({reason(error)}); {_EXAMPLE}") from error
    columns = [list(map(_plain, column.to_pylist())) for column in table.columns]
    return list(map(str, table.column_names)), list(zip(*columns, strict=True))


def _arrow(given: Any) -> pa.Table:
    import pyarrow as pa

    if not type(given).__module__.startswith("pandas"):
        return pa.table(given)
    if given.columns.nlevels > 1:
        levels = given.columns.nlevels
        raise UsageError(f"the universe is a frame whose columns have {levels} levels; keep the symbols: "
                         "frame.droplevel(0, axis=1)")  # fmt: skip
    if hasattr(given.index, "to_timestamp"):
        given = given.set_axis(given.index.to_timestamp())  # periods, such as months: a name belongs from the first day
    return pa.Table.from_pandas(given)  # with its index, which the stream of a frame leaves out


def _plain(cell: Any) -> Any:
    """Return a cell as text or a float if a database wrote it as bytes or as a decimal."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return float(cell) if isinstance(cell, Decimal) else cell


# --- columns as ranges


def _of_table(name: str, heading: list[str], rows: list[tuple[Any, ...]]) -> Universe:
    low = [word.lower() for word in heading]
    if twice := [word for word in heading if low.count(word.lower()) > 1]:
        raise UsageError(f"the universe has the column {twice[0]} twice; {_EXAMPLE}")
    named = [word for word in _NAMES if word in low]
    dates = {_DATE: low, _TIME: heading, _INDEX: low}  # TIME is a symbol, too
    dated = next((words.index(word) for word, words in dates.items() if word in words and not named), None)
    if dated is None and _DATE in low and not set(_STRETCH) <= set(low):
        raise UsageError(
            f"the universe has the columns {_DATE} and {named[0]}, that is, one row per date and member; write from "
            f"and to per member, or one column per member: frame.assign(member=1).pivot(index={_DATE!r}, "
            f'columns={named[0]!r}, values="member").notna()'
        )
    if dated is not None:
        return _made(name, _of_matrix(heading, dated, rows))
    symbol = next((word for word in _NAMES if word in low), "")
    known = (symbol, *_STRETCH, _RETURN, _INDEX)
    if not symbol or not set(_STRETCH) <= set(low) or (strange := [word for word in low if word not in known]):
        strange = strange if symbol and set(_STRETCH) <= set(low) else heading
        raise UsageError(f"the universe has the columns {', '.join(strange)[:200]}; {_EXAMPLE}")
    places = [low.index(word) if word in low else None for word in (symbol, *_STRETCH, _RETURN)]
    return _made(name, _listed([tuple(None if at is None else row[at] for at in places) for row in rows]))


def _listed(rows: Iterable[Any]) -> list[Membership]:
    return [_membership(row, number) for number, row in enumerate(rows, 1)]


def _membership(row: Any, number: int) -> Membership:
    cells = list(row) if isinstance(row, list | tuple) else []
    if not 3 <= len(cells) <= 4:
        _arguments.refuse(f"row {number} of the universe", row, 'write rows such as ("AAPL", "2010-01-04", "")')
    first, last = (_day(cell, f"{end!r} in row {number} of the universe")
                   for cell, end in zip(cells[1:3], _STRETCH, strict=True))  # fmt: skip
    if first and last and first > last:
        raise UsageError(
            f"{cells[0]} is a member from {first} to {last} in row {number} of the universe, but {last} is before "
            f"{first}"
        )
    lost = cells[3] if len(cells) == 4 else None
    return Membership(_series(cells[0], f"row {number}"), first, last, _return(lost, number))


def _series(cell: Any, where: str) -> Series:
    word = _arguments.text(cell, f"the symbol in {where} of the universe", _EXAMPLE).strip()
    try:
        found = Series.parse(word if "/" in word else f"{word}/1day")
        refuse_made(found.instrument)
    except UsageError as error:
        raise UsageError(f"{where} of the universe: {error}") from error
    return found


def _day(cell: Any, name: str) -> date | None:
    if _is_missing(cell):
        return None
    whole = isinstance(cell, int | float) and not isinstance(cell, bool) and cell == int(cell)
    return session_of(str(int(cell)) if whole else cell, name)  # 20240328, as a column of numbers


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return not cell or cell.lower() in _MISSING
    return bool(cell is None or cell != cell)  # pandas' NaT and NaN


def _return(cell: Any, number: int) -> float | None:
    if _is_missing(cell):
        return None
    example = "write the return from the last close on delisting: -0.3 for a loss of 30 %, -1 for a total loss"
    found = _arguments.number(cell, f"{_RETURN} in row {number} of the universe", example)
    if found < -1:
        _arguments.refuse(f"{_RETURN} in row {number} of the universe", cell, example)
    return found


def _of_matrix(heading: list[str], at: int, rows: Sequence[tuple[Any, ...]]) -> list[Membership]:
    days = [_day(row[at], f"the date in row {number} of the universe") for number, row in enumerate(rows, 1)]
    if None in days:
        raise UsageError(f"row {days.index(None) + 1} of the universe has no date; {_EXAMPLE}")
    dates = [day for day in days if day is not None]
    if wrong := next(((one, two) for one, two in pairwise(dates) if two <= one), None):
        raise UsageError(
            f"the dates of the universe do not increase: {wrong[1]} follows {wrong[0]}; sort them and remove duplicates"
        )
    found = []
    for place, word in enumerate(heading):
        if place != at and word != _INDEX:  # the numbers of a frame's rows
            series, names = _series(word, f"column {place + 1}"), f"{word} in the universe"
            belongs = [_belongs(row[place], f"{names} on {day}") for row, day in zip(rows, dates, strict=True)]
            found += [Membership(series, *stretch) for stretch in _stretches(dates, belongs)]
    return found


def _stretches(dates: Sequence[date], belongs: Sequence[bool]) -> Iterator[tuple[date, date | None]]:
    for member, rows in groupby(range(len(dates)), key=lambda row: belongs[row]):
        places = list(rows)
        if member:
            after = places[-1] + 1
            yield dates[places[0]], date.fromordinal(dates[after].toordinal() - 1) if after < len(dates) else None


def _belongs(cell: Any, name: str) -> bool:
    if isinstance(cell, bool):
        return cell
    if _is_missing(cell):
        return False
    if isinstance(cell, str) and cell.lower() in (*_YES, *_NO):
        return cell.lower() in _YES
    weight = _arguments.number(cell, name, "write 1 or 0, true or false, or a weight that is not below 0")
    if weight < 0:
        _arguments.refuse(name, cell, "write 1 or 0, true or false, or a weight that is not below 0")
    return weight > 0


def _made(name: str, rows: Sequence[Membership]) -> Universe:
    if not rows:
        raise UsageError(f"the universe has no members{f' {name!r}' if name else ''}; {_EXAMPLE}")
    ordered = sorted(rows, key=lambda one: str(one.series.instrument))
    names = groupby(ordered, key=lambda one: one.series.instrument)
    return Universe(name, tuple(chain.from_iterable(memberships_in_order(list(own)) for _, own in names)))
