"""A table in lines of text: delimiter, names, rows; lines above, between and below are kept separately."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backtest.errors import UsageError
from backtest.sources.files.content import ColumnsOfFile, LinesOfFile
from backtest.sources.files.frames import in_one, plain_column
from backtest.sources.files.headings import bare_name, meanings_of
from backtest.sources.files.numbers import is_nothing, looks_like_number
from backtest.sources.files.times import kind_of_cell, within_years
from backtest.sources.files.vocabulary import CURRENCY_WORDS

BLANKS = " "  # any number of blanks between fields
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars |", BLANKS: "blanks"}
_COMMENTS = ("#", "//", "%", "!", "--", "*")
_SAMPLE = 80  # lines from the begin and from the end by which a table is understood
_FOOTER = 20  # lines below the rows at most
_SURE = 0.6  # of the cells of a row are numbers, times, or empty


@dataclass(frozen=True, slots=True)
class Note:
    """A note on what was skipped in a file, with the rows or lines, of which only some are named."""

    text: str
    places: tuple[str, ...] = ()
    named: int = 3

    def __str__(self) -> str:
        more = f" and {len(self.places) - self.named:,} more" if len(self.places) > self.named else ""
        return f"{self.text}: {', '.join(self.places[: self.named])}{more}" if self.places else self.text


@dataclass(frozen=True, slots=True)
class Table:
    """
    ColumnsOfFile with their names, "" for none, and the line number of each row.

    `symbols` gives the symbol of each column, in files with a block of columns per symbol; "" for shared columns.
    """

    what: str
    names: list[str]
    columns: list[Any]
    places: np.ndarray
    unit: str = "row"
    headed: bool = True
    delimiter: str = ""
    symbols: list[str] = field(default_factory=list)
    how: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    currency: str = ""  # that a line above the rows names

    def where(self, row: int) -> str:
        """Return the name of a row in messages."""
        return f"{self.unit} {self.places[row]:,}" if row < len(self.places) else f"the last {self.unit}"

    def taken(self, rows: np.ndarray) -> Table:
        """Return the table with only these rows, by number or by mask."""
        import pyarrow as pa

        chosen = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = [column.take(pa.array(chosen)) for column in self.columns]
        return replace(self, columns=columns, places=self.places[chosen])

    def with_notes(self, *notes: Note) -> Table:
        """Return the table with further notes."""
        return replace(self, notes=(*self.notes, *notes))


def parsed_table(content: LinesOfFile | ColumnsOfFile, what: str) -> Table:
    """
    Return the table that a file or frame holds.

    Raises:
        UsageError: there is no table, or a row has another number of fields than the others.
    """
    if isinstance(content, ColumnsOfFile):
        columns = content.columns
        for place, name in enumerate(content.names):  # in place: of 50,000,000 rows a column and its copy are 800 MB
            columns[place] = in_one(within_years(plain_column(columns[place]), f"{what}, column {name!r}"))
        places = np.arange(1, (len(columns[0]) if columns else 0) + 1)
        names = [_named(name) for name in content.names]
        return Table(what, names, columns, places, symbols=list(content.symbols), how=content.how)
    lines, numbers = _filled(content)
    if not lines:
        raise UsageError(f"{what} is empty; name a file with one bar per {content.unit}")
    lines, numbers, asked = _without_mark(lines, numbers)
    lines = _unwrapped(lines)
    delimiter = asked or _delimiter_of(lines)
    first, fields = _first_row(lines, delimiter)
    if not fields and (after := _after_names(lines, delimiter)):
        first, fields = after  # lines that look like no bars are read as such, so that the error names what is wrong
    names, symbols, header = _names(lines[:first], delimiter, fields)
    if not fields and sum(bool(meanings_of(name)) for name in names) < 2:
        raise UsageError(
            f"{what} holds no table: no {content.unit} has a time and prices; name a file with one bar per row"
        )
    last, notes = _end_of_rows(lines, numbers, first, delimiter, fields, content.unit)
    comments = _comments(delimiter)
    body = [n for n in range(first, last) if not lines[n].startswith(comments) and lines[n].strip() != header]
    how = (*content.how, *([] if content.unit == "record" else [_DELIMITERS[delimiter]] if delimiter != "," else []))
    rows, places_of_rows = [lines[n] for n in body], [numbers[n] for n in body]
    columns = _columns(rows, delimiter, fields or len(names), what, content.unit, places_of_rows)
    table = Table(
        what,
        _as_many(names, columns, fields, what) if names else [""] * len(columns),
        columns,
        np.asarray(places_of_rows, np.int64),
        content.unit,
        bool(names),
        delimiter,
        symbols,
        how,
        tuple(notes),
        _currency_above(lines[:first], delimiter),
    )
    return _without_nameless(table)


# --- lines


def _filled(content: LinesOfFile) -> tuple[list[str], list[int]]:
    """Return the lines that are not empty, and their numbers."""
    numbered = [(line, n) for n, line in enumerate(content.lines, content.first) if line.strip(" \t\f\x1a\ufeff,;")]
    return [line.strip("\f\ufeff") for line, _ in numbered], [n for _, n in numbered]


def _without_mark(lines: list[str], numbers: list[int]) -> tuple[list[str], list[int], str]:
    """Return the lines without Excel's own first line, such as sep=; and the delimiter that it names."""
    match = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(), re.IGNORECASE)
    if match and match[1] in _DELIMITERS:
        return lines[1:], numbers[1:], match[1]
    return lines, numbers, ""


