import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from bucket import KEY, SECRET, Bucket
from judge import complaints
from market import minute_bars, span_of_sessions, store_with
from places import ROOT

from backtest.downloads.downloader import download, plan_download
from backtest.errors import BadStore, Conflict, DamagedStore, NoBars, NoConnection, UsageError
from backtest.market.bars import schema
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store import pins
from backtest.store.audit.listing import list_series
from backtest.store.manifest import Manifest
from backtest.store.manifest_json import of_bytes, to_bytes
from backtest.store.publishing import Published, publish
from backtest.store.store import Store, open_folder, open_store

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes, devices or links for everybody")
AAPL = Series.parse("AAPL/5mins")
BRK = Series.parse("BRK B/1day")
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a store of two series; it is not to be written to."""
    wanted = {str(AAPL): ("2024-01-02", "2024-02-29"), str(BRK): ("2024-01-02", "2024-02-29")}
    return store_with(tmp_path_factory.mktemp("made"), wanted)


@pytest.fixture
def store(made, tmp_path):
    """Return a copy of it."""
    return Store(shutil.copytree(made.root, tmp_path / "store"))


@pytest.fixture
def bucket(monkeypatch):
    """Yield a bucket, whose credentials are in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with Bucket() as served:
        yield served


def update(store, since=date(2024, 3, 1)):
    """Write a week more of each series into the store."""
    for series in (AAPL, BRK):
        until = since + timedelta(days=6)
        bars = minute_bars(series, since, until)
        store.write(series, span_of_sessions(series, since, until), bars, source="market")


def revise(store, seconds=1):
    """Change one bar of the middle of January, as an accepted revision would."""
    at = store.read(AAPL)["time"][700].as_py()
    span = Span(at, at + timedelta(seconds=seconds))
    row = store.read(AAPL, span).to_pylist()[0]
    store.write(AAPL, span, pa.Table.from_pylist([row | {"volume": row["volume"] + 1}], schema()), revise=True)


def bars_of(store):
    """Return the bars of each series that has any."""
    return {series: store.read(series) for series in store.series() if store.manifest_or_empty(series).rows}


# --- what is published is what is read


def test_a_series_with_a_qualifier_is_published_and_read_like_any_other(bucket, tmp_path):
    store = store_with(tmp_path, {"MSFT+primary=NASDAQ/1day": ("2024-01-02", "2024-01-31")})

    publish(store, bucket.url())

    assert bars_of(open_store(bucket.url())) == bars_of(store)
    assert "store/MSFT-STK-SMART-USD+primary=NASDAQ/1day/TRADES/rth/manifest.json" in bucket.objects


def test_what_was_published_is_read_bit_for_bit(store, bucket):
    publish(store, bucket.url())

    there = open_store(bucket.url())

    assert there.series() == store.series() == [AAPL, BRK]
    assert bars_of(there) == bars_of(store)
    assert [there.manifest(series) for series in (AAPL, BRK)] == [store.manifest(series) for series in (AAPL, BRK)]
    assert there.gaps(AAPL, span_of_sessions(AAPL, date(2024, 2, 1), date(2024, 3, 29))) != []


def test_a_series_whose_first_publishing_is_under_way_is_listed_by_nobody(store, bucket):
    publish(store, bucket.url(), [BRK])
    begun = to_bytes(Manifest(AAPL.key))
    bucket.objects[f"store/{AAPL.key}/manifest.json"] = begun
    bucket.objects[f"store/{AAPL.key}/bars/2024-01.8139f5ddaac6.parquet"] = b"PAR1"

    there = open_store(bucket.url())

    assert there.series() == [BRK]
    assert [entry.series for entry in list_series(there)] == [BRK]
    with pytest.raises(NoBars):
        there.read(AAPL)


