"""CSV and Parquet files and data frames as a source, and bars as files; nothing in them is dropped unsaid."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from backtest._clock import Clock, utc_now
from backtest._suggest import there_are
from backtest.errors import BadBars, NoBars, NoData, UnknownContract, UsageError
from backtest.market.bars import COLUMNS, check_bars, check_unset, known_numbers, schema
from backtest.market.extra import extra_names
from backtest.market.series import ContractDetails, Instrument, Series, did_you_mean_today, refuse_made
from backtest.market.span import Span
from backtest.sources.base import Source
from backtest.sources.times import is_text, moments_of, stamps_of, zone_named
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Our column -> what vendors call it, in small letters and digits alone ("Close/Last" is closelast, "1. open" is open).
# An adjusted close is no close: beside raw open, high and low it would break the rules of a bar.
_NAMES: dict[str, frozenset[str]] = {
    "time": frozenset({"time", "date", "datetime", "dateandtime", "timestamp", "t"}),
    "open": frozenset({"open", "o"}),
    "high": frozenset({"high", "h"}),
    "low": frozenset({"low", "l"}),
    "close": frozenset({"close", "last", "price", "closelast", "c"}),
    "volume": frozenset({"volume", "vol", "v"}),
    "average": frozenset({"average", "vwap", "wap", "vw"}),
    "trades": frozenset({"trades", "count", "barcount", "transactions", "n"}),
}
_NEEDED = COLUMNS[:5]
_PANDAS_INDEX = "__index_level_0__"  # what pandas calls an index without a name in Parquet
_ENDINGS = (".csv", ".parquet")
_DEVICE = re.compile(r"CON|PRN|AUX|NUL|(COM|LPT)[0-9\u00b9\u00b2\u00b3]", re.IGNORECASE)  # whatever the ending


class FileSource(Source):
    """
    A folder of files as a source: a series' own (`AAPL_1day.csv`) or one named by the instrument (`AAPL.csv`).

    The names are the short spellings, `/` written `_`; both may end in .csv or .parquet. `tz` is the zone of times
    that have none, "exchange" for the instrument's own; `extra` the names of columns to keep, as in `bars_of`.
    """

    name = "csv"
    waiting_for = ""

    def __init__(
        self, folder: str | Path, tz: str | None = None, clock: Clock = utc_now, extra: Iterable[str] = ()
    ) -> None:
        self._folder, self._tz, self._clock, self._extra = Path(folder), tz, clock, extra_names(extra)
        self.requests = self.violations = 0
        if not self._folder.is_dir():
            raise UsageError(f"no folder {str(folder)!r}; write csv:FOLDER, a folder with files such as AAPL_1day.csv")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def now(self) -> datetime:
        """Return what the clock says: bars that end later are not finished."""
        return self._clock()

    def qualify(self, instrument: Instrument) -> ContractDetails:
        """Return no details: files have none."""
        return ContractDetails()

    def know(self, instrument: Instrument, details: ContractDetails) -> None:
        """Do nothing: files are found by name."""

    def provenance(self, series: Series, window: Span) -> dict[str, str]:
        """Return the name of the file, without its folders."""
        return {"vendor": self._path(series).name}

    def head(self, series: Series) -> datetime | None:
        """Return the time of the first bar, None where there is none."""
        bars, _ = bars_of(self._path(series), series, self._tz)
        first: datetime | None = bars["time"][0].as_py() if len(bars) else None
        return first

    def sessions(self, instrument: Instrument, since: date, until: date, regular_hours: bool) -> None:
        """Return None: files do not say when an exchange was open."""

    def halve(self, series: Series, window: Span) -> list[Span]:
        """Return the window: a smaller one would not help."""
        return [window]

    def learn(self, series: Series, window: Span) -> list[Span]:
        """Return the window: a smaller one would not help."""
        return [window]

    def windows(self, series: Series, gap: Span) -> list[Span]:
        """Return the gap: a file answers it at once."""
        return [gap]

    def fetch(self, series: Series, window: Span) -> pa.Table:
        """
        Return the bars in the window.

        Raises:
            UnknownContract: no file has the name of the series.
            NoData: the file has no bars there.
            UsageError, BadBars: the file cannot be read as bars; see `bars_of`.
        """
        import pyarrow.compute as pc

        path = self._path(series)
        self.requests += 1
        bars, _ = bars_of(path, series, self._tz, self._extra)
        inside = pc.and_(pc.greater_equal(bars["time"], window.start), pc.less(bars["time"], window.end))
        found = bars.filter(inside)
        if not len(found):
            raise NoData(f"{path} has no bars of {series.short} from {window}")
        return found

    def _path(self, series: Series) -> Path:
        refuse_made(series.instrument)
        names = tuple(dict.fromkeys(name for short in (series.short, series.short_key) for name in _names_of(short)))
        for name in names:
            found = [path for ending in _ENDINGS if (path := self._folder / f"{name}{ending}").is_file()]
            if len(found) > 1:
                raise UsageError(f"{found[0]} and {found[1]} both hold {series.short}; take one of them away")
            if found:
                return found[0]
        raise UnknownContract(
            f"{self._folder} has no file of {series.short}; name it {' or '.join(f'{name}.csv' for name in names[:2])}"
            f"{did_you_mean_today(series)}"
        )


def _names_of(spelling: str) -> list[str]:
    """Return the names of the files of a series without their ending; Windows opens a device for CON.csv."""
    return [name for name in (spelling.replace("/", "_"), spelling.partition("/")[0]) if not _DEVICE.fullmatch(name)]


def bars_of(
    frame_or_path: pd.DataFrame | str | Path, series: Series, tz: str | None = None, extra: Iterable[str] | str = ()
) -> tuple[pa.Table, dict[str, str | None]]:
    """
    Return the bars in a data frame, CSV or Parquet file, and which of its columns became which of ours.

    Columns are found by their names, case-blind. Times with a zone become UTC; daily bars are stamped with dates,
    or with midnight in their own zone or in `tz`. Whole numbers are seconds or milliseconds since 1970, or YYYYMMDD.
    An empty text and NaN become null; of volume, average and trades also IB's -1 for "does not apply", infinity and the
    largest number of a type, IB's word for "unset".

    Args:
        tz: IANA zone of times that have none, such as "America/New_York"; "exchange" for the instrument's own.
        extra: columns to keep beside those of every bar, such as ["signal", "score"]: as numbers, in this order. A
            name finds the column that has it, else the one that differs by capital letters, blanks and marks only.

    Returns:
        The bars in order of time; and for every column of the file ours, None where it is not used.

    Raises:
        UsageError: no such file, columns are missing or ambiguous, intraday times have no zone, or an extra column
            has a name that no line can have.
        BadBars: a value cannot be read, a time exists twice or not at all, or a bar breaks the rules of a bar.
    """
    import pyarrow as pa

    wanted = extra_names(extra)
    names, columns, what = _content(frame_or_path)
    places = _places(names, columns, what)
    extra_places = _extra_places(names, wanted, what)
    zone = zone_named(tz, series)
    moments = moments_of([columns[n] for n in places["time"]], what)
    stamps = pa.array(stamps_of(moments, series, zone, what), pa.timestamp("us", tz="UTC"))
    numbers = [
        _numbers(columns[places[field.name][0]], field, what)
        if places[field.name]
        else pa.nulls(len(stamps), field.type)
        for field in list(schema())[1:]
    ]
    more = [_extra_numbers(columns[place], name, what) for name, place in extra_places.items()]
    bars = pa.Table.from_arrays([stamps, *numbers, *more], schema=schema(wanted)).sort_by("time").combine_chunks()
    _refuse_twins(bars, what)
    check_unset(bars, series)
    check_bars(bars, series)
    return bars, _mapping(names, {**places, **{name: [place] for name, place in extra_places.items()}})


def span_of_bars(bars: pa.Table, series: Series) -> Span:
    """
    Return the span from the first bar to the end of the last: dates of daily bars, else the last stamp and its size.

    Raises:
        NoBars: there is no bar.
    """
    if not len(bars):
        raise NoBars(f"the file holds no bars of {series.short}; name one that does")
    first, last = (bars["time"][n].as_py() for n in (0, -1))
    if series.size.daily:
        return Span.of_dates(first.date(), last.date())
    return Span(first, last + timedelta(seconds=series.size.seconds))


def write_bars(bars: pa.Table, path: str | Path, series: Series, overwrite: bool = False) -> None:
    """
    Write bars to a CSV or Parquet file, by its ending; `bars_of` reads the same bars from it.

    Raises:
        UsageError: another ending, or the file exists and may not be overwritten.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    ending = _ending(target)
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; name another file, or add --force to replace it")
    replace_file(target, partial(pq.write_table, bars) if ending == ".parquet" else partial(_write_csv, bars, series))