def _unwrapped(lines: list[str]) -> list[str]:
    """Return the lines without the quotation marks that some programs write around whole rows."""
    head = [line.strip() for line in lines[:_SAMPLE]]
    whole = all(line[:1] == '"' == line[-1:] and len(_cells(line)) == 1 for line in head)
    if whole and any("," in line or ";" in line for line in head):
        return [line.strip()[1:-1].replace('""', '"') for line in lines]
    return lines


def fields_of(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line, without the blanks around them."""
    if delimiter == BLANKS:
        return line.split() if '"' not in line else _cells(" ".join(line.split()), delimiter=" ")
    quote = "'" if line.lstrip()[:1] == "'" else '"'
    return [cell.strip() for cell in _cells(line, delimiter=delimiter, quotechar=quote, skipinitialspace=True)]


def _cells(line: str, **look: Any) -> list[str]:
    """Return the cells of a CSV line; the line itself if a field is implausibly long, or it contains a NUL."""
    try:
        return next(csv.reader([line], **look), [])
    except csv.Error:
        return [line]


def _comments(delimiter: str) -> tuple[str, ...]:
    return tuple(mark for mark in _COMMENTS if not mark.startswith(delimiter))


def _sample(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 2 * _SAMPLE else [*lines[:_SAMPLE], *lines[-_SAMPLE:]]


def _delimiter_of(lines: list[str]) -> str:
    """Return the delimiter with which most lines have equally many fields, nearly all of them numbers and times."""
    scores: dict[str, tuple[float, ...]] = {}
    for delimiter in _DELIMITERS:
        rows = [fields_of(line, delimiter) for line in _sample(lines)]
        usual = Counter(len(row) for row in rows if _is_row(row)).most_common(1)
        fields, count = usual[0] if usual else (0, 0)
        if not count:  # no row at all: a header alone
            known = max((sum(bool(meanings_of(cell)) for cell in row) for row in rows), default=0)
            scores[delimiter] = (0, known if known > 1 else 0, 0)
            continue
        if delimiter == BLANKS and fields < 5:
            continue
        share = sum(map(_meant, (row for row in rows if len(row) == fields))) / max(count, 1)
        scores[delimiter] = (count, share, fields)
    best = max(scores, key=lambda one: scores[one])
    return best if any(scores[best]) else ","


def _meant(cells: Sequence[str]) -> float:
    """Return the fraction of cells that are numbers, times or empty."""
    return sum(is_nothing(cell) or looks_like_number(cell) or bool(kind_of_cell(cell)) for cell in cells) / len(cells)


def _is_row(cells: Sequence[str]) -> bool:
    """Return whether the fields of a line are those of a bar: a time, a number, and little else."""
    if len(cells) < 2:
        return False
    timed = any(kind_of_cell(cell) for cell in cells)
    numbers = sum(looks_like_number(cell) or bool(kind_of_cell(cell)) for cell in cells)
    return timed and numbers >= 2 and _meant(cells) >= _SURE


def _first_row(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Return the number of the first line that is a row, and how many fields most rows have."""
    comments = _comments(delimiter)
    split = [
        (n, fields_of(line, delimiter)) for n, line in enumerate(lines[: 2 * _SAMPLE]) if not line.startswith(comments)
    ]
    rows = [(n, cells) for n, cells in split if _is_row(cells)]
    if not rows:
        return len(lines), 0
    usual = Counter(len(cells) for _, cells in rows).most_common(1)[0][0]
    first = next(n for n, cells in rows if len(cells) == usual)
    above = itertools.takewhile(
        lambda pair: _is_without_numbers(pair[1], usual), reversed([p for p in split if p[0] < first])
    )
    return min([first, *(n for n, _ in above)]), usual


def _is_without_numbers(cells: Sequence[str], fields: int) -> bool:
    """Return whether a line is a row with a time but no numbers, as before the first price."""
    times = sum(bool(kind_of_cell(cell)) for cell in cells)
    return len(cells) == fields and times > 0 and times + sum(map(is_nothing, cells)) == fields


def _after_names(lines: list[str], delimiter: str) -> tuple[int, int] | None:
    """Return the number of the line after the column names of bars, and how many names there are; None without them."""
    for n, line in enumerate(lines[:-1]):
        cells = fields_of(_uncommented(line, delimiter), delimiter)
        if sum(bool(meanings_of(cell)) for cell in cells) >= 4:
            return n + 1, len(fields_of(lines[n + 1], delimiter))
    return None


# --- above the rows


def _names(above: list[str], delimiter: str, fields: int) -> tuple[list[str], list[str], str]:
    """Return the names of the columns, if a line above holds any; the symbol of each; and the line itself."""
    lines = [(line, _uncommented(line, delimiter)) for line in above]
    split = [(line, fields_of(clean, delimiter)) for line, clean in lines]
    split = [(line, cells) for line, cells in split if len(cells) > 1 or not fields]
    if not split:
        return [], [], ""
    known = [sum(bool(meanings_of(cell)) for cell in cells) for _, cells in split]
    last = split[-1][1]
    if len(split) > 1 and last[0] and not any(last[1:]):  # pandas' line with the name of the index
        return _of_levels([cells for _, cells in split[:-1]], last[0])
    if len(split) > 1 and not split[-1][1][0] and not split[-2][1][0] and len(last) == len(split[-2][1]) == fields:
        return _of_levels([cells for _, cells in split], "")
    best = max(range(len(split)), key=lambda n: (known[n] if known[n] > 1 else 0, n))
    line, cells = split[best]
    if known[best] < 2 and fields and abs(len(cells) - fields) > 1:
        return [], [], ""
    return cells, [], line.strip()


def _currency_above(above: list[str], delimiter: str) -> str:
    """Return the currency in a line above the rows, such as "Currency,USD"; "" if there is none."""
    split = [[cell for cell in fields_of(_uncommented(line, delimiter), delimiter) if cell] for line in above]
    words = {bare_name(word) for word in CURRENCY_WORDS.split()}
    pairs = (re.split(r"\s*[:=]\s*", cells[0], maxsplit=1) if len(cells) == 1 else cells for cells in split)
    return next((value for name, value in (pair for pair in pairs if len(pair) == 2)
                 if bare_name(name) in words and re.fullmatch(r"[A-Za-z]{3,7}", value)), "")  # fmt: skip


def _uncommented(line: str, delimiter: str) -> str:
    mark = next((mark for mark in _comments(delimiter) if line.startswith(mark)), "")
    return line.lstrip(mark).strip() if mark else line


def _of_levels(levels: list[list[str]], index: str) -> tuple[list[str], list[str], str]:
    """Return the names and symbols in pandas' header lines, one line per column level."""
    wide = max(len(cells) for cells in levels)
    levels = [cells for cells in levels if len(cells) == wide][-2:]
    best = max(levels, key=lambda cells: sum(bool(meanings_of(cell)) for cell in cells[1:]))
    others = [cells for cells in levels if cells is not best]
    symbols = ["", *others[0][1:]] if others else []
    return [index, *best[1:]], symbols, ""


def _as_many(names: list[str], columns: list[Any], fields: int, what: str) -> list[str]:
    """Return as many names as there are columns; rows may begin with a row number, or end with an empty field."""
    names = [_named(name.strip("<> \"'")) for name in names]
    while len(names) > len(columns) and not names[-1]:
        names = names[:-1]
    if not len(columns):
        return names
    more = len(columns) - len(names)
    if more > 0 and all(_is_empty(column) for column in columns[len(names) :]):
        return [*names, *[""] * more]
    if more == 1 and not any(meaning.ours == "time" for meaning in meanings_of(names[0])):
        return ["", *names]  # R names no column of row names
    if more:
        raise UsageError(
            f"{what} has {len(names)} column names ({', '.join(names[:8])}) but rows of {fields} fields; name every "
            "column in the header, or name the columns with --columns time,open,high,low,close,volume (commas before "
            "decimals would "
            "need another delimiter)"
        )
    return names


def _named(name: str) -> str:
    """Return the name of a column, "" for pandas' name of an unnamed one."""
    return "" if re.fullmatch(r"Unnamed: \d+(_level_\d+)?", name) else name


def _without_nameless(table: Table) -> Table:
    """Return the table without columns that have neither a name nor anything in them."""
    kept = [n for n, name in enumerate(table.names) if name or not _is_empty(table.columns[n])]
    if len(kept) == len(table.names):
        return table
    symbols = [table.symbols[n] for n in kept] if table.symbols else []
    return replace(
        table, names=[table.names[n] for n in kept], columns=[table.columns[n] for n in kept], symbols=symbols
    )


def _is_empty(column: Any) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):
        return bool(column.null_count == len(column))
    return not pc.any(pc.not_equal(pc.utf8_trim_whitespace(column), "")).as_py()