def test_a_span_is_read_from_the_segments_that_it_touches(store, bucket):
    publish(store, bucket.url())
    february = span_of_sessions(AAPL, date(2024, 2, 5), date(2024, 2, 9))
    there = open_store(bucket.url())

    bars = there.read(AAPL, february)

    assert bars == store.read(AAPL, february)
    assert [name for name in bucket.requests if "2024-01" in name and name.startswith("GET")] == []


def test_a_revision_is_read_as_it_was(store, bucket):
    before = store.read(AAPL)
    revise(store)
    publish(store, bucket.url())

    there = open_store(bucket.url())

    assert there.read(AAPL, revision=1) == before
    assert there.read(AAPL) == store.read(AAPL) != before


def test_a_folder_that_was_published_to_is_a_store(store, tmp_path):
    publish(store, (tmp_path / "shared").as_uri())

    there = Store(tmp_path / "shared")

    assert bars_of(there) == bars_of(open_store((tmp_path / "shared").as_uri())) == bars_of(store)
    assert complaints(there.root) == []


def test_a_pin_holds_after_the_way_through_a_bucket(store, bucket, tmp_path):
    pins.add(store, tmp_path / "data.lock", [AAPL, BRK])
    publish(store, bucket.url())

    reports = pins.examine(open_store(bucket.url()), tmp_path / "data.lock")

    assert [report.status for report in reports] == ["held", "held"]


def test_only_what_is_new_is_sent(store, bucket):
    first = publish(store, bucket.url())
    update(store)
    bucket.requests.clear()

    second, third = publish(store, bucket.url()), publish(store, bucket.url())

    sent = [name for name in bucket.requests if name.startswith("PUT") and "STORE.json" not in name]
    assert [one.files for one in first] == [3, 2]
    assert [one.rpartition("/")[2].split(".")[0] for one in sent] == ["2024-03", "manifest", "all", "manifest"]
    assert sum(one.bytes for one in second) < sum(one.bytes for one in first)
    assert third == [Published(AAPL), Published(BRK)]


def test_the_manifest_comes_last_and_what_it_replaced_goes_after_it(store, bucket):
    publish(store, bucket.url())
    update(store)
    bucket.requests.clear()

    publish(store, bucket.url(), [BRK])

    segment, manifest, *after = [name for name in bucket.requests if not name.startswith("GET")][2:]
    assert segment.startswith(f"PUT store/{BRK.key}/bars/all.")
    assert manifest == f"PUT store/{BRK.key}/manifest.json"
    assert after == ["POST "]  # a list of files to delete
    assert sum("/bars/" in key and "BRK" in key for key in bucket.objects) == 1


def test_only_the_series_named_are_published(store, bucket):
    publish(store, bucket.url(), [BRK])

    assert open_store(bucket.url()).series() == [BRK]


def test_a_series_that_the_store_lacks_is_not_published(store, bucket):
    with pytest.raises(NoBars, match="MSFT/1day"):
        publish(store, bucket.url(), [Series.parse("MSFT/1day")])

    assert bucket.requests == []


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_segment_that_was_lost_there_is_sent_again(store, bucket, harm):
    publish(store, bucket.url())
    (name,) = (key for key in bucket.objects if f"{AAPL}/bars/2024-01" in key)
    data = bucket.objects.pop(name)
    if harm == "cut":
        bucket.objects[name] = data[:-1]

    sent = publish(store, bucket.url())

    assert sent == [Published(AAPL, 1, len(data)), Published(BRK)]
    assert bars_of(open_store(bucket.url())) == bars_of(store)


def test_pruned_revisions_go_there_too(store, bucket):
    revise(store)
    publish(store, bucket.url())
    archived = [key for key in bucket.objects if "/archive/" in key]
    store.prune(AAPL)

    publish(store, bucket.url())

    assert len(archived) == 1
    assert [key for key in bucket.objects if "/archive/" in key] == []
    assert open_store(bucket.url()).read(AAPL) == store.read(AAPL)


