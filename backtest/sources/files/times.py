"""Times as files write them, read as UTC; ambiguous ones are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from backtest.errors import BadBars, UsageError
from backtest.market import arrays
from backtest.market.calendars import sessions, time_zone
from backtest.market.hours import hours_of
from backtest.market.series import BAR_SIZES, Series
from backtest.sources.files.vocabulary import ABBREVIATIONS, MONTHS, ORDINAL, WEEKDAYS

_MIDNIGHT = time()
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXCEL = date(1899, 12, 30)  # the day before its first, and one more for a leap day that never was
_LONGEST_PERIOD = 15  # letters of a week or a month, such as September 2024
_LONGEST_NUMBER = 30  # digits of a whole number that may be a time
_SINCE_EXCEL = (20_000, 80_000)  # days: 1954 to 2119; as seconds since 1970 all of one night
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_SANE = (315_532_800, 4_102_444_800)  # seconds since 1970 of 1980 and 2100: the last time of a file lies between
_LATEST_CENTURY = 70  # of two-digit years: 69 is 2069, 70 is 1970
_CLOCK = (
    r"(?P<clock>\d\d?:\d\d(?::\d\d(?:[.,]\d{1,6}0*|:\d{3})?)?|\d{6}(?:\.\d{1,6}0*)?|\d{4})"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_ZONE = r"(?P<zone>(?:GMT|UTC)?\s*[+-]\d\d?(?::?\d\d)?|[A-Za-z][\w/+-]*)?(?:\s*\(\w+(?: \w+)*\)|\s*\[[\w/]+\])?"
_STAMP = re.compile(
    rf"(?:(?i:{WEEKDAYS})[^\W\d_]{{0,7}}\.?,?\s+)??"
    r"(?:(?P<year>\d{4})(?:(?P<dash>[-/.]\s?)(?P<month>\d\d?)(?P=dash)(?P<day>\d\d?)|(?P<month_>\d\d)(?P<day_>\d\d))"
    r"|(?P<a>\d\d?)(?P<mark>[-/. ])(?P<b>\d\d?)(?P=mark)(?P<last>\d{4}|\d\d)"
    rf"|(?P<day2>\d\d?){ORDINAL}(?:\.\s*|[\s/-]*)(?P<name2>[^\W\d_]{{3,10}})\.?,?[\s/-]*(?P<last2>\d{{4}}|\d\d)"
    rf"|(?P<name3>[^\W\d_]{{3,10}})\.?[\s-]*(?P<day3>\d\d?){ORDINAL},?[\s-]+(?P<last3>\d{{4}})"
    r"|(?P<year4>\d{4})[\s-](?P<name4>[^\W\d_]{3,10})[\s-](?P<day4>\d\d?))"
    rf"(?:(?:[T_-]|,?\s+)\s*{_CLOCK}\s*{_ZONE}|[,.;]?)"
)
_CLOCK_ALONE = re.compile(r"\d\d?:\d\d(:\d\d([.,]\d+|:\d{3})?)?(\s*[AaPp]\.?[Mm]\.?)?")
_MIDNIGHTS = re.compile(r"[T ]00:00(:00(\.0+)?)?$")
_PLAIN: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    (r"^\d{4}-\d\d-\d\d$", lambda arrow: arrow.date32()),
    (r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d$", lambda arrow: arrow.timestamp("us")),
    (r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ$", lambda arrow: arrow.timestamp("us", tz="UTC")),
)  # what Arrow reads as we do, and faster
_EAST = str.maketrans({"年": "-", "月": "-", "日": " ", "년": "-", "월": "-", "일": " "})

Where = Callable[[int], str]
_Moments = list[date | datetime]


@dataclass(frozen=True, slots=True)
class Written:
    """Times as written: aware, naive, or dates without a time of day; and their form."""

    moments: _Moments
    form: str = ""  # for people


def zone_named(tz: str | None, series: Series) -> ZoneInfo | None:
    """Return the zone of this name, or that of the series' exchange; None if none is named."""
    if not tz:
        return None
    try:
        return ZoneInfo(time_zone(hours_of(series.instrument)) if tz == "exchange" else tz)
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(f"unknown time zone {tz!r}; write, for example, America/New_York, UTC or exchange") from error