# --- rows


def _end_of_rows(
    lines: list[str], numbers: list[int], first: int, delimiter: str, fields: int, unit: str
) -> tuple[int, list[Note]]:
    """Return the number of the line after the last row, and notes on the lines below: sums, sources, remarks."""
    if first >= len(lines):
        return len(lines), []
    head = fields_of(lines[first], delimiter)
    timed = [n for n, cell in enumerate(head) if kind_of_cell(cell)][:2] or [0]
    last = len(lines)
    while last > max(first + 1, len(lines) - _FOOTER):
        cells = fields_of(lines[last - 1], delimiter)
        if any(n < len(cells) and (kind_of_cell(cells[n]) or looks_like_number(cells[n])) for n in timed):
            break
        prices = sum(looks_like_number(cell) for n, cell in enumerate(cells) if n not in timed)
        if len(cells) == fields and prices >= 4 and not re.search(r"[^\W\d_]{3}", cells[timed[0]]):
            break  # a row whose time is missing, or is none
        last -= 1
    below = tuple(f"{unit} {numbers[n]:,} ({lines[n].strip()[:40]!r})" for n in range(last, len(lines)))
    comments = tuple(one for n, one in enumerate(below, last) if not lines[n].startswith(_comments(delimiter)))
    return last, [Note("no bars, left out below the last", comments)] if comments else []