def test_an_empty_store_is_not_published(bucket, tmp_path):
    with pytest.raises(NoBars, match=r"nothing to publish: .*[/\\]empty is not a store"):
        publish(Store(tmp_path / "empty"), bucket.url())

    assert bucket.objects == {}


def test_a_damaged_segment_is_not_published(store, bucket):
    path = store.folder(AAPL) / "bars" / store.manifest(AAPL).segments[0].file
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(DamagedStore, match=path.name):
        publish(store, bucket.url())

    assert open_store(bucket.url()).manifest_or_empty(AAPL).rows == 0


# --- nobody's bars are undone


def test_a_store_that_lacks_published_bars_is_refused_and_both_states_are_named(store, made, bucket):
    update(store)
    publish(store, bucket.url())
    before = dict(bucket.objects)

    with pytest.raises(Conflict) as refused:
        publish(made, bucket.url())

    ours, theirs = made.manifest(AAPL), store.manifest(AAPL)
    assert bucket.objects == before
    assert f"generation {theirs.generation} (content {theirs.content[:12]})" in str(refused.value)
    assert f"generation {ours.generation} (content {ours.content[:12]})" in str(refused.value)
    assert "2024-03-01" in str(refused.value)


def test_other_values_of_published_bars_are_refused_but_as_a_revision(store, made, bucket):
    publish(made, bucket.url())
    other = store_with(store.root.parent / "other", {str(AAPL): ("2024-01-02", "2024-03-28")}, seed=8)
    revise(store)

    with pytest.raises(Conflict, match=r"lacks .* bars, the first at 2024-01-02"):
        publish(other, bucket.url())
    publish(store, bucket.url())

    assert open_store(bucket.url()).read(AAPL) == store.read(AAPL)


def test_a_revision_after_an_append_is_no_loss(store, made, bucket):
    publish(made, bucket.url())
    update(store)
    revise(store)
    update(store, date(2024, 3, 8))
    revise(store)

    publish(store, bucket.url())

    assert bars_of(open_store(bucket.url())) == bars_of(store)


def test_an_answer_that_was_published_is_not_forgotten(store, made, bucket):
    nothing = span_of_sessions(AAPL, date(2024, 3, 4), date(2024, 3, 5))
    store.write(AAPL, nothing, schema().empty_table(), source="market", text="no data")
    publish(store, bucket.url())

    with pytest.raises(Conflict, match="the answers for 2024-03-0"):
        publish(made, bucket.url())


def test_generations_never_go_back(store, bucket, tmp_path):
    update(store)
    publish(store, bucket.url())
    whole = store_with(tmp_path / "whole", {str(AAPL): ("2024-01-02", "2024-03-28")})
    assert whole.manifest(AAPL).generation < store.manifest(AAPL).generation

    first, second = publish(whole, bucket.url()), publish(whole, bucket.url())

    there = open_store(bucket.url()).manifest(AAPL)
    assert there.generation == store.manifest(AAPL).generation + 1
    assert (first[0].files, second[0].files) == (4, 0)  # a file also says where its bars came from


def test_of_two_who_publish_at_once_the_second_is_refused(store, made, bucket, tmp_path):
    publish(made, bucket.url())
    rival = Store(shutil.copytree(store.root, tmp_path / "rival"))
    update(store)
    update(rival, date(2024, 3, 11))
    swapped = to_bytes(rival.manifest(AAPL))

    def meddle(request):
        # The rival's manifest arrives after ours was compared, just before it is put.
        if request.startswith("PUT") and request.endswith("5mins/TRADES/rth/manifest.json"):
            bucket.objects[request.removeprefix("PUT ")] = swapped

    bucket.intercept = meddle

    with pytest.raises(Conflict, match="by somebody else; run"):
        publish(store, bucket.url())

    assert bucket.objects[f"store/{AAPL}/manifest.json"] == swapped