def is_text(column: Any) -> bool:
    """Return whether a column holds text."""
    import pyarrow as pa

    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def within_years(column: Any, what: str) -> Any:
    """
    Return a column, with times in a zone that Python knows.

    Raises:
        BadBars: it has times before the year 1 or after 9999, or in a zone that is not an IANA name.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    days = pa.types.is_date32(column.type)
    if not days and not pa.types.is_timestamp(column.type):
        return column
    a_day = 1 if days else 86_400 * _A_SECOND[column.type.unit]
    found = pc.min_max(column.cast(pa.int32() if days else pa.int64())).as_py()
    if found["min"] is not None and not _FIRST_DAY * a_day <= found["min"] <= found["max"] < _AFTER_DAYS * a_day:
        raise BadBars(f"{what} has a time before the year 1 or after 9999; remove it")
    if not days and column.type.unit == "ns":  # which Python has not; what is finer is refused where it is read
        with suppress(pa.ArrowException):
            column = column.cast(pa.timestamp("us", column.type.tz))
    if days or not column.type.tz or _is_zone(column.type.tz):
        return column
    if column.type.tz.upper() not in _NAMES_OF_UTC:
        raise BadBars(
            f"{what} has times in the zone {column.type.tz!r}, which is not an IANA name; write them in UTC, or in a "
            "zone such as America/New_York"
        )
    return column.cast(pa.timestamp(column.type.unit, "UTC"))


_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_DAY, _AFTER_DAYS = (
    -719_160,
    2_932_894,
)  # since 1970; a zone may shift them within Python's
_NAMES_OF_UTC = ("Z", "ZULU", "UTC", "GMT", "UT", "UTC+0", "UTC+00:00", "GMT+0", "GMT+00:00")


def _is_zone(name: str) -> bool:
    if re.fullmatch(r"[+-]\d\d:?\d\d", name):
        return int(name[1:3]) < 24 and int(name[-2:]) < 60
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def kind_of(column: Any) -> str:
    """
    Return what the first values of a column look like: "moment", "epoch", "date", "clock" (a time of day), or "".

    A "moment" has a date and a time of day; text with a zone as well is "zoned".
    """
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        first = [value for value in column.slice(0, 40).to_pylist() if value is not None]
        return "zoned" if column.type.tz else "date" if first and set(map(_clock, first)) == {_MIDNIGHT} else "moment"
    if pa.types.is_date(column.type):
        return "date"
    if pa.types.is_time(column.type):
        return "clock"
    values = [value for value in column.slice(0, 40).to_pylist() if value is not None and str(value).strip()]
    kinds = {kind_of_cell(str(value).strip()) for value in values}
    if kinds == {"moment"} and all(_MIDNIGHTS.search(str(value).strip()) for value in values):
        return "date"  # as Excel's dates are
    if len(kinds) == 1:
        return kinds.pop()
    return "zoned" if kinds == {"moment", "zoned"} else "date" if kinds == {"date", "moment"} else ""


def kind_of_cell(text: str) -> str:
    """Return what a cell looks like, as `kind_of` does for a column."""
    if re.fullmatch(r"[+-]?\d+(\.\d+)?([eE]\+?\d+)?", text):
        return _kind_of_number(text)
    if _CLOCK_ALONE.fullmatch(text):
        return "clock"
    if re.fullmatch(r"P?\d+ days? \d\d:\d\d:\d\d", text):
        return ""
    match = _STAMP.fullmatch(_western(text))
    if match is None or not _known_month(match):
        return ""
    return "date" if match["clock"] is None else "zoned" if match["zone"] else "moment"


def moments_of(columns: list[Any], what: str, where: Where, day_first: bool | None = None) -> Written:
    """
    Return the times of rows, from one column or from separate columns of dates and times of day.

    Args:
        where: what a row is called in messages.
        day_first: whether 03/04/2024 is in April; None to infer it from the other dates.

    Raises:
        BadBars: a cell is not a time, or is empty.
        UsageError: the order of day and month is ambiguous.
    """
    import pyarrow as pa

    for column in columns:
        empty = _is_blank(column) if is_text(column) else column.is_null()
        if (row := empty.index(True).as_py()) >= 0:
            raise BadBars(f"{what} has no time in {where(row)}; fill it in or remove it")
    if len(columns) == 2:
        days, clocks = map(_values_of, columns)
        return _read_texts([f"{_day_text(day)} {_clock_text(clock)}" for day, clock in zip(days, clocks, strict=True)],
                           what, where, day_first)  # fmt: skip
    (column,) = columns
    if pa.types.is_timestamp(column.type):
        try:
            moments = list(column.cast(pa.timestamp("us", tz=column.type.tz)).to_pylist())
        except pa.ArrowException as error:
            raise BadBars(f"{what} has a time of less than a microsecond ({error}); round the times") from error
        return Written(moments, f"times in {column.type.tz}" if column.type.tz else "")
    if pa.types.is_date(column.type):
        return Written(list(column.to_pylist()))
    if is_text(column) and (plain := _plain_times(column)) is not None:
        try:
            return Written(list(plain.to_pylist()))
        except (OverflowError, ValueError):  # no year of Python's
            pass
    texts = [str(value) for value in _values_of(column)]
    if texts and all(re.fullmatch(r"[+-]?\d+(\.\d+)?([eE]\+?\d+)?", text) for text in texts):
        return _read_numbers(texts, what, where)
    return _read_texts(texts, what, where, day_first)


def stamps_in_one(columns: list[Any], series: Series, zone: tzinfo | None) -> tuple[np.ndarray, str, bool] | None:
    """
    Return the times of bars shorter than a day, all at once, equal to those of `moments_of` and `stamps_of`.

    Returns:
        datetime64[us] in UTC; their format; and whether they are written without a zone. None if each has to be
        examined: for columns of other types, invalid times, and ambiguous ones.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _instants(columns)
    if column is None or series.size.daily or column.null_count or not len(column):
        return None
    span = pc.min_max(column.cast(pa.int64())).as_py()
    if not _FIRST_DAY + 400 <= span["min"] // _DAY_OF_US <= span["max"] // _DAY_OF_US < _AFTER_DAYS - 400:
        return None
    tz = column.type.tz
    if all(_clock(moment) == _MIDNIGHT for moment in column.slice(0, _LOOKED_AT).to_pylist()):
        return None
    stamps = arrays.numbers(column)
    if tz:
        return stamps.view("datetime64[us]"), "" if is_text(columns[0]) else f"times in {tz}", False
    moved = _from_local_in_one(stamps, zone) if zone else None
    return None if moved is None else (moved.view("datetime64[us]"), "", True)


