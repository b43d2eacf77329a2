"""
Stores at a URL, such as s3://bucket/bars, read like a folder.

The library that talks to the server finds the credentials; a URL that contains any is refused, and no message of ours
repeats the server's text.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from errno import ENOENT
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from backtest._system import put_in_place
from backtest.errors import BadStore, DamagedStore, NoConnection, UsageError
from backtest.market.series import Series, refuse_made
from backtest.store.files import read_file
from backtest.store.layout import LARGEST_MARK, MARK, format_in
from backtest.store.manifest import FORMAT, LARGEST, Manifest, Segment
from backtest.store.manifest_json import of_bytes
from backtest.store.reader import SegmentReader

_OPTIONS = ("region", "endpoint_override", "scheme")  # as pyarrow names them
_TRIES = 5  # of a manifest that is being replaced while it is read
_THREADS = 8  # that fetch segments: the way is long, not narrow
_AGAIN = "remove it there, and run: backtest publish URL"


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a store: the parts of a URL that may be shown, and the options of its server."""

    scheme: str
    bucket: str
    prefix: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> Place:
        """
        Return the location in a URL.

        Raises:
            UsageError: it is not the URL of a store, or contains a login; then the text does not repeat it.
        """
        try:
            parts = urlsplit(url)
        except ValueError:  # such as half a bracket around an address; its words repeat the URL, and a login in it
            raise UsageError("the URL of the store cannot be read; write s3://BUCKET/PREFIX") from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "@" in "".join([parts.netloc, parts.path, *options.values()]) or set(options) - set(_OPTIONS):
            raise UsageError(
                "the URL of the store holds a login or an option other than "
                f"{', '.join(_OPTIONS)}; credentials belong in the environment, such as AWS_ACCESS_KEY_ID"
            )
        if not parts.scheme:
            raise UsageError(f"{url[:80]!r} is not a URL; write s3://BUCKET/PREFIX, or file:///FOLDER")
        if not re.fullmatch(r"[A-Za-z0-9._-]*", parts.netloc) or bool(parts.netloc) == (parts.scheme == "file"):
            raise UsageError("the URL names no bucket; write s3://BUCKET/PREFIX, or file:///FOLDER")
        return cls(parts.scheme, parts.netloc, unquote(parts.path).strip("/"), options)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}"