def _columns(lines: list[str], delimiter: str, fields: int, what: str, unit: str, numbers: list[int]) -> list[Any]:
    """Return the columns of the rows as text."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if not lines:
        return [pa.chunked_array([], pa.string()) for _ in range(fields)]
    head = lines[:_SAMPLE]
    if delimiter == BLANKS:
        lines, delimiter = ["\t".join(fields_of(line, BLANKS)) for line in lines], "\t"
    elif any(re.search(rf"{re.escape(delimiter)}\s+\"", line) for line in head):
        lines = [re.sub(rf"({re.escape(delimiter)})\s+(?=\")", r"\1", line) for line in lines]
    quote = "'" if all(line.lstrip()[:1] == "'" for line in head) else '"'
    keys = [str(n) for n in range(fields)]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader("\n".join(lines).encode("utf-8", "replace")),
            # One thread: Arrow's pool has been seen to abort the interpreter at exit.
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=keys),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, quote_char=quote, ignore_empty_lines=False),
            # As text: what a text means is decided here, and a price keeps all its digits.
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), null_values=[]),
        )
        if len(table) == len(lines):
            return list(table.columns)
    except pa.ArrowException:
        pass  # a row has other fields: it is looked for below, to be named
    return _ragged(lines, delimiter, fields, what, unit, numbers)


def _ragged(lines: list[str], delimiter: str, fields: int, what: str, unit: str, numbers: list[int]) -> list[Any]:
    """Return the columns of rows of which some end in empty fields, or have a time but no numbers: a dividend."""
    import pyarrow as pa

    rows: list[list[str]] = []
    for n, line in enumerate(lines):
        cells = fields_of(line, delimiter)
        while len(cells) > fields and not cells[-1]:
            cells.pop()
        if len(cells) < fields and not any(looks_like_number(cell) and not kind_of_cell(cell) for cell in cells):
            cells += [""] * (fields - len(cells))
        if len(cells) != fields:
            raise UsageError(
                f"{what} has {len(cells)} fields in {unit} {numbers[n]:,} ({line.strip()[:60]!r}) where others have "
                f"{fields}; give each row the same number of fields, or remove it"
            )
        rows.append(cells)
    return [pa.chunked_array([pa.array(column, pa.string())]) for column in zip(*rows, strict=True)]