_LOOKED_AT = 100  # times: dates alone are recognised by them
_DAY_OF_US = 86_400 * 10**6


def _instants(columns: list[Any]) -> Any:
    """Return a column of times to the microsecond, with or without a zone; None if they have another format."""
    import pyarrow as pa

    column = columns[0]
    if len(columns) > 1:
        return None
    if is_text(column):
        column = _plain_times(column)
    if column is None or not pa.types.is_timestamp(column.type):
        return None
    try:
        return column.cast(pa.timestamp("us", tz=column.type.tz))
    except pa.ArrowException:  # a time of less than a microsecond
        return None


def _from_local_in_one(stamps: np.ndarray, zone: tzinfo) -> np.ndarray | None:
    """Return local times of a zone in UTC, as microseconds; None if the clock changes near one of them."""
    moved, known = np.empty(len(stamps), np.int64), {}
    for part in arrays.blocks(len(stamps)):
        blocks, places = np.unique(stamps[part] // _BLOCK, return_inverse=True)
        for block in blocks.tolist():
            if block not in known:
                known[block] = _offset_in(block, zone)
        offsets = [known[block] for block in blocks.tolist()]
        if None in offsets:
            return None
        moved[part] = stamps[part] - np.array(offsets, np.int64)[places]
    return moved


def _offset_in(block: int, zone: tzinfo) -> int | None:
    """Return the microseconds by which local times in a block are ahead of UTC; None if that changes in it."""
    start = _EPOCH.replace(tzinfo=None) + timedelta(microseconds=block * _BLOCK)
    ends = (start, start + timedelta(microseconds=_BLOCK - 1))
    found = {one.replace(tzinfo=zone, fold=fold).utcoffset() for one in ends for fold in (0, 1)}
    return None if len(found) > 1 else (found.pop() or timedelta()) // timedelta(microseconds=1)


_BLOCK = 15 * 60 * 10**6  # microseconds: clocks are changed at full quarters of an hour


def _is_blank(column: Any) -> Any:
    """Return which texts of a column are empty, or only blanks."""
    import pyarrow.compute as pc

    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)


