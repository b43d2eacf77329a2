"""`FileSource`: a folder of files as a source."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from backtest._clock import Clock, utc_now
from backtest.errors import NoData, UnknownContract, UsageError, quoted
from backtest.market.extra import extra_names
from backtest.market.series import ContractDetails, Instrument, Series, did_you_mean_today, refuse_made
from backtest.market.span import Span
from backtest.sources.base import Source
from backtest.sources.files.reading import FileOptions, checked_bars

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".csv", ".parquet")
_DEVICE = re.compile(r"CON|PRN|AUX|NUL|(COM|LPT)[0-9\u00b9\u00b2\u00b3]", re.IGNORECASE)  # whatever the ending
_log = logging.getLogger(__name__)


class FileSource(Source):
    """
    A folder of files as a source: a series' own (`AAPL_1day.csv`) or one named by the instrument (`AAPL.csv`).

    The names are the short spellings, with `_` for `/`; both may end in .csv or .parquet. `tz` is the zone of times
    that have none, "exchange" for the instrument's own; `extra` are the names of columns to keep, as in `bars_of`;
    `stamped` says whether intraday times are openings or, with "close", closing times.
    """

    name = "csv"
    waiting_for = ""
    believed = True

    def __init__(
        self,
        folder: str | Path,
        tz: str | None = None,
        clock: Clock = utc_now,
        extra: Iterable[str] = (),
        stamped: str = "",
    ) -> None:
        self._folder, self._clock = Path(folder), clock
        self._options = FileOptions(tz=tz or "", extra=extra_names(extra), stamped=stamped)
        self.requests = self.violations = 0
        if not self._folder.is_dir():
            raise UsageError(f"no folder {quoted(folder)}; write csv:FOLDER, a folder with files such as AAPL_1day.csv")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def now(self) -> datetime:
        """Return the time of the clock: bars that end later are not finished."""
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
        """Return the time of the first bar, None if there is none."""
        bars = checked_bars(self._path(series), series, replace(self._options, extra=())).bars
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
            UnknownContract: no file is named after the series.
            NoData: the file has no bars there.
            UsageError, BadBars: the file cannot be read as bars; see `bars_of`.
        """
        import pyarrow.compute as pc

        path = self._path(series)
        self.requests += 1
        read = checked_bars(path, series, self._options)
        for note in read.notes:
            _log.warning("%s: %s", path, note)
        bars = read.bars
        inside = pc.and_(pc.greater_equal(bars["time"], window.start), pc.less(bars["time"], window.end))
        found = bars.filter(inside)
        if not len(found):
            raise NoData(f"{path} has no bars of {series.short} from {window}")
        return found

    def _path(self, series: Series) -> Path:
        refuse_made(series.instrument)
        names = tuple(dict.fromkeys(name for short in (series.short, series.short_key) for name in _names_of(short)))
        for name in names:
            found = [path for ending in ENDINGS if (path := self._folder / f"{name}{ending}").is_file()]
            if len(found) > 1:
                raise UsageError(f"{found[0]} and {found[1]} both hold {series.short}; remove one of them")
            if found:
                return found[0]
        raise UnknownContract(
            f"{self._folder} has no file of {series.short}; name it {' or '.join(f'{name}.csv' for name in names[:2])}"
            f"{did_you_mean_today(series)}"
        )


def _names_of(spelling: str) -> list[str]:
    """Return the names of the files of a series without their ending; Windows opens a device for CON.csv."""
    return [name for name in (spelling.replace("/", "_"), spelling.partition("/")[0]) if not _DEVICE.fullmatch(name)]
