"""
Publishing: copy a store to a bucket or a folder, for `open_store` to read.

A published store is a store like any other. Segments are sent first and never change; then the manifest is replaced,
but only if it is still the one that was read before (compare-and-swap). So readers see the old state or the new one,
and if two users publish at once, the second is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from backtest import _arguments
from backtest.errors import BadStore, Conflict, DamagedStore, NoBars, NoConnection, UsageError
from backtest.market.series import Series, several_series
from backtest.market.span import Span
from backtest.store.files import locked, make_folders, read_file, sync_folder, write_file
from backtest.store.layout import MARK, format_in, names_of
from backtest.store.manifest import LARGEST_SEGMENT, REPAIR, Manifest, Segment
from backtest.store.manifest_json import of_bytes, to_bytes
from backtest.store.reader import lacks, nothing_in
from backtest.store.remote import Place, check_size, explained
from backtest.store.segments import decode_segment
from backtest.store.store import Store, open_local
from backtest.store.tables import differing

if TYPE_CHECKING:
    import pyarrow as pa

_PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Published:
    """The numbers of files and bytes sent for a series, including the manifest; 0 if everything was already there."""

    series: Series
    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        sent = f"{self.files:,} files, {self.bytes:,} bytes sent" if self.files else "up to date"
        return f"{self.series.short}: {sent}"

    def to_dict(self) -> dict[str, int]:
        """Return the numbers as JSON values."""
        return {"files": self.files, "bytes": self.bytes}


def publish(
    store: Store | str | Path,
    url: str,
    series: Series | str | Iterable[Series | str] = (),
    *,
    tell: Callable[[Published], object] = lambda _: None,
) -> list[Published]:
    """
    Publish series to a URL, by default all in the store, and return what was sent for each.

    Only new files are sent. If the publication is killed, each series there is in its old state or in its new one; the
    next publication resumes.

    Args:
        store: a store, or its folder.
        series: one series or several, or their spellings.
        url: s3://BUCKET/PREFIX (needs the extra `s3`), or file:///FOLDER.
        tell: called with each series when it is done.

    Raises:
        UsageError: an argument is invalid.
        Conflict: bars were published that this store lacks or has with other values, or another user is publishing.
        NoBars: the store does not know a series.
        NoConnection: the server cannot be reached, or refuses.
    """
    _arguments.function(tell, "tell", "write a function that takes a Published, or leave it out")
    target = _target(Place.parse(_arguments.text(url, "the URL", "write s3://BUCKET/PREFIX, or file:///FOLDER")))
    store = store if isinstance(store, Store) else open_local(store)
    asked = [store.named(one) for one in several_series(series)]
    wanted = asked or [one for one in store.series() if store.manifest_or_empty(one).generation]
    unknown = [one for one in wanted if not store.manifest_or_empty(one).generation]
    if not wanted:
        raise NoBars(f"there is nothing to publish: {nothing_in(store)}")
    if unknown:
        raise NoBars(lacks(store, *unknown))
    _mark(store, target)
    done = []
    for one in wanted:
        done.append(_publish(store, target, one))
        tell(done[-1])
    return done


class _Target(Protocol):
    """What publishing needs of a target: files by name, and a compare-and-swap for one of them."""

    place: Place

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return the bytes of a file and a tag of its current state; None if there is no such file."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of each file below a folder, by its relative path."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file that never changes."""

    def swap(self, name: str, data: bytes, tag: str | None) -> bool:
        """Write a file if its current state has this tag (None: no file yet); return whether it was written."""

    def delete(self, name: str) -> None:
        """Remove a file."""


def _target(place: Place) -> _Target:
    if place.scheme == "file":
        return _Folder(place)
    if place.scheme == "s3":
        return _Bucket(place)
    raise UsageError(f"{place} cannot be published to safely; use s3:// or file://")


