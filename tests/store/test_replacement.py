"""Files and folders that are replaced whole or not at all."""

import os
import stat
import sys
import threading

import pytest
from rights import shown_by_no_disk

from backtest._system import take_lock
from backtest.store.replacement import (
    current,
    finish,
    is_bare,
    remove_if_bare,
    replace_file,
    replace_files,
    staged,
    sweep_leftovers,
    version,
)

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no rights, pipes or links for everybody")


class Full(OSError):
    """A disk that is full."""


def half_written(handle):
    handle.write(b"half of i")
    raise Full


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- a file


def test_a_file_is_replaced_with_its_folder_made(tmp_path):
    replace_file(tmp_path / "new" / "file", b"one", folders=True)
    replace_file(tmp_path / "new" / "file", lambda handle: handle.write(b"two"))

    assert (tmp_path / "new" / "file").read_bytes() == b"two"
    assert names(tmp_path / "new") == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    replace_file(tmp_path / "file", b"one")

    with pytest.raises(Full):
        replace_file(tmp_path / "file", half_written)

    assert (tmp_path / "file").read_bytes() == b"one"
    assert names(tmp_path) == ["file"]


def test_folders_that_were_made_for_a_write_that_fails_are_gone_again(tmp_path):
    with pytest.raises(Full):
        replace_file(tmp_path / "new" / "below" / "file", half_written, folders=True)

    assert names(tmp_path) == []


def test_a_file_in_no_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        replace_file(tmp_path / "none" / "file", b"one")

    assert raised.value.filename == str(tmp_path / "none" / "file")
    assert names(tmp_path) == []


def test_what_a_killed_writer_left_of_the_file_is_swept_and_what_a_living_one_writes_stays(tmp_path):
    (tmp_path / ".tmp-4194304-1-file").write_bytes(b"ha")
    (tmp_path / ".tmp-4194304-1-other").write_bytes(b"ha")
    with (tmp_path / ".tmp-1-1-file").open("wb") as living:
        take_lock(living)

        replace_file(tmp_path / "file", b"one")

    assert names(tmp_path) == [".tmp-1-1-file", ".tmp-4194304-1-other", "file"]


def test_all_that_killed_writers_left_in_a_folder_is_swept(tmp_path):
    for name in (".tmp-4194304-1-file", ".tmp-4194304-2-other", ".tmp-mine", "mine"):
        (tmp_path / name).touch()

    sweep_leftovers(tmp_path)

    assert names(tmp_path) == [".tmp-mine", "mine"]


def test_a_name_as_long_as_a_disk_allows_can_be_replaced(tmp_path):
    replace_file(tmp_path / ("n" * 255), b"one")

    assert names(tmp_path) == ["n" * 255]


@POSIX
@pytest.mark.parametrize("there", [True, False])
def test_a_link_that_the_user_did_not_name_is_replaced_and_nothing_is_written_where_it_leads(tmp_path, there):
    if there:
        (tmp_path / "precious").write_bytes(b"one")
    (tmp_path / "link").symlink_to("precious")

    replace_file(tmp_path / "link", b"two")

    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"two"
    assert (tmp_path / "precious").read_bytes() == b"one" if there else not (tmp_path / "precious").exists()


@POSIX
def test_a_link_that_the_user_named_stays_one_and_leads_to_the_new_file(tmp_path):
    replace_file(tmp_path / "place" / "file", b"one", folders=True)
    (tmp_path / "link").symlink_to("place/file")

    replace_file(tmp_path / "link", b"two", named=True)

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "place" / "file").read_bytes() == b"two"


@POSIX
def test_a_pipe_that_somebody_reads_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    replace_file(tmp_path / "pipe", b"one", named=True)

    assert os.read(reader, 10) == b"one"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@POSIX
def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="pipe"):
        replace_file(tmp_path / "pipe", b"one", named=True)


@POSIX
@pytest.mark.parametrize("put", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_and_was_not_named_is_replaced_by_one_with_its_own_rights(tmp_path, put):
    put(tmp_path / "file")

    replace_file(tmp_path / "file", b"one")

    status = (tmp_path / "file").lstat()
    assert stat.S_ISREG(status.st_mode)
    assert not status.st_mode & stat.S_IWOTH


@POSIX
def test_a_file_keeps_its_rights(tmp_path):
    replace_file(tmp_path / "file", b"one")
    (tmp_path / "file").chmod(0o600)

    replace_file(tmp_path / "file", b"two")

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_folder_in_the_place_of_a_file_is_an_error_and_stays(tmp_path):
    (tmp_path / "file" / "below").mkdir(parents=True)

    with pytest.raises(OSError, match="file"):
        replace_file(tmp_path / "file", b"one")

    assert names(tmp_path) == ["file"]
    assert names(tmp_path / "file") == ["below"]


# --- the files of a folder


def test_files_are_replaced_and_removed_together_and_others_stay(tmp_path):
    replace_files(tmp_path / "new", {"a": b"1", "b": b"1"})
    (tmp_path / "new" / "mine").write_bytes(b"0")

    replace_files(tmp_path / "new", {"a": b"2", "b": None, "c": lambda handle: handle.write(b"2"), "d": None})

    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {
        "a": b"2", "c": b"2", "mine": b"0",
    }  # fmt: skip


def test_one_write_that_fails_leaves_all_files_as_they_were(tmp_path):
    replace_files(tmp_path / "new", {"a": b"1", "b": b"1"})

    with pytest.raises(Full):
        replace_files(tmp_path / "new", {"a": b"2", "b": half_written})

    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {"a": b"1", "b": b"1"}


@pytest.mark.parametrize("content", [b"new", None])
def test_a_folder_in_the_place_of_one_of_them_leaves_all_as_they_were(tmp_path, content):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "of a stranger").touch()

    with pytest.raises(IsADirectoryError) as raised:
        replace_files(tmp_path, {"a": b"new", "b": content})

    assert raised.value.filename == str(tmp_path / "b")
    assert (names(tmp_path), (tmp_path / "a").read_bytes()) == (["a", "b"], b"old")
    assert current(tmp_path, "a") == tmp_path / "a"