def test_of_two_who_publish_first_at_once_the_second_is_refused(store, made, bucket):
    update(store)
    rivals = {f"store/{name}": data for name, data in files_of(store).items()}

    def meddle(request):
        if request == f"PUT store/{AAPL}/manifest.json":
            bucket.objects.update(rivals)

    bucket.intercept = meddle

    with pytest.raises(Conflict, match="2024-03-01"):
        publish(made, bucket.url())

    assert bucket.objects == rivals


@pytest.mark.parametrize("name", ["STORE.json", f"{AAPL.key}/manifest.json", "segment"])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda path: os.mkfifo(path), marks=POSIX, id="pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), marks=POSIX, id="link"),
        pytest.param(Path.mkdir, id="folder"),
    ],
)
def test_what_is_no_file_is_not_waited_for_in_a_folder_named_by_a_url(made, tmp_path, name, kind):
    publish(made, (tmp_path / "shared").as_uri(), AAPL)
    root = tmp_path / "shared"
    path = next((root / AAPL.key / "bars").iterdir()) if name == "segment" else root / name
    path.unlink()
    kind(path)

    with pytest.raises(DamagedStore, match=f"{path.name} is (not a regular file|a symbolic link)"):
        open_store((tmp_path / "shared").as_uri()).read(AAPL)


def test_a_swap_in_a_folder_is_refused_too(store, made, tmp_path):
    update(store)
    publish(store, (tmp_path / "shared").as_uri())

    with pytest.raises(Conflict, match="2024-03-01"):
        publish(made, (tmp_path / "shared").as_uri())

    assert bars_of(Store(tmp_path / "shared")) == bars_of(store)


def test_a_server_without_conditions_is_not_published_to(store, bucket):
    bucket.conditional = False

    with pytest.raises(UsageError, match="If-Match"):
        publish(store, bucket.url())

    assert list(bucket.objects) == ["store/STORE.json"]


def test_a_place_that_holds_something_else_is_left_alone(store, bucket, tmp_path):
    bucket.objects["store/holiday.jpg"] = b"..."
    (tmp_path / "holiday.jpg").write_bytes(b"...")

    for url in (bucket.url(), tmp_path.as_uri()):
        with pytest.raises(BadStore, match="something other than a store"):
            publish(store, url)

    assert list(bucket.objects) == ["store/holiday.jpg"]


def test_a_store_of_a_newer_format_is_left_alone(store, bucket):
    bucket.objects["store/STORE.json"] = b'{"format": 99}'

    for attempt in (lambda: publish(store, bucket.url()), lambda: open_store(bucket.url())):
        with pytest.raises(BadStore, match="upgrade"):
            attempt()

    assert list(bucket.objects.values()) == [b'{"format": 99}']


# --- kills


def requests_of_an_update(store, newer, bucket):
    publish(store, bucket.url())
    bucket.requests.clear()
    publish(newer, bucket.url())
    return len(bucket.requests)


@pytest.mark.slow
@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_publication_that_ends_at_any_request_leaves_the_old_state_or_the_new(store, made, answered, first, bucket):
    update(store)
    revise(store)
    count = requests_of_an_update(made, store, bucket) + (4 if first else 0)
    states, seen = [{} if first else bars_of(made), bars_of(store)], set()

    for last in range(count):
        publish_until(last, store, made, bucket, answered=answered, first=first)
        there = bars_of(open_store(bucket.url())) if bucket.objects else {}
        for series in (AAPL, BRK):
            states_of_series = [state.get(series) for state in states]
            assert there.get(series) in states_of_series
            seen.add((series, states_of_series.index(there.get(series))))
        publish(store, bucket.url())
        assert bars_of(open_store(bucket.url())) == states[1]

    assert {(AAPL, 0), (AAPL, 1), (BRK, 0)} <= seen