def _mark(store: Store, target: _Target) -> None:
    """Ensure that the target is marked as a store, and that it honours conditional writes."""
    ours = (store.root / MARK).read_bytes()
    there = target.get(MARK)
    if there is None:
        if target.sizes(""):
            raise BadStore(f"{target.place} holds something other than a store; name an empty prefix")
        target.swap(MARK, ours, None)
    elif not format_in(there[0]):
        raise DamagedStore(f"{MARK} of {target.place} has no format; restore it")
    elif format_in(there[0]) > format_in(ours):
        raise BadStore(f"{target.place} has a newer format than {store.root}; upgrade ib-backtest")
    elif format_in(there[0]) < format_in(ours):
        target.swap(MARK, ours, there[1])
    # Trust is not enough: a server that takes no notice of the conditions would let the last of two win.
    if target.swap(MARK, ours, None) or target.swap(MARK, ours, '"0"'):
        raise UsageError(
            f"{target.place} ignores If-Match or If-None-Match, so two publishers could overwrite each other"
        )


def _publish(store: Store, target: _Target, series: Series) -> Published:
    ours = _own(store, series)
    while True:
        try:
            return _publish_state(store, target, series, ours)
        except FileNotFoundError as error:
            newer = _own(store, series)
            if newer.generation == ours.generation:
                raise DamagedStore(f"{error.filename} is missing; run: backtest verify {series.quoted}") from error
            ours = newer  # a writer moved on while we read


def _own(store: Store, series: Series) -> Manifest:
    return replace(store.manifest_or_empty(series), aside=())  # what is in quarantine is for those who judge it here


def _publish_state(store: Store, target: _Target, series: Series, ours: Manifest) -> Published:
    name = f"{series.key}/manifest.json"
    published, tag = target.get(name) or _born(target, name, series)
    theirs = of_bytes(published, f"{target.place}/{name}", series)
    _check_nothing_is_lost(store, target, series, ours, theirs)
    sent = _send_segments(store, target, series, ours)
    if replace(theirs, generation=ours.generation) == ours:
        return Published(series, len(sent), sum(sent))
    # A later state has a higher number, even if the earlier ones were published from another store.
    data = to_bytes(replace(ours, generation=max(ours.generation, theirs.generation + 1)))
    if not target.swap(name, data, tag) and not _is(target.get(name), data):
        raise Conflict(f"{series.short} was just published to {target.place} by somebody else; run this again")
    for folder, before, now in (("bars", theirs.segments, ours.segments), ("archive", theirs.archived, ours.archived)):
        for file in sorted(names_of(before) - names_of(now)):
            target.delete(f"{series.key}/{folder}/{file}")
    return Published(series, len(sent) + 1, sum(sent) + len(data))


def _born(target: _Target, name: str, series: Series) -> tuple[bytes, str]:
    """Begin with an empty manifest: segments without one are then always damage."""
    target.swap(name, to_bytes(Manifest(series.key)), None)
    there = target.get(name)
    if there is None:
        raise NoConnection(f"{target.place}/{name} was written but cannot be found; check the server")
    return there


def _is(there: tuple[bytes, str] | None, data: bytes) -> bool:
    # A swap may succeed while its answer is lost; a repeated request then finds that the state differs.
    return there is not None and there[0] == data


def _send_segments(store: Store, target: _Target, series: Series, ours: Manifest) -> list[int]:
    """Send the segments that the target lacks, and return their sizes."""
    there = target.sizes(series.key)
    kept = [("bars", one) for one in ours.segments] + [("archive", one) for one in ours.archived]
    sent = []
    for folder, segment in kept:
        name = f"{series.key}/{folder}/{segment.file}"
        if there.get(name) != segment.bytes:
            target.put(name, _own_bytes(store.folder(series) / folder / segment.file, segment))
            sent.append(segment.bytes)
    return sent


def _own_bytes(path: Path, segment: Segment) -> bytes:
    data = read_file(path, segment.bytes)
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs); {REPAIR}")
    return data


def _check_nothing_is_lost(store: Store, target: _Target, series: Series, ours: Manifest, theirs: Manifest) -> None:
    """Raise Conflict unless all published bars and answers are in our store, as current ones or in a revision."""
    known = names_of([*ours.segments, *ours.archived])
    lost = [
        row
        for segment in theirs.segments
        if segment.file not in known
        for row in _lost_bars(store, series, _published_bars(target, series, segment))
    ]
    unasked = [span for covered in theirs.coverage for span in covered.minus(ours.coverage)]
    if not lost and not unasked:
        return
    what = f"{len(lost)} bars, the first at {lost[0]}" if lost else f"the answers for {unasked[0]}"
    raise Conflict(
        f"{target.place} has {series.short} in generation {theirs.generation} (content {theirs.content[:12]}), of "
        f"which {store.root} in generation {ours.generation} (content {ours.content[:12]}) lacks {what}; nothing of "
        "it was published: download it here too, or publish elsewhere"
    )