def _plain_times(column: Any) -> Any:
    """Return dates, times without a zone, or times in UTC, if all are in ISO 8601; None for others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for pattern, kind in _PLAIN:
        if pc.all(pc.match_substring_regex(column, pattern)).as_py():
            try:
                return column.cast(kind(pa))
            except pa.ArrowException:  # no such day
                return None
    return None


def stamps_of(moments: _Moments, series: Series, zone: tzinfo | None, what: str, where: Where) -> list[datetime]:
    """Return the times in UTC: for daily bars the session's midnight, for others the written time."""
    if series.size.daily:
        try:
            days = _dates_of(moments, series, zone, what, where)
        except OverflowError as error:
            raise BadBars(f"{what} has a time that its zone moves before the year 1 or after 9999") from error
        return [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
    if len(moments) > 1 and all(_clock(moment) == _MIDNIGHT for moment in moments):
        raise BadBars(
            f"{what} has dates without times of day, the first {moments[0]:%Y-%m-%d}, so it holds no bars of "
            f"{series.short}; name a daily series, such as {replace(series, size=BAR_SIZES['1day']).short}"
        )
    return [_moment_stamp(moment, zone, what, where, row) for row, moment in enumerate(moments)]


# --- dates of daily bars


def _dates_of(moments: _Moments, series: Series, zone: tzinfo | None, what: str, where: Where) -> Sequence[date]:
    """Return the session date of each daily bar: as written, or from a midnight, an opening or a close."""
    clocks = {_clock(moment) for moment in moments}
    if clocks <= {_MIDNIGHT}:
        return [_date(moment) for moment in moments]
    if all(_clock(moment) == _MIDNIGHT for moment in _in_utc(moments)):
        return [moment.date() for moment in _in_utc(moments)]
    own = _zone_of_exchange(series)
    for candidate in (zone, own):
        local = [_local(moment, candidate) for moment in moments] if candidate else []
        if local and all(_clock(moment) == _MIDNIGHT for moment in local):
            return [_date(moment) for moment in local]
    if own is None and zone is None and len(clocks) == 1:  # of no known hours: the date on its own clock
        return [_date(moment) for moment in moments]
    known = _edges(moments, series, zone or own)
    days: list[date] = []
    for row, moment in enumerate(moments):
        local_moment = _local(moment, zone or own)
        stamp = _utc(local_moment, zone or own)
        if _clock(moment) == _MIDNIGHT:
            days.append(_date(moment))
        elif stamp in known:
            days.append(known[stamp])
        elif _clock(moment) >= time(23, 59):  # the end of the day it is in
            days.append(_date(moment))
        else:
            raise BadBars(
                f"{what} has {moment} in {where(row)} as the time of a daily bar, which is not a valid date, and "
                "neither the opening nor the close of a session; write dates such as 2024-03-28, name with --tz the "
                "zone in which the times are midnights, or name the bars' own size, such as /5mins"
            )
    return days


def _in_utc(moments: _Moments) -> list[datetime]:
    """Return the moments in UTC if all of them have a zone; otherwise one that is not at midnight."""
    aware = [moment.astimezone(UTC) for moment in moments if isinstance(moment, datetime) and moment.tzinfo]
    return aware if len(aware) == len(moments) else [_EPOCH + timedelta(hours=1)]


def _edges(moments: _Moments, series: Series, zone: tzinfo | None) -> dict[datetime, date]:
    """Return the session's date by its opening and by its close, in regular hours and in all."""
    days = [_date(moment) for moment in moments]
    found: dict[datetime, date] = {}
    for regular in (False, True):
        try:
            near = sessions(hours_of(series.instrument), min(days) - 4 * _DAY, max(days) + 4 * _DAY, regular)
        except UsageError:  # its calendar is not known
            continue
        found |= {session.close: session.day for session in near}
        found |= {session.open: session.day for session in near}
    return found


def _zone_of_exchange(series: Series) -> ZoneInfo | None:
    try:
        return ZoneInfo(time_zone(hours_of(series.instrument)))
    except (KeyError, ValueError, OSError, UsageError):
        return None


def _local(moment: date | datetime, zone: tzinfo | None) -> date | datetime:
    """Return a moment on the clock of a zone; one without a zone unchanged."""
    if isinstance(moment, datetime) and moment.tzinfo and zone:
        return moment.astimezone(zone)
    return moment


def _utc(moment: date | datetime, zone: tzinfo | None) -> datetime:
    at = moment if isinstance(moment, datetime) else datetime.combine(moment, _MIDNIGHT)
    return (at if at.tzinfo else at.replace(tzinfo=zone or UTC)).astimezone(UTC)


def _date(moment: date | datetime) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


def _clock(moment: date | datetime) -> time:
    return moment.time() if isinstance(moment, datetime) else _MIDNIGHT


# --- moments of shorter bars


def _moment_stamp(moment: date | datetime, zone: tzinfo | None, what: str, where: Where, row: int) -> datetime:
    if not isinstance(moment, datetime):
        raise BadBars(
            f"{what} has {moment} without a time of day in {where(row)}; write, for example, 2024-03-28 09:30:00"
        )
    if moment.tzinfo is None and zone is None:
        raise UsageError(
            f"the times in {what} have no time zone (the first is {moment}); name it with --tz ZONE, such as "
            "--tz America/New_York, or --tz exchange for the instrument's own (in --source, write csv:FOLDER?tz=ZONE)"
        )
    try:
        return moment.astimezone(UTC) if moment.tzinfo else _from_local(moment, zone or UTC)
    except (ValueError, OverflowError) as error:
        raise BadBars(
            f"{what} has {moment}, which {error}, in {where(row)}; write times in UTC, such as {moment}Z"
        ) from error


def _from_local(local: datetime, zone: tzinfo) -> datetime:
    early, late = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if early.utcoffset() != late.utcoffset():
        # The clock was put forward over this time, or back to it; a guess would be an hour off.
        twice = early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local
        raise ValueError(f"{'is there twice' if twice else 'does not exist'} in {zone} (daylight saving)")
    return early.astimezone(UTC)


# --- numbers


def _kind_of_number(text: str) -> str:
    whole = text.split(".")[0]
    if "e" in text.lower():
        return "epoch"
    if len(whole) > _LONGEST_NUMBER:
        return ""
    if len(whole) == 8 and _is_day(whole):
        return "date"
    if len(whole) in (12, 14) and whole == text and _is_day(whole[:8]) and int(whole[8:10]) < 24:
        return "moment"
    size = abs(int(whole))
    if any(_SANE[0] // 10 <= size // unit <= _SANE[1] for unit in _UNITS.values() if size >= unit * 10**8):
        return "epoch"
    return "serial" if _SINCE_EXCEL[0] <= size < _SINCE_EXCEL[1] else ""


def _is_day(text: str) -> bool:
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return False
    return 1900 <= day.year < 2100


def _read_numbers(texts: list[str], what: str, where: Where) -> Written:
    wholes = [text.split(".")[0] for text in texts]
    if all(len(whole) == 8 and _is_day(whole) for whole in wholes):
        return _read_texts(wholes, what, where, None)
    if all(len(text) in (12, 14) and _is_day(text[:8]) for text in texts):
        return _read_texts([f"{text[:8]} {text[8:]:0<6}" for text in texts], what, where, None)
    if all(re.fullmatch(r"\d{6}", text) for text in texts) and (days := _short_years(texts)):
        return Written([*days], "dates as YYMMDD")
    values = [float(text) if "e" in text.lower() else _exact(text) for text in texts]
    low, high = min(values), max(values)
    if _SINCE_EXCEL[0] <= low and high < _SINCE_EXCEL[1]:
        days_of = [
            datetime.combine(_EXCEL, _MIDNIGHT) + timedelta(seconds=round(float(one) * 86_400)) for one in values
        ]
        return Written([*days_of], "days as Excel serial numbers")
    unit = next((name for name, size in _UNITS.items() if _SANE[0] * size <= high <= _SANE[1] * size), "")
    if not unit and high < _SANE[0]:
        unit = "seconds"
    if not unit or low < -_SANE[0] * 7 * _UNITS[unit]:
        row = values.index(high if not unit else low)
        raise BadBars(
            f"{what} has {texts[row]} as a time in {where(row)}, which is neither YYYYMMDD nor seconds, milliseconds, "
            "microseconds or nanoseconds since 1970; write, for example, 2024-03-28 09:30:00"
        )
    size = _UNITS[unit]
    return Written([_EPOCH + timedelta(microseconds=_micro(value, size)) for value in values], f"{unit} since 1970")


def _exact(text: str) -> float | int:
    """Return a number; whole ones exactly, as nanoseconds require."""
    whole, _, rest = text.partition(".")
    return float(text) if rest.strip("0") or len(whole) > _LONGEST_NUMBER else int(whole)


def _micro(value: float | int, unit: int) -> int:
    return value * 10**6 // unit if isinstance(value, int) else round(value * 10**6 / unit)


def _short_years(texts: list[str]) -> list[date]:
    try:
        return [date(_year(int(text[:2]), text[:2]), int(text[2:4]), int(text[4:])) for text in texts]
    except ValueError:
        return []


# --- texts


def _texts_of(column: Any) -> list[str]:
    """Return the texts of a column without the blanks around them; "" for none."""
    return [(text or "").strip() for text in column.to_pylist()]


def _values_of(column: Any) -> list[Any]:
    """Return what a column holds."""
    return _texts_of(column) if is_text(column) else list(column.to_pylist())


def _day_text(day: Any) -> str:
    return f"{day:%Y-%m-%d}" if isinstance(day, date) else _MIDNIGHTS.sub("", str(day))


def _clock_text(clock: Any) -> str:
    """Return a time of day with separators, for files that write 930, 93000 or 093000."""
    text = str(clock).strip().removesuffix(".0")
    if re.fullmatch(r"\d{1,4}", text):
        return f"{text:0>4}"
    return f"{text:0>6}" if re.fullmatch(r"\d{5,6}", text) else text


def _read_texts(texts: list[str], what: str, where: Where, day_first: bool | None) -> Written:
    matches = [_STAMP.fullmatch(_western(text)) for text in texts]
    for row, match in enumerate(matches):
        if match is None or not _known_month(match):
            raise _no_time(texts[row], what, where(row))
    found = [match for match in matches if match]
    order = _order(found, what, where, day_first)
    moments: _Moments = []
    for row, match in enumerate(found):
        try:
            moments.append(_read_match(match, order))
        except (KeyError, ValueError, OverflowError, OSError) as error:
            raise _no_time(texts[row], what, where(row), f" ({error})") from error
    numbered = any(match["a"] for match in found)
    words = {"dmy": "days first", "mdy": "months first", "ymd": "two-digit years first"}
    return Written(moments, words[order] if numbered else "")


def _western(text: str) -> str:
    """Return a time without East Asian characters for year, month and day; of a week or month its first day."""
    plain = text.rstrip(".") if text.isascii() else text.translate(_EAST).strip().rstrip("-.").strip()
    if len(plain) > _LONGEST_PERIOD:
        return plain
    if match := re.fullmatch(r"(\d{4})-?W(\d\d)", plain):
        with suppress(ValueError):  # a week 54
            return f"{date.fromisocalendar(int(match[1]), int(match[2]), 1)}"
    if re.fullmatch(r"\d{4}[-/.]\d\d", plain):
        return f"{plain}{plain[4]}01"
    return f"1 {plain}" if re.fullmatch(r"[^\W\d_]{3,10}\.?[ -]\d{4}", plain) else plain


def _no_time(text: str, what: str, place: str, why: str = "") -> BadBars:
    return BadBars(
        f"{what} has {text!r} as a time in {place}{why}; write, for example, 2024-03-28 09:30:00, for daily bars "
        "2024-03-28"
    )


def _known_month(match: re.Match[str]) -> bool:
    name = match["name2"] or match["name3"] or match["name4"]
    return name is None or name.casefold() in MONTHS


def _order(matches: list[re.Match[str]], what: str, where: Where, day_first: bool | None) -> str:
    """Return the date order, "dmy", "mdy" or "ymd", from other rows if it is ambiguous; dates with dots are "dmy"."""
    numbered = [(row, match) for row, match in enumerate(matches) if match["a"]]
    if not numbered:
        return "dmy"
    if day_first is not None:
        return "dmy" if day_first else "mdy"
    short = any(len(match["last"]) == 2 for _, match in numbered)
    orders = ["dmy", "mdy", *(["ymd"] if short else [])]
    read = {order: days for order in orders if (days := _days_in([match for _, match in numbered], order))}
    if "dmy" in read and all(match["mark"] == "." for _, match in numbered):
        return "dmy"
    if len(read) > 1:
        steady = {order: days for order, days in read.items() if _is_steady(days)}
        read = steady or read
    if "ymd" in read and len(read) > 1:  # not both one day after the other and one year after the other
        near = {order: days for order, days in read.items() if _usual_step(days) <= 7}
        read = near or {order: days for order, days in read.items() if order != "ymd"}
    if len(read) > 1 and len({tuple(days) for days in read.values()}) > 1:
        row, match = next((row, match) for row, match in numbered if match["a"] != match["b"])
        raise UsageError(
            f"{what} has {match[0]!r} in {where(row)}, which may be day or month first; say which with --day-first or "
            "--month-first, or write dates as YYYY-MM-DD"
        )
    return next(iter(read), "dmy" if any(int(match["a"]) > 12 for _, match in numbered) else "mdy")


def _days_in(matches: list[re.Match[str]], order: str) -> list[date]:
    """Return the dates, read in one order; none if one of them does not exist."""
    try:
        return [_numbered_day(match, order) for match in matches]
    except ValueError:
        return []


def _is_steady(days: list[date]) -> bool:
    """Return whether dates ascend or descend throughout, as in most files."""
    return all(one <= other for one, other in pairwise(days)) or all(one >= other for one, other in pairwise(days))


def _usual_step(days: list[date]) -> float:
    steps = sorted(abs((other - one).days) for one, other in pairwise(days))
    return steps[len(steps) // 2] if steps else 0


def _numbered_day(match: re.Match[str], order: str) -> date:
    parts = dict(zip(order, (match["a"], match["b"], match["last"]), strict=True))
    return date(_year(int(parts["y"]), parts["y"]), int(parts["m"]), int(parts["d"]))


def _year(number: int, text: str) -> int:
    if len(text) > 2:
        return number
    return 2000 + number if number < _LATEST_CENTURY else 1900 + number


def _read_match(match: re.Match[str], order: str) -> date | datetime:
    day = _day_of(match, order)
    if match["clock"] is None:
        return day
    return _with_zone(datetime.combine(day, _clock_of(match["clock"], match["half"] or "")), match["zone"])


def _day_of(match: re.Match[str], order: str) -> date:
    if match["year"]:
        return date(int(match["year"]), int(match["month"] or match["month_"]), int(match["day"] or match["day_"]))
    if match["a"]:
        return _numbered_day(match, order)
    for n in "234":
        if name := match[f"name{n}"]:
            year = match["year4"] if n == "4" else match[f"last{n}"]
            return date(_year(int(year), year), MONTHS[name.casefold()], int(match[f"day{n}"]))
    raise ValueError("no date")


def _clock_of(text: str, half: str) -> time:
    if text[:6].isdigit() and ":" not in text:
        text = ":".join((text[:2], text[2:4], text[4:] or "00"))
    hours, minutes, *seconds = text.replace(",", ".").split(":")
    if len(seconds) == 2:  # 09:30:00:000
        seconds = [".".join(seconds)]
    whole, _, fraction = (seconds or ["0"])[0].partition(".")
    hour = int(hours)
    if half:
        if not 1 <= hour <= 12:
            raise ValueError(f"no hour {hour} of {half}m")
        hour = hour % 12 + (12 if half in "pP" else 0)
    return time(hour, int(minutes), int(whole), int(f"{fraction:0<6}"[:6]))


def _with_zone(local: datetime, word: str | None) -> datetime:
    if not word:
        return local
    word = word.strip()
    if match := re.fullmatch(r"(?:GMT|UTC)?\s*([+-])(\d\d?):?(\d\d)?", word):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        return local.replace(tzinfo=timezone(offset if match[1] == "+" else -offset))
    known = ABBREVIATIONS.get(word.upper())
    if isinstance(known, int | float):
        return local.replace(tzinfo=timezone(timedelta(hours=known)))
    return _from_local(local, ZoneInfo(known or word))