def publish_until(last, store, made, bucket, *, answered, first):
    """Publish, but nothing that comes after so many requests; what comes last is `answered` or not even served."""
    bucket.objects.clear()
    if not first:
        publish(made, bucket.url())
    bucket.requests.clear()

    def stop(request):
        return "AccessDenied" if len(bucket.requests) > last else None

    bucket.intercept, bucket.served = (lambda request: None, stop) if answered else (stop, lambda request: None)
    if answered:
        bucket.intercept = lambda request: "AccessDenied" if len(bucket.requests) > last + 1 else None
    with pytest.raises(NoConnection):
        publish(store, bucket.url())
    bucket.intercept = bucket.served = lambda request: None


@pytest.mark.slow
@pytest.mark.parametrize("last", [6, 9, 10])
def test_a_killed_publication_goes_on(store, made, bucket, last):
    update(store)
    publish(made, bucket.url())
    bucket.requests.clear()
    words = [sys.executable, "-m", "backtest", "publish", bucket.url(), "--store", str(store.root)]
    running = subprocess.Popen(words, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL)
    bucket.intercept = lambda request: running.send_signal(signal.SIGKILL) if len(bucket.requests) == last else None

    code = running.wait(60)

    bucket.intercept = lambda request: None
    there = bars_of(open_store(bucket.url()))
    assert code == -signal.SIGKILL
    assert all(bars in (made.read(series), store.read(series)) for series, bars in there.items())
    publish(store, bucket.url())
    assert bars_of(open_store(bucket.url())) == bars_of(store)


# --- reading


def test_a_manifest_is_one_get(store, bucket):
    publish(store, bucket.url())
    there = open_store(bucket.url())
    bucket.requests.clear()

    there.manifest(AAPL)

    assert [name for name in bucket.requests if name.startswith("GET")] == [f"GET store/{AAPL}/manifest.json"]


def test_a_manifest_that_is_replaced_while_it_is_read_is_read_again(store, made, bucket):
    update(store)
    publish(made, bucket.url())
    there, name = open_store(bucket.url()), f"store/{AAPL}/manifest.json"
    longer = to_bytes(store.manifest(AAPL))
    assert len(longer) > len(bucket.objects[name])

    def replace_after_head(request):
        if request == f"HEAD {name}":
            bucket.objects[name] = longer

    bucket.served = replace_after_head

    assert there.manifest(AAPL) == store.manifest(AAPL)
    assert bucket.requests[-4:] == [f"HEAD {name}", f"GET {name}"] * 2


@pytest.mark.parametrize("asked", ["HEAD", "GET"])  # for its size, then for its bytes
def test_a_segment_that_goes_while_it_is_wanted_means_a_newer_state(store, made, bucket, asked):
    publish(made, bucket.url())
    there = open_store(bucket.url())
    update(store)
    newer = {f"store/{name}": data for name, data in files_of(store).items()}

    def replace_all_at_the_segment(request):
        if request.startswith(asked) and "/bars/" in request:
            bucket.objects.clear()
            bucket.objects.update(newer)

    bucket.intercept = replace_all_at_the_segment

    assert there.read(BRK) == store.read(BRK)


