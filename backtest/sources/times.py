"""Times as files write them, read as UTC; what could be read in two ways is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from backtest.errors import BadBars, UsageError
from backtest.market.calendars import time_zone
from backtest.market.hours import hours_of
from backtest.market.series import Series

_MIDNIGHT = time()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = re.compile(
    r"(?:(?P<year>\d{4})(?P<dash>[-/.]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"|(?P<a>\d\d?)(?P<mark>[-/.])(?P<b>\d\d?)(?P=mark)(?P<last_year>\d{4}))"
    r"(?:[T -]+(?P<clock>\d\d?:\d\d(?::\d\d(?:\.\d{1,6}0*)?)?)\s*(?P<zone>Z|[+-]\d\d:?\d\d|[A-Za-z][\w/+-]*)?)?"
)


def zone_named(tz: str | None, series: Series) -> ZoneInfo | None:
    """Return the zone of a name, or that of the series' exchange; None where none is named."""
    if not tz:
        return None
    try:
        return ZoneInfo(time_zone(hours_of(series.instrument)) if tz == "exchange" else tz)
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(f"no time zone {tz!r}; write such as America/New_York, UTC or exchange") from error


def moments_of(columns: list[Any], what: str) -> list[date | datetime]:
    """Return the times as they are written: aware or naive, or a date where there is no time of day."""
    import pyarrow as pa

    for column in columns:
        if column.null_count or (is_text(column) and "" in (texts := _texts_of(column))):
            row = column.is_null().index(True).as_py() if column.null_count else texts.index("")
            raise BadBars(f"{what} has no time in row {row + 1}; fill it in or take the row out")
    if len(columns) == 2:
        texts = [f"{_day_text(day)} {clock}" for day, clock in zip(*map(_values_of, columns), strict=True)]
        return list(_read_texts(texts, what))
    (column,) = columns
    if pa.types.is_timestamp(column.type):
        try:
            return list(column.cast(pa.timestamp("us", tz=column.type.tz)).to_pylist())
        except pa.ArrowException as error:
            raise BadBars(f"{what} has a time of less than a microsecond ({error}); round the times") from error
    if pa.types.is_date(column.type):
        return list(column.to_pylist())
    values = _values_of(column)
    if all(isinstance(value, int | float) or re.fullmatch(r"\d+(\.\d+)?", str(value)) for value in values):
        return _read_numbers([float(value) for value in values], what)
    return list(_read_texts([str(value) for value in values], what))


def is_text(column: Any) -> bool:
    """Return whether a column holds text."""
    import pyarrow as pa

    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _texts_of(column: Any) -> list[str]:
    """Return the texts of a column without the blanks around them."""
    return [text.strip() for text in column.to_pylist()]


def _values_of(column: Any) -> list[Any]:
    """Return what a column holds."""
    return _texts_of(column) if is_text(column) else list(column.to_pylist())


def _day_text(day: Any) -> str:
    return f"{day:%Y-%m-%d}" if isinstance(day, date) else str(day)


def _read_numbers(values: list[float], what: str) -> list[date | datetime]:
    low, high = min(values, default=0), max(values, default=0)
    if low >= 19_000_101 and high <= 21_001_231:
        return list(_read_texts([f"{value:.0f}" for value in values], what))
    if low >= 0 and high < 1e11:
        return [_EPOCH + timedelta(seconds=value) for value in values]
    if low >= 0 and 1e12 <= high < 1e14:
        return [_EPOCH + timedelta(milliseconds=value) for value in values]
    raise BadBars(
        f"{what} has times from {low:.0f} to {high:.0f}, neither seconds nor milliseconds since 1970 nor YYYYMMDD; "
        "write such as 2024-03-28 09:30:00"
    )


def _read_texts(texts: list[str], what: str) -> Iterator[date | datetime]:
    matches = [_STAMP.fullmatch(text) for text in texts]
    if None in matches:
        raise _no_time(texts[matches.index(None)], what)
    found = [match for match in matches if match]
    day_first = _day_first(found, what)
    for match in found:
        try:
            yield _read_match(match, day_first)
        except (KeyError, ValueError, OverflowError, OSError) as error:
            raise _no_time(match[0], what, f" ({error})") from error