class RemoteStore(SegmentReader):
    """
    A store at a URL, read through `pyarrow.fs`; each read sees a consistent state, even while somebody publishes.

    Segments never change, so each is fetched once and cached in a temporary folder while this object exists.
    """

    def __init__(self, url: str) -> None:
        self.place, self._url = Place.parse(url), url
        self.name = str(self.place)
        self._files, self._top = _filesystem(url, self.place)
        self._format()
        self._fetched = Path(tempfile.mkdtemp(prefix="ib-backtest-"))
        weakref.finalize(self, shutil.rmtree, self._fetched, ignore_errors=True)

    def __reduce__(self) -> tuple[type[RemoteStore], tuple[str]]:
        return RemoteStore, (self._url,)  # another process fetches for itself

    def series(self) -> list[Series]:
        """Return every series to which something is committed, sorted by spelling."""
        sizes = self._sizes("")
        names = [name.split("/") for name in sizes]
        keys = {"/".join(name[:4]) for name in names if len(name) > 4 and name[4] in ("manifest.json", "bars")}
        found = sorted(map(Series.parse, keys), key=lambda one: one.key)
        return [one for one in found if not self._is_unborn(one, sizes.get(f"{one.key}/manifest.json"))]

    def _format(self) -> int:
        try:
            number = format_in(self._bytes(MARK, LARGEST_MARK))
        except FileNotFoundError:
            raise BadStore(f"there is no store at {self.place}; publish one there: backtest publish URL") from None
        if not number:
            raise DamagedStore(f"{MARK} of {self.place} has no format; restore it")
        if number > FORMAT:
            raise BadStore(
                f"{self.place} has format {number}, but this version reads format {FORMAT}; upgrade ib-backtest"
            )
        return number

    def _read_manifest(self, series: Series) -> Manifest | None:
        refuse_made(series.instrument)
        name = f"{series.key}/manifest.json"
        for attempt in range(_TRIES):
            try:
                return of_bytes(self._bytes(name, LARGEST), f"{self.place}/{name}", series)
            except FileNotFoundError:
                there = self._sizes(series.key)
                if name in there:
                    continue  # by now: somebody has begun to publish the series, its manifest first
                if any(file.startswith(f"{series.key}/bars/") for file in there):
                    break
                return None
            except DamagedStore:
                # Replaced between two requests of the library, it comes back torn, which its hash tells.
                if attempt == _TRIES - 1:
                    raise
        raise DamagedStore(f"{self.place}/{name} is missing, but its bars are there; run: backtest publish URL")

    def _paths(self, series: Series, manifest: Manifest, segments: Iterable[Segment]) -> list[Path]:
        from concurrent.futures import ThreadPoolExecutor

        stored = {segment.file for segment in manifest.segments}
        folders = {False: f"{series.key}/archive", True: f"{series.key}/bars"}
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda one: self._fetch(f"{folders[one.file in stored]}/{one.file}", one), segments))

    def _fetch(self, name: str, segment: Segment) -> Path:
        """Fetch a segment, and return its path."""
        path = self._fetched / segment.sha256
        if not path.exists():
            data = self._bytes(name, segment.bytes)
            if hashlib.sha256(data).hexdigest() != segment.sha256:
                raise DamagedStore(f"{self.place}/{name} is not what was published (its SHA-256 differs); {_AGAIN}")
            beside = path.with_suffix(f".{threading.get_ident()}")
            beside.write_bytes(data)
            put_in_place(beside, path)  # another thread may be looking for it
        return path

    def _bytes(self, name: str, limit: int) -> bytes:
        path = f"{self._top}/{name}"
        try:
            with explained(self.place):
                if self.place.scheme == "file":  # where a pipe, a device or a link may replace a file
                    return read_file(Path(path), limit)
                with self._files.open_input_file(path) as file:
                    check_size(f"{self.place}/{name}", file.size(), limit)
                    data: bytes = file.read()
        except FileNotFoundError:
            raise FileNotFoundError(ENOENT, "not published", f"{self.place}/{name}") from None
        return data

    def _sizes(self, folder: str) -> dict[str, int]:
        """Return the sizes of all files below a folder, by their paths from the top."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(f"{self._top}/{folder}".rstrip("/"), recursive=True, allow_not_found=True)
        with explained(self.place):
            found = self._files.get_file_info(selector)
        return {one.path.removeprefix(f"{self._top}/"): one.size for one in found if one.is_file}


# --- the libraries


def _filesystem(url: str, place: Place) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    with explained(place):
        try:
            files, path = FileSystem.from_uri(url)
        except ValueError as error:
            raise UsageError(f"{place} cannot be opened; write s3://BUCKET/PREFIX, or file:///FOLDER") from error
    return files, path.rstrip("/")


def check_size(name: str, size: int, limit: int) -> None:
    """Raise DamagedStore for a file larger than any of its kind: it may come from elsewhere."""
    if size > limit:
        raise DamagedStore(f"{name} has {size:,} bytes, more than the limit of {limit:,}; {_AGAIN}")


@contextlib.contextmanager
def explained(place: Place, kind: type[Exception] = OSError) -> Iterator[None]:
    """
    Raise a library's error as NoConnection, without the server's text, which contains the user's key.

    A key that disappears after its size was read is a missing file, not a bad connection.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, kind) as error:
        if re.search(r"NO_SUCH_KEY|NoSuchKey|RESOURCE_NOT_FOUND during GetObject", str(error)):
            raise FileNotFoundError(ENOENT, "not published", str(place)) from None
        said = re.search(r"AWS Error [A-Z_]+|status [0-9]{3} [A-Za-z ]+|error sending request", str(error))
        raise NoConnection(
            f"{place} cannot be used ({said[0] if said else type(error).__name__}); check the address, the network "
            "and the credentials in the environment, such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"
        ) from None