def files_of(store):
    paths = [path for path in store.root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("part", ["manifest.json", "bars/2024-01"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
def test_what_is_not_what_was_published_is_named(store, bucket, part, harm):
    publish(store, bucket.url())
    (name,) = (key for key in bucket.objects if f"{AAPL}/{part}" in key)
    data = bucket.objects.pop(name)
    if harm != "gone":
        flipped = data[:99] + bytes([data[99] ^ 1]) + data[100:]
        bucket.objects[name] = {"flip": flipped, "cut": data[:-9], "empty": b""}[harm]

    with pytest.raises(DamagedStore, match=name.replace("store/", "s3://bars/store/")):
        open_store(bucket.url()).read(AAPL)


@pytest.mark.parametrize("part", ["STORE.json", f"{AAPL}/bars/2024-01"])
def test_a_file_that_is_longer_than_it_may_be_is_not_fetched(store, bucket, part):
    publish(store, bucket.url())
    (name,) = (key for key in bucket.objects if part in key)
    bucket.objects[name] += bytes(5000)
    bucket.requests.clear()

    with pytest.raises(DamagedStore, match=name.replace("store/", "s3://bars/store/")):
        open_store(bucket.url()).read(AAPL)

    assert f"GET {name}" not in bucket.requests


def test_unknown_series_and_spans_have_no_bars(store, bucket):
    publish(store, bucket.url())
    there = open_store(bucket.url())

    with pytest.raises(NoBars, match=r"MSFT/1day is not in s3://bars/store"):
        there.read(Series.parse("MSFT/1day"))
    with pytest.raises(NoBars, match="on or after 2020-01-01 and before 2020-02-01"):
        there.read(AAPL, Span(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)))


def test_nothing_is_written_through_a_url(store, bucket):
    publish(store, bucket.url())
    there, before = open_store(bucket.url()), dict(bucket.objects)
    asked = {"start": "2024-03-04", "end": "2024-03-04"}

    for attempt in (
        lambda: download(there, "emulator:nowhere", BRK, **asked),
        lambda: plan_download(there, "emulator:nowhere", BRK, **asked),
        lambda: publish(there, bucket.url("elsewhere")),
        lambda: open_folder(bucket.url()),
    ):
        with pytest.raises(UsageError, match="read-only"):
            attempt()

    assert bucket.objects == before


def test_a_bucket_that_is_missing_is_not_taken_for_lost_files(store, bucket):
    url = bucket.url().replace("s3://bars/", "s3://bras/")

    with pytest.raises(NoConnection, match="s3://bras/store"):
        publish(store, url)
    with pytest.raises(BadStore, match="no store at s3://bras/store"):
        open_store(url)


def test_where_no_store_is_published_there_is_none(bucket):
    with pytest.raises(BadStore, match="no store at s3://bars/elsewhere"):
        open_store(bucket.url("elsewhere"))


def test_the_server_may_be_named_in_the_environment(store, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{bucket.address}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    publish(store, "s3://bars/store")

    assert bars_of(open_store("s3://bars/store")) == bars_of(store)


def test_threads_and_processes_read_one_store(store, bucket):
    publish(store, bucket.url())
    there, expected = open_store(bucket.url()), store.read(AAPL)

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda _: there.read(AAPL), range(16)))
    copy = pickle.loads(pickle.dumps(there))

    assert all(bars == expected for bars in [*read, copy.read(AAPL)])


@pytest.mark.slow
def test_a_command_leaves_nothing_of_what_it_fetched(store, bucket, tmp_path):
    publish(store, bucket.url())
    (tmp_path / "fetched").mkdir()
    words = [sys.executable, "-m", "backtest", "export", "AAPL/5mins", "aapl.csv", "--store", bucket.url()]

    subprocess.run(words, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "fetched")}, check=True)

    assert (tmp_path / "aapl.csv").stat().st_size > 1000
    assert list((tmp_path / "fetched").iterdir()) == []


# --- the command line, and what it must not say