def _write_csv(bars: pa.Table, series: Series, file: IO[bytes]) -> None:
    handle = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow(bars.column_names)
    for batch in bars.to_batches(max_chunksize=10_000):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        writer.writerows([_written(row[0], series), *row[1:]] for row in rows)  # floats as repr: read back the same
    handle.detach()  # which writes what is left, and leaves the file open


def _written(moment: datetime, series: Series) -> str:
    text = moment.isoformat().replace("+00:00", "Z")
    return text[:10] if series.size.daily else text


# --- reading files and frames as columns


def _content(frame_or_path: Any) -> tuple[list[str], list[Any], str]:
    """Return names, columns and what to call the whole in errors."""
    if not isinstance(frame_or_path, str | Path):
        return *_of_frame(frame_or_path), "the frame"
    path = Path(frame_or_path)
    ending = _ending(path)
    if not path.is_file():
        raise UsageError(f"no file {str(path)!r}; name a CSV or Parquet file with a bar a row")
    return *(_of_csv(path) if ending == ".csv" else _of_parquet(path)), str(path)


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise UsageError(f"{path} ends in {ending or 'nothing'!r}; name a file that ends in {' or '.join(_ENDINGS)}")
    return ending


def _of_frame(frame: pd.DataFrame) -> tuple[list[str], list[Any]]:
    import pandas as pd
    import pyarrow as pa

    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, n] for n in range(len(names))]
    if isinstance(frame.index, pd.DatetimeIndex) or frame.index.name is not None:
        names.insert(0, str(frame.index.name or "time"))
        columns.insert(0, frame.index.to_series())
    try:
        return names, [pa.chunked_array([pa.array(column)]) for column in columns]
    except pa.ArrowException as error:
        raise UsageError(f"the frame has a column of mixed types ({error}); make each of one type") from error