def test_a_folder_that_was_made_for_a_write_that_fails_is_gone_again(tmp_path):
    with pytest.raises(Full):
        replace_files(tmp_path / "new", {"a": b"1", "b": half_written})

    assert names(tmp_path) == []


def killed_before_the_end(folder):
    """Make a folder as a process leaves it that is killed when `a` counts anew, `b` is gone, `c` was moved up."""
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    (folder / "b").write_bytes(b"old")
    (folder / "c").write_bytes(b"new")
    (folder / ".new").mkdir()
    (folder / ".new" / "a").write_bytes(b"new")
    (folder / ".new" / "b.gone").touch()
    (folder / ".tmp-lock").touch()
    return folder


def test_what_was_decided_counts_before_it_is_moved_up(tmp_path):
    folder = killed_before_the_end(tmp_path / "folder")

    assert current(folder, "a").read_bytes() == b"new"
    assert not current(folder, "b").exists()
    assert current(folder, "c").read_bytes() == b"new"


def test_moving_it_up_changes_nothing_for_readers_and_leaves_nothing(tmp_path):
    folder = killed_before_the_end(tmp_path / "folder")
    before = version(folder, "abc")

    assert finish(folder)

    assert version(folder, "abc") == before
    assert names(folder) == ["a", "c"]
    assert not finish(folder)


def test_a_lock_alone_that_a_killed_writer_left_is_finished_too(tmp_path):
    replace_files(tmp_path, {"a": b"new"})
    (tmp_path / ".tmp-lock").touch()

    assert finish(tmp_path)

    assert names(tmp_path) == ["a"]
    assert not finish(tmp_path)


def test_a_file_that_counts_and_cannot_be_looked_at_is_not_read_as_it_was_before(tmp_path):
    folder = killed_before_the_end(tmp_path / "folder")

    with shown_by_no_disk("a"), pytest.raises(OSError, match="a"):
        current(folder, "a")


def test_the_next_writer_finishes_first_and_may_fail_then(tmp_path):
    folder = killed_before_the_end(tmp_path / "folder")
    (folder / ".tmp-new").mkdir()
    (folder / ".tmp-new" / "a").write_bytes(b"ha")

    with pytest.raises(Full):
        replace_files(folder, {"a": half_written})

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"new", "c": b"new"}


def test_a_replaced_file_is_another_version(tmp_path):
    replace_files(tmp_path, {"a": b"1", "b": b"1"})
    before = version(tmp_path, "ab")

    replace_files(tmp_path, {"a": b"2"})

    assert version(tmp_path, "ab") != before
    assert version(tmp_path, "b") == before[1:]


@POSIX
def test_a_link_in_the_place_of_what_was_decided_leads_nowhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"theirs")
    replace_files(tmp_path / "folder", {"a": b"ours"})
    (tmp_path / "folder" / ".new").symlink_to(tmp_path / "elsewhere")

    assert current(tmp_path / "folder", "a").read_bytes() == b"ours"
    assert not finish(tmp_path / "folder")
    assert names(tmp_path / "elsewhere") == ["a"]


def test_whole_folders_can_be_staged(tmp_path):
    with staged(tmp_path / "new") as begun:
        (begun / "below" / "deep").mkdir(parents=True)
        (begun / "below" / "deep" / "file").write_bytes(b"1")
        assert not (tmp_path / "new" / "below").exists()

    assert (tmp_path / "new" / "below" / "deep" / "file").read_bytes() == b"1"
    assert names(tmp_path / "new") == ["below"]


@pytest.mark.slow
def test_writers_of_one_folder_wait_for_each_other(tmp_path):
    """Each puts two files that must be equal, many at once: what is read between two equal versions is."""
    failures, done = [], threading.Event()

    def write(mark):
        for n in range(15):
            replace_files(tmp_path / "folder", dict.fromkeys("ab", f"{mark}{n}".encode()))

    def read():
        while not done.is_set():
            before = version(tmp_path / "folder", "ab")
            try:
                seen = [current(tmp_path / "folder", name).read_bytes() for name in "ab"]
            except FileNotFoundError:
                continue
            if before == version(tmp_path / "folder", "ab") and seen[0] != seen[1]:
                failures.append(seen)

    write("first")
    reader, writers = threading.Thread(target=read), [threading.Thread(target=write, args=(n,)) for n in "xyz"]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()

    assert failures == []
    assert names(tmp_path / "folder") == ["a", "b"]


def test_a_folder_with_leftovers_alone_is_bare(tmp_path):
    (tmp_path / "bare" / ".tmp-new").mkdir(parents=True)
    (tmp_path / "bare" / ".tmp-new" / "file").touch()
    (tmp_path / "bare" / ".tmp-lock").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()

    assert (is_bare(tmp_path / "bare"), is_bare(tmp_path / "full"), is_bare(tmp_path / "none")) == (True, False, False)
    assert (remove_if_bare(tmp_path / "bare"), remove_if_bare(tmp_path / "full")) == (True, False)
    assert names(tmp_path) == ["full"]