@pytest.fixture
def call(call, tmp_path, monkeypatch):
    """Call the command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.mark.slow
def test_the_commands_publish_list_export_and_run(call, store, bucket):
    sent, out, said = call("publish", bucket.url(), "--store", str(store.root))
    again, document, _ = call("publish", bucket.url(), "--store", str(store.root), "--json")
    listed, there, _ = call("ls", "--store", bucket.url())
    _, here, _ = call("ls", "--store", str(store.root))
    exported, _, _ = call("export", "BRK B/1day", "brk.csv", "--store", bucket.url())
    ran, ran_there, _ = call("run", "buy_and_hold", "BRK B/1day", "--store", bucket.url())
    _, ran_here, _ = call("run", "buy_and_hold", "BRK B/1day", "--store", str(store.root))

    assert (sent, again, listed, exported, ran) == (0, 0, 0, 0, 0)
    assert "AAPL/5mins: 3 files" in out
    assert "bytes sent" in said
    assert json.loads(document)["bytes"] == 0
    assert there == here
    assert ran_there == ran_here


@pytest.mark.parametrize("words", [("import", "aapl.csv", "AAPL/1day"), ("emulator",), ("publish", "file:///x")])
def test_commands_that_need_a_folder_refuse_a_url(call, bucket, words):
    code, _, said = call(*words, "--store", bucket.url())

    assert code == 2
    assert "read-only" in said
    assert bucket.requests == []


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@bars/store",
        f"s3://{KEY}@bars/store",
        f"s3://bars/store?access_key={KEY}&secret_key={SECRET}",
        f"s3://bars/store?region=us-east-1&AWSAccessKeyId={KEY}",
        f"s3://{KEY}:{SECRET}/store",
    ],
)
def test_a_login_in_a_url_is_refused_without_repeating_it(call, store, url):
    for words in (("publish", url, "--store", str(store.root)), ("ls", "--store", url)):
        code, out, said = call(*words)

        assert code == 2
        assert out == ""
        assert "environment" in said or "BUCKET" in said
        assert_no_canary(said)


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///store", "file://host/store", "ftp://bars/store", "s3://b ars/x", "s3://[::1"]
)
def test_a_url_of_nothing_we_know_is_refused(call, store, url):
    for words in (("publish", url, "--store", str(store.root)), ("ls", "--store", url)):
        code, _, said = call(*words)

        assert code == 2
        assert "s3://" in said


@pytest.mark.slow
def test_no_credential_is_in_any_output_file_or_error(call, store, bucket, tmp_path):
    said = "".join(map(str, call("publish", bucket.url(), "--store", str(store.root))))
    said += "".join(map(str, call("run", "buy_and_hold", "BRK B/1day", "--store", bucket.url(), "--json")))
    bucket.intercept = lambda request: "SignatureDoesNotMatch"
    refused = [
        call("publish", bucket.url(), "--store", str(store.root)),
        call("run", "buy_and_hold", "BRK B/1day", "--store", bucket.url()),
        call("ls", "--store", bucket.url()),
    ]

    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert_no_canary(said + str(refused) + written.decode(errors="replace"))
    assert_no_canary(b"".join(bucket.objects.values()).decode(errors="replace"))
    assert [code for code, _, _ in refused] == [4, 4, 4]
    assert all("s3://bars/store" in error and len(error.splitlines()) == 1 for _, _, error in refused)


def assert_no_canary(text):
    assert KEY not in text
    assert SECRET not in text


def test_wrong_credentials_are_a_sentence_that_says_where_they_belong(call, store, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEONEELSE")

    for words in (("publish", bucket.url(), "--store", str(store.root)), ("ls", "--store", bucket.url())):
        code, _, said = call(*words)

        assert code == 4
        assert "AWS_ACCESS_KEY_ID" in said
        assert "AKIASOMEONEELSE" not in said


@pytest.mark.slow
def test_without_obstore_publishing_to_s3_says_what_to_install(store, tmp_path):
    (tmp_path / "obstore.py").write_text("raise ImportError('obstore is not here')")
    words = [sys.executable, "-m", "backtest", "publish", "s3://bars/store", "--store", str(store.root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert ran.returncode == 2
    assert "pip install 'ib-backtest[s3]'" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_manifest_of_another_series_is_refused(store, bucket):
    publish(store, bucket.url())
    other = bucket.objects[f"store/{BRK.key}/manifest.json"]
    bucket.objects[f"store/{AAPL}/manifest.json"] = other

    with pytest.raises(DamagedStore, match="BRK"):
        publish(store, bucket.url())

    assert bucket.objects[f"store/{AAPL}/manifest.json"] == other
    assert of_bytes(other, "there", BRK) == store.manifest(BRK)


def test_a_path_is_not_taken_for_a_url(store):
    with pytest.raises(UsageError, match=r"^'\./published' is not a URL; write s3://BUCKET/PREFIX, or file:///FOLDER$"):
        publish(store, "./published")