def _of_csv(path: Path) -> tuple[list[str], list[Any]]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            head = handle.readline()
            empty = not handle.read(4096).strip()
        delimiter = max(",;\t|", key=head.count)
        names = next(csv.reader([head], delimiter=delimiter), [])
        keys = [str(n) for n in range(len(names))]
        if empty:
            return names, [pa.chunked_array([], pa.string()) for _ in names]
        table = arrow_csv.read_csv(
            path,
            # One thread: Arrow's pool has been seen to abort the interpreter at exit.
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=keys, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter),
            # As text: what a text means is decided here, and a price keeps all its digits.
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), null_values=[]),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as CSV ({error}); write UTF-8 with as many fields a row") from error
    return names, table.columns


def _of_parquet(path: Path) -> tuple[list[str], list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
    except pa.ArrowException as error:
        raise UsageError(f"{path} cannot be read as Parquet ({error}); write it again") from error
    return table.column_names, table.columns


# --- which column is what


def _places(names: list[str], columns: list[Any], what: str) -> dict[str, list[int]]:
    """Return the places of the columns that hold each of ours: two for a date beside a time of day."""
    places = {
        ours: [n for n, name in enumerate(names) if _plain(name) in words or _is_index(ours, name, columns[n])]
        for ours, words in _NAMES.items()
    }
    missing = [ours for ours in _NEEDED if not places[ours]]
    unclear = [
        f"{ours} may be {' or '.join(repr(names[n]) for n in found)}"
        for ours, found in places.items()
        if len(found) > 1 and not (ours == "time" and sorted(_plain(names[n]) for n in found) == ["date", "time"])
    ]
    problems = [*([f"missing are {', '.join(missing)}"] if missing else []), *unclear]
    if problems:
        found_names = ", ".join(repr(name) for name in names) or "none"
        raise UsageError(f"{what} has the columns {found_names}: {'; '.join(problems)}; rename its columns")
    places["time"].sort(key=lambda n: _plain(names[n]))  # the date before the time of day
    return places


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\d+\.\s*", "", name.lower()))


def _is_index(ours: str, name: str, column: Any) -> bool:
    import pyarrow as pa

    return ours == "time" and name == _PANDAS_INDEX and pa.types.is_temporal(column.type)


def _extra_places(names: list[str], extra: Iterable[str], what: str) -> dict[str, int]:
    """Return the place of the column of each extra name."""
    found: dict[str, int] = {}
    for name in extra:
        alike = _alike(name, names)
        if not alike:
            raise UsageError(f"{what} has no column {name!r} to keep; {there_are(name, map(_name_or_none, names))}")
        if len(alike) > 1:
            meant = " or ".join(repr(names[place]) for place in alike)
            raise UsageError(f"the extra column {name!r} may be {meant} in {what}; rename its columns")
        if twin := next((other for other, place in found.items() if place == alike[0]), ""):
            raise UsageError(f"{twin!r} and {name!r} are the same column of {what}, {names[alike[0]]!r}; name it once")
        found[name] = alike[0]
    return found


def _alike(name: str, names: list[str]) -> list[int]:
    """Return the places of the columns of a name; where none has it just so, of those that are nearly called so."""
    for same in (_as_read, lambda one: _as_read(one).casefold(), _plain):
        alike = [place for place, other in enumerate(names) if same(name) and same(other) == same(name)]
        if alike:
            return alike
    return []


def _as_read(name: str) -> str:
    return unicodedata.normalize("NFKC", name.strip())


def _name_or_none(name: str) -> str:
    return name or "(no name)"


def _mapping(names: list[str], places: dict[str, list[int]]) -> dict[str, str | None]:
    ours: dict[int, list[str]] = {}
    for name, found in places.items():
        for place in found:
            ours.setdefault(place, []).append(name)
    return {name: ", ".join(ours[n]) if n in ours else None for n, name in enumerate(names)}


# --- times


def _refuse_twins(bars: pa.Table, what: str) -> None:
    import pyarrow.compute as pc

    times = bars["time"]
    twins = times.slice(1).filter(pc.equal(times.slice(1), times.slice(0, max(0, len(times) - 1))))
    if len(twins):
        raise BadBars(
            f"{what} has {len(twins)} bars with the time of another, the first {twins[0].as_py()}; keep one of each"
        )


# --- numbers


def _numbers(column: Any, field: pa.Field, what: str) -> Any:
    """Return the column as the numbers of a field of ours, with null for what means that there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        numbers = _trimmed(column).cast(pa.float64(), safe=False)  # a long's largest is no float64
        if field.nullable:
            return known_numbers(numbers, field.name).cast(field.type)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    except pa.ArrowException as error:
        raise BadBars(f"{what} has no plain number as {field.name} ({error}); write such as 1234.5") from error


def _extra_numbers(column: Any, name: str, what: str) -> Any:
    """Return a column as float64, with null for an empty text and NaN; -1 is a number like any other."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        numbers = _trimmed(column).cast(pa.float64())
    except pa.ArrowException as error:
        raise BadBars(
            f"{what} has something else than numbers in the extra column {name} ({error}); write such as 1.5, or "
            "nothing where there is none, or do not keep it"
        ) from error
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)


def _trimmed(column: Any) -> Any:
    """Return a column of text without blanks around, and null for an empty one; another column as it is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_text(column):
        return column
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