def _no_time(text: str, what: str, why: str = "") -> BadBars:
    return BadBars(f"{what} has {text!r} as a time{why}; write such as 2024-03-28 09:30:00, for daily bars 2024-03-28")


def _day_first(matches: list[re.Match[str]], what: str) -> bool:
    """Return whether 03/04/2024 is in April, which other rows must tell; with dots it always is."""
    unclear = [match for match in matches if match["mark"] and match["mark"] != "."]
    if any(int(match["a"]) > 12 for match in unclear):
        return True
    if unclear and all(int(match["b"]) <= 12 and match["a"] != match["b"] for match in unclear):
        raise UsageError(f"{what} has {unclear[0][0]!r}, which may be day or month first; write dates as YYYY-MM-DD")
    return False


def _read_match(match: re.Match[str], day_first: bool) -> date | datetime:
    if match["year"]:
        day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    else:
        a, b = int(match["a"]), int(match["b"])
        number, month = (a, b) if day_first or match["mark"] == "." else (b, a)
        day = date(int(match["last_year"]), month, number)
    if match["clock"] is None:
        return day
    hours, minutes, *seconds = match["clock"].split(":")
    whole, _, fraction = (seconds or ["0"])[0].partition(".")
    clock = time(int(hours), int(minutes), int(whole), int(f"{fraction:0<6}"[:6]))
    return _with_zone(datetime.combine(day, clock), match["zone"])


def _with_zone(local: datetime, word: str | None) -> datetime:
    if not word:
        return local
    if word[0] in "+-":
        hours, minutes = int(word[1:3]), int(word[-2:])
        offset = timedelta(hours=hours, minutes=minutes)
        return local.replace(tzinfo=timezone(offset if word[0] == "+" else -offset))
    return _from_local(local, UTC if word == "Z" else ZoneInfo(word))


def stamps_of(moments: list[date | datetime], series: Series, zone: tzinfo | None, what: str) -> list[datetime]:
    """Return the times in UTC: of daily bars the session's midnight, of others the bar's opening."""
    if series.size.daily:
        return [_date_stamp(moment, zone, what) for moment in moments]
    if len(moments) > 1 and all(_clock(moment) == _MIDNIGHT for moment in moments):
        raise BadBars(f"{what} has dates without times of day, so it holds no bars of {series.short}; name a daily one")
    return [_moment_stamp(moment, zone, what) for moment in moments]


def _clock(moment: date | datetime) -> time:
    return moment.time() if isinstance(moment, datetime) else _MIDNIGHT


def _date_stamp(moment: date | datetime, zone: tzinfo | None, what: str) -> datetime:
    if isinstance(moment, datetime) and moment.tzinfo and zone and _clock(moment) != _MIDNIGHT:
        moment = moment.astimezone(zone)
    if _clock(moment) != _MIDNIGHT:
        raise BadBars(
            f"{what} has {moment} as the time of a daily bar, which is no date; write dates such as 2024-03-28, or "
            "name with --tz the zone in which the times are midnights"
        )
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)


def _moment_stamp(moment: date | datetime, zone: tzinfo | None, what: str) -> datetime:
    if not isinstance(moment, datetime):
        raise BadBars(f"{what} has {moment} without a time of day; write such as 2024-03-28 09:30:00")
    if moment.tzinfo is None and zone is None:
        raise UsageError(
            f"the times in {what} have no zone, the first is {moment}; name it with --tz ZONE, such as "
            "--tz America/New_York, or --tz exchange for the instrument's own (of a source: csv:FOLDER?tz=ZONE)"
        )
    try:
        return moment.astimezone(UTC) if moment.tzinfo else _from_local(moment, zone or UTC)
    except (ValueError, OverflowError) as error:
        raise BadBars(f"{what} has {moment}, which {error}; write times in UTC, such as {moment}Z") from error


def _from_local(local: datetime, zone: tzinfo) -> datetime:
    early, late = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if early.utcoffset() != late.utcoffset():
        # The clock was put forward over this time, or back to it; a guess would be an hour off.
        twice = early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local
        raise ValueError(f"{'is there twice' if twice else 'does not exist'} in {zone} (daylight saving)")
    return early.astimezone(UTC)