def _published_bars(target: _Target, series: Series, segment: Segment) -> pa.Table:
    name = f"{series.key}/bars/{segment.file}"
    there = target.get(name)
    if there is None:
        raise Conflict(f"{target.place}/{name} is gone: somebody is publishing there right now; run this again")
    return decode_segment(there[0], segment, f"{target.place}/{name}")


def _lost_bars(store: Store, series: Series, published: pa.Table) -> list[datetime]:
    """Return the times of the published bars that the store has neither now nor in a revision."""
    import pyarrow as pa

    span = Span(published["time"][0].as_py(), published["time"][-1].as_py() + timedelta(microseconds=1))
    lost = published
    for revision in (None, *(one.number for one in reversed(store.revisions(series)))):
        if not len(lost):
            break
        with contextlib.suppress(NoBars):
            rows = differing(lost, store.read(series, span, revision=revision))
            lost = lost.take(pa.array(rows, pa.int64()))
    return list(lost["time"].to_pylist())


class _Folder:
    """A folder on this machine or on a network share that supports locks."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._root = Path("/") / place.prefix

    def get(self, name: str) -> tuple[bytes, str] | None:
        try:
            data = read_file(self._root / name, LARGEST_SEGMENT)
        except FileNotFoundError:
            return None
        return data, hashlib.sha256(data).hexdigest()

    def sizes(self, folder: str) -> dict[str, int]:
        found = (path for path in (self._root / folder).rglob("[!.]*") if path.is_file())
        return {path.relative_to(self._root).as_posix(): path.stat().st_size for path in found}

    def put(self, name: str, data: bytes) -> None:
        path = self._root / name
        make_folders(path.parent, self._root)
        write_file(path, data, path.parent.parent)
        sync_folder(path.parent)

    def swap(self, name: str, data: bytes, tag: str | None) -> bool:
        path = self._root / name
        make_folders(path.parent, self._root)
        with locked(path.parent / ".lock"):
            there = self.get(name)
            if (there[1] if there else None) != tag:
                return False
            write_file(path, data)
            sync_folder(path.parent)
        return True

    def delete(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)


class _Bucket:
    """A bucket, written through obstore, which unlike pyarrow supports conditional writes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError as error:
            raise UsageError(
                "publishing to S3 needs the obstore package; install it: pip install 'ib-backtest[s3]'"
            ) from error
        self._library, self._error = obstore, BaseError
        with explained(place, BaseError):
            self._bucket = S3Store(
                place.bucket,
                prefix=place.prefix or None,
                config=_config(place),
                client_options={"allow_http": True},  # http:// is used only where the user wrote it
                retry_config={"max_retries": 4, "retry_timeout": _PATIENCE},
            )

    def get(self, name: str) -> tuple[bytes, str] | None:
        with explained(self.place, self._error):
            try:
                got = self._library.get(self._bucket, name)
                check_size(f"{self.place}/{name}", got.meta["size"], LARGEST_SEGMENT)
                return bytes(got.bytes()), got.meta["e_tag"] or ""
            except FileNotFoundError:
                return None

    def sizes(self, folder: str) -> dict[str, int]:
        with explained(self.place, self._error):
            pages = list(self._library.list(self._bucket, folder or None))
        return {one["path"]: one["size"] for page in pages for one in page}

    def put(self, name: str, data: bytes) -> None:
        with explained(self.place, self._error):
            self._library.put(self._bucket, name, data, use_multipart=False)

    def swap(self, name: str, data: bytes, tag: str | None) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if tag is None else {"e_tag": tag}
        with explained(self.place, self._error):
            try:
                self._library.put(self._bucket, name, data, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def delete(self, name: str) -> None:
        with explained(self.place, self._error):
            self._library.delete(self._bucket, name)


def _config(place: Place) -> Any:
    config = {"region": place.options["region"]} if "region" in place.options else {}
    if host := place.options.get("endpoint_override"):
        config["endpoint"] = f"{place.options.get('scheme', 'https')}://{host}"
    return config
