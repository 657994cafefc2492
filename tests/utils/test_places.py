"""Directories and files that are written to."""

import errno
import os
import signal
import time

import pytest

from dassl_vr.utils.errors import ConfigError, DiskError
from dassl_vr.utils.files import atomic_write, write_json
from dassl_vr.utils.logger import Logger
from dassl_vr.utils.places import check_in_place, kept_in_place, new_directory, renewed_directory

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("change", ["moved", "replaced", "a file", "a link to another"])
def test_nothing_is_written_to_a_moved_or_replaced_directory(tmp_path, change):
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.mkdir()
    with kept_in_place(out):
        write_json(1, out / "deep" / "a.json")
        out.rename(tmp_path / "moved")
        if change == "replaced":
            out.mkdir()
        elif change == "a file":
            out.touch()
        elif change == "a link to another":
            out.symlink_to(other)
        for path in (out / "a.json", out / "deep" / "b.json"):
            with pytest.raises(DiskError, match="was moved or removed"):
                write_json(2, path)
        write_json(3, tmp_path / "outside" / "c.json")
    assert not any(out.iterdir()) if change == "replaced" else out.exists() == (change != "moved")
    assert not any(other.iterdir())
    assert sorted(path.name for path in (tmp_path / "moved").rglob("*")) == ["a.json", "deep"]
    check_in_place(out)  # nobody keeps it any more


def test_a_directory_removed_while_a_file_is_written(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with kept_in_place(out), pytest.raises(DiskError, match="was moved or removed"), atomic_write(out / "file") as file:
        file.write("text")
        out.rename(tmp_path / "moved")
    assert not out.exists()


def test_a_directory_reached_by_a_link_is_in_place(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    with kept_in_place(tmp_path / "out"):
        write_json(1, tmp_path / "out" / "a.json")
    assert (tmp_path / "disk" / "a.json").is_file()


def test_a_signal_leaves_nothing_of_a_new_directory(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "out") as directory:
        (directory / "half").write_text("")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # it comes meanwhile
    assert not list(tmp_path.iterdir())


def test_a_new_directory_is_whole_or_not_there(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with pytest.raises(OSError, match="No space") as failure, new_directory(out) as directory:
        (directory / "half").touch()
        raise FULL
    assert failure.value.filename == str(out) and not any(tmp_path.iterdir()), "the directories above it neither"
    with new_directory(out) as directory:
        (directory / "file").touch()
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"] and (out / "file").is_file()


def test_a_file_in_a_new_directory_is_named_by_its_place(tmp_path):
    with pytest.raises(FileNotFoundError) as failure, new_directory(tmp_path / "out") as directory:
        (directory / "missing").read_text()
    assert failure.value.filename == str(tmp_path / "out" / "missing")


@pytest.mark.parametrize("kind", ["file", "full", "link", "dangling", "loop", "below a file", "too long"])
def test_no_new_directory_over_an_existing_one(tmp_path, kind):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    out = {"below a file": tmp_path / "file" / "out", "too long": tmp_path / "new" / ("a" * 300)}.get(kind, tmp_path / kind)
    with pytest.raises(ConfigError), new_directory(out):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_the_first_of_two_that_make_the_same_directory_stays(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="choose another directory"), new_directory(out) as second:
        (second / "second").touch()
        with new_directory(out) as first:
            (first / "first").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "first"]


def test_a_log_on_a_full_disk_is_named_once():
    log = Logger()
    with pytest.raises(OSError, match="No space") as failure, log:
        log.open("/dev/full")
        print("a line")  # the file is written line by line
    assert failure.value.filename == "/dev/full"
    with pytest.raises(DiskError), Logger() as log:  # the disk's error is not reported twice
        log.open("/dev/full")
        log.file.reconfigure(line_buffering=False)
        print("a line")
        raise DiskError


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as failure:
        write_json(1, tmp_path / "file" / "a.json")
    assert failure.value.filename == str(tmp_path / "file" / "a.json")
    with pytest.raises(OSError) as failure, atomic_write(tmp_path / "b"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert failure.value.filename == str(tmp_path / "b") and not (tmp_path / "b").exists()


def test_a_renewed_directory_keeps_what_is_not_of_the_earlier_call(tmp_path):
    out = tmp_path / "out"
    with renewed_directory(out, []) as directory:
        for name in ("list", "a", "b"):
            (directory / name).write_text("1")
    (out / "mine").write_text("mine")
    with renewed_directory(out, ["list", "a", "b", "gone meanwhile"]) as directory:
        for name in ("list", "a", "new"):
            (directory / name).write_text("2")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"list": "2", "a": "2", "new": "2", "mine": "mine"}
    for name, error in (("mine", ConfigError), ("a", ValueError)):
        with pytest.raises(error), renewed_directory(out, ["list", "a", "new"]) as directory:
            (directory / name).write_text("3")
            if error is ValueError:
                raise ValueError
    assert {path.name: path.read_text() for path in out.iterdir()} == {"list": "2", "a": "2", "new": "2", "mine": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
