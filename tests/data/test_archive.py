import gzip
import io
import os
import stat
import tarfile
import types
import zipfile

import pytest

from dassl_vr.data import archive as module
from dassl_vr.data.archive import extract
from dassl_vr.utils.errors import DataError


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def make_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, members, mode="w:gz"):
    """`members`: {name: bytes, or a function that changes the TarInfo}."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if callable(content):
                content(info)
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def link(kind, target):
    def change(info):
        info.type, info.linkname = kind, target

    return change


def device(info):
    info.type = tarfile.CHRTYPE


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tgz"])
def test_extract(tmp_path, suffix):
    files = {"top/a b/ä.txt": b"1", "top/c.txt": b"2", "d.txt": b"3"}
    archive = tmp_path / f"a.{suffix}"
    make_zip(archive, files) if suffix == "zip" else make_tar(archive, files, "w" if suffix == "tar" else "w:gz")
    extract(archive, tmp_path / "new")
    (tmp_path / "old" / "top").mkdir(parents=True)
    (tmp_path / "old" / "top" / "kept.txt").write_text("kept")
    (tmp_path / "old" / "d.txt").write_text("replaced")
    extract(archive, tmp_path / "old")
    for directory in (tmp_path / "new", tmp_path / "old"):
        assert all((directory / name).read_bytes() == content for name, content in files.items())
        assert stat.S_IMODE(directory.stat().st_mode) & 0o500 == 0o500
    assert (tmp_path / "old" / "top" / "kept.txt").read_text() == "kept"
    assert names_in(tmp_path) == sorted([archive.name, "new", "old"])


def test_links_inside_are_kept(tmp_path):
    members = {
        "d/a.txt": b"1",
        "d/b.txt": link(tarfile.SYMTYPE, "a.txt"),
        "e/c.txt": link(tarfile.SYMTYPE, "../d/a.txt"),
    }
    extract(make_tar(tmp_path / "a.tar.gz", members), tmp_path / "out")
    assert (tmp_path / "out" / "d" / "b.txt").read_bytes() == (tmp_path / "out" / "e" / "c.txt").read_bytes() == b"1"


HOSTILE_TARS = {
    "absolute path": {"/tmp/dassl_vr_hostile": b"x"},
    "windows path": {"C:\\x": b"x"},
    "leads out": {"a/../../x": b"x"},
    "backslashes": {"a\\..\\..\\x": b"x"},
    "absolute link": {"a": link(tarfile.SYMTYPE, "/etc")},
    "link out": {"d/a": link(tarfile.SYMTYPE, "../../x")},
    "hard link out": {"d/a": link(tarfile.LNKTYPE, "../x")},
    "climbing link": {"d/x": link(tarfile.SYMTYPE, ".."), "y": link(tarfile.SYMTYPE, "d/x/../..")},
    "written through a link": {"d/e/f": b"1", "a": link(tarfile.SYMTYPE, "d"), "a/x": b"x"},
    "device": {"null": device},
}


@pytest.mark.parametrize("members", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_hostile_tars_leave_nothing(tmp_path, members):
    place = tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    archive = make_tar(place / "a.tar.gz", {"fine.txt": b"1", **members})
    with pytest.raises(DataError, match=r"a\.tar\.gz was not unpacked") as caught:
        extract(archive, place / "out")
    assert "\n" not in str(caught.value)
    assert names_in(place) == ["a.tar.gz"] and names_in(tmp_path) == ["deep"] and names_in(tmp_path / "deep") == ["er"]


def test_a_chain_of_links_longer_than_a_path_leads_nowhere(tmp_path):
    """CVE-2025-4517: `realpath` gives up above 4096 characters, and tarfile's filter "data" lets the last link pass."""
    members, folder, steps = {}, "", "abcdefghijklmnop"
    for step in steps:
        members[f"{folder}{'d' * 247}/kept"] = b"1"
        members[f"{folder}{step}"] = link(tarfile.SYMTYPE, "d" * 247)
        folder += "d" * 247 + "/"
    last = "/".join(steps) + "/" + "l" * 254
    members[last] = link(tarfile.SYMTYPE, "../" * len(steps))
    members["escape"] = link(tarfile.SYMTYPE, f"{last}/../outside")
    members["escape/new"] = b"x"
    (tmp_path / "outside").mkdir()
    with pytest.raises(DataError, match="was not unpacked"):
        extract(make_tar(tmp_path / "a.tar.gz", members), tmp_path / "out")
    assert names_in(tmp_path) == ["a.tar.gz", "outside"] and not names_in(tmp_path / "outside")


@pytest.mark.parametrize("name", ["/tmp/dassl_vr_hostile", "../x", "a/../../x", "C:/x", "a\\..\\..\\x"])
def test_hostile_zips_leave_nothing(tmp_path, name):
    with pytest.raises(DataError, match="was not unpacked"):
        extract(make_zip(tmp_path / "a.zip", {"fine.txt": b"1", name: b"x"}), tmp_path / "out")
    assert names_in(tmp_path) == ["a.zip"]


def test_links_in_zips_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(DataError, match="link or a device"):
        extract(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
def test_bombs_are_stopped(tmp_path, make, name):
    archive = make(tmp_path / name, {f"{n}": bytes(1_000_000) for n in range(5)})
    with pytest.raises(DataError, match="unpacks to more than 3 MB"):
        extract(archive, tmp_path / "out", max_bytes=3_000_000)
    assert names_in(tmp_path) == [name]
    extract(archive, tmp_path / "out", max_bytes=5_000_000)


def test_the_default_limit_grows_with_the_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_LIMIT", 1000)
    with pytest.raises(DataError, match="unpacks to more"):
        extract(make_zip(tmp_path / "a.zip", {"a": bytes(1_000_000)}), tmp_path / "out")
    extract(make_zip(tmp_path / "b.zip", {"a": os.urandom(1_000_000)}), tmp_path / "out")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar"])
@pytest.mark.parametrize("kept", [0, 50, 2000])
def test_damaged_archives_leave_nothing(tmp_path, name, kept):
    files = {f"{n}": os.urandom(3000) for n in range(3)}
    if name == "a.zip":
        whole = make_zip(tmp_path / name, files)
    else:
        whole = make_tar(tmp_path / name, files, "w" if name == "a.tar" else "w:gz")
    whole.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"is damaged") as caught:
        extract(whole, tmp_path / "out")
    assert "\n" not in str(caught.value) and names_in(tmp_path) == [name]


# ------------------------------------------------------------------------------------------- where links end up, merging
def test_a_link_is_checked_against_the_place_it_ends_up_in(tmp_path):
    members = {"w1/w2/data/img": b"x", "w1/w2/data/out": link(tarfile.SYMTYPE, "../../../")}
    for wanted in ({"provides": "data"}, {"provides": "images", "inside": "w2/data"}):
        with pytest.raises(DataError, match="leads out of the directory"):
            extract(make_tar(tmp_path / "a.tar", members, "w"), tmp_path / "root" / "toy", **wanted)
        assert not list((tmp_path / "root").iterdir())
    extract(tmp_path / "a.tar", tmp_path / "whole")  # there it stays inside
    assert (tmp_path / "whole/w1/w2/data/out").resolve() == tmp_path / "whole"


def test_a_link_that_reenters_through_a_removed_folder_is_refused(tmp_path):
    members = {"wrap/data/img": b"x", "wrap/data/out": link(tarfile.SYMTYPE, "../../wrap/data")}
    with pytest.raises(DataError, match="leads out of the directory"):
        extract(make_tar(tmp_path / "a.tar", members, "w"), tmp_path / "toy", provides="data")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_to_nothing_are_refused(tmp_path, kind):
    with pytest.raises(DataError, match="leads to nothing"):
        extract(make_tar(tmp_path / "a.tar", {"a": b"1", "b": link(kind, "none")}, "w"), tmp_path / "out")
    assert names_in(tmp_path) == ["a.tar"]


def test_hard_links_become_files_and_links_to_folders_are_kept(tmp_path):
    members = {"d/a": b"12", "d/b": link(tarfile.LNKTYPE, "d/a"), "e": link(tarfile.SYMTYPE, "d")}
    extract(make_tar(tmp_path / "a.tar", members, "w"), tmp_path / "out")
    assert (tmp_path / "out/d/b").read_bytes() == (tmp_path / "out/e/a").read_bytes() == b"12"
    with pytest.raises(DataError, match="leads to nothing"):
        extract(make_tar(tmp_path / "a.tar", {**members, "f": link(tarfile.LNKTYPE, "e/a")}, "w"), tmp_path / "other")


@pytest.fixture
def there(tmp_path):
    """A destination with a file, a folder, and a link that leads out of it; what it holds is the test's second value."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"kept")
    (tmp_path / "toy" / "folder").mkdir(parents=True)
    (tmp_path / "toy" / "folder" / "old").write_bytes(b"old")
    (tmp_path / "toy" / "file").write_bytes(b"old")
    (tmp_path / "toy" / "link").symlink_to("../outside")

    def holds():
        return {str(path.relative_to(tmp_path)): path.is_dir() or path.read_bytes() for path in sorted(tmp_path.rglob("*"))}

    return tmp_path / "toy", holds


@pytest.mark.parametrize("name", ["link/new", "file/new", "folder"])
def test_a_conflict_stops_all_of_the_archive(tmp_path, there, name):
    destination, holds = there
    archive = make_zip(
        tmp_path / "a.zip",
        {"aaa": b"1", "folder/new": b"2", "zzz": b"3", name: b"4"} if name != "folder" else {"aaa": b"1", name: b"2"},
    )
    before = holds()
    with pytest.raises(DataError, match="is in the way") as caught:
        extract(archive, destination)
    assert "\n" not in str(caught.value) and holds() == before


def test_a_link_of_the_archive_never_leads_through_one_of_the_destination(tmp_path, there):
    destination, holds = there
    before = holds() | {"a.tar": True}
    archive = make_tar(tmp_path / "a.tar", {"new": link(tarfile.SYMTYPE, "link/kept")}, "w")
    with pytest.raises(DataError, match="leads to nothing"):
        extract(archive, destination)
    assert holds().keys() == before.keys()


def test_a_merge_that_fails_is_undone(tmp_path, there, monkeypatch):
    destination, holds = there
    archive = make_zip(tmp_path / "a.zip", {"aaa": b"1", "file": b"new", "folder/old": b"new", "zzz": b"3"})
    before, replace = holds(), os.replace

    def fail(source, target):
        if str(target).endswith("zzz"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match="free some space"):
        extract(archive, destination)
    assert holds() == before
    monkeypatch.setattr(os, "replace", replace)
    extract(archive, destination)
    assert [(destination / name).read_bytes() for name in ("aaa", "file", "folder/old", "zzz")] == [b"1", b"new", b"new", b"3"]


def test_the_marker_of_a_complete_part_is_moved_last(tmp_path, there, monkeypatch):
    destination, _ = there
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (moved.append(os.path.basename(target)), replace(source, target)))
    extract(make_zip(tmp_path / "a.zip", {"aaa/1": b"1", "bbb": b"2", "ccc": b"3"}), destination, provides="aaa")
    assert moved == ["bbb", "ccc", "aaa"]


def test_a_file_in_the_place_of_the_destination_is_kept(tmp_path):
    (tmp_path / "toy").write_bytes(b"mine")
    with pytest.raises(DataError, match="in the way"):
        extract(make_zip(tmp_path / "a.zip", {"a": b"1"}), tmp_path / "toy")
    assert (tmp_path / "toy").read_bytes() == b"mine"


# ------------------------------------------------------------------------------------------------------------- budgets
def nested(tmp_path, members):
    """A zip of two tars in two folders, which is unpacked in depth if something is looked for that is in none."""
    content = make_tar(tmp_path / "inner.tar", members, "w").read_bytes()
    (tmp_path / "inner.tar").unlink()
    return make_zip(tmp_path / "a.zip", {"a/1.tar": content, "b/2.tar": content})


def test_archives_in_an_archive_share_its_bytes(tmp_path):
    archive = nested(tmp_path, {"x": bytes(1_000_000)})
    with pytest.raises(DataError, match="unpacks to more than 4 MB"):
        extract(archive, tmp_path / "out", max_bytes=3_500_000, provides="x")
    extract(archive, tmp_path / "out", max_bytes=4_100_000, provides="x")
    assert (tmp_path / "out" / "x").stat().st_size == 1_000_000


@pytest.mark.parametrize("limit, fits", [(9, False), (10, True)])
def test_archives_in_an_archive_share_its_number_of_files(tmp_path, monkeypatch, limit, fits):
    monkeypatch.setattr(module, "MIN_FILES", limit)  # two folders, two archives, three files in each
    archive = nested(tmp_path, {"x": b"1", "y": b"2", "z": b"3"})
    if fits:
        return extract(archive, tmp_path / "out", provides="x")
    with pytest.raises(DataError, match="more than 9 files and folders"):
        extract(archive, tmp_path / "out", provides="x")
    assert names_in(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("pattern", ["{}", "folder{}/", "{}/file"])
def test_the_number_of_files_has_a_limit(tmp_path, monkeypatch, name, pattern):
    monkeypatch.setattr(module, "MIN_FILES", 30)
    names = [pattern.format(number) for number in range(31 if pattern != "{}/file" else 16)]
    if name == "a.zip":
        make_zip(tmp_path / name, dict.fromkeys(names, b""))
    else:
        make_tar(tmp_path / name, {each: link(tarfile.DIRTYPE, "") if each[-1] == "/" else b"" for each in names})
    with pytest.raises(DataError, match="more than 30 files and folders"):
        extract(tmp_path / name, tmp_path / "out")
    assert names_in(tmp_path) == [name]


def test_the_limit_of_a_small_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        [file.writestr(str(number), b"") for number in range(20_001)]
    with pytest.raises(DataError, match="more than 20000 files"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_a_large_archive_may_hold_more_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_FILES", 3)
    extract(make_zip(tmp_path / "a.zip", {f"{number}": os.urandom(300) for number in range(5)}), tmp_path / "out")
    with pytest.raises(DataError, match="more than 3 files"):
        extract(make_zip(tmp_path / "b.zip", {f"{number}": b"1" for number in range(5)}), tmp_path / "out")


def test_copies_by_hard_links_count(tmp_path):
    members = {"a": bytes(1_000_000)} | {f"l{number}": link(tarfile.LNKTYPE, "a") for number in range(3)}
    with pytest.raises(DataError, match="unpacks to more than 3 MB"):
        extract(make_tar(tmp_path / "a.tar.gz", members), tmp_path / "out", max_bytes=3_000_000)


def test_a_disk_that_is_too_small_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with pytest.raises(DataError, match="free some space"):
        extract(make_zip(tmp_path / "a.zip", {"a": bytes(2000)}), tmp_path / "out")


# --------------------------------------------------------------------------------------------------- headers that lie
def raw_tar(path, *members):
    """A tar of (TarInfo attributes, bytes behind the header), whatever the attributes say, gzipped."""
    blocks = b""
    for attributes, body in members:
        info = tarfile.TarInfo("x")
        for name, value in attributes.items():
            setattr(info, name, value)
        blocks += info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)
    return make_gz(path, blocks + bytes(1024))


def make_gz(path, content):
    path.write_bytes(gzip.compress(content))
    return path


def pax(**records):
    """A header of headers with `records`."""
    body = b""
    for key, value in records.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        body += str(length).encode() + rest
    return {"type": tarfile.XHDTYPE, "size": len(body)}, body


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"X"])
@pytest.mark.parametrize("size", [700 << 20, 2 << 20, -512])
def test_a_header_without_measure_is_not_read(tmp_path, kind, size):
    archive = raw_tar(tmp_path / "a.tar.gz", ({"type": kind, "size": size}, b""))
    with pytest.raises(DataError, match=f"a header of {size} bytes"):
        extract(archive, tmp_path / "out", max_bytes=1 << 40)


def test_headers_without_end_are_stopped(tmp_path):
    archive = raw_tar(tmp_path / "a.tar.gz", *[({"type": tarfile.XHDTYPE}, b"")] * 3000, ({}, b""))
    with pytest.raises(DataError, match="unpacks to more than 1 MB"):
        extract(archive, tmp_path / "out", max_bytes=1_000_000)
    extract(archive, tmp_path / "out", max_bytes=2_000_000)
    assert names_in(tmp_path / "out") == ["x"]


@pytest.mark.parametrize(
    "members, message",
    {
        "negative size": (([pax(size="-1024"), ({}, b"")]), "sparse"),
        "sparse": ([({"type": tarfile.GNUTYPE_SPARSE}, b"")], "sparse"),
        "sparse in pax": ([pax(GNU__sparse__major="1", GNU__sparse__minor="0"), ({}, b"")], "sparse"),
        "huge size": ([pax(size="9" * 30), ({}, b"")], "unpacks to more"),
        "no number": ([pax(size="nine"), ({}, b"")], "damaged"),
        "NUL": ([pax(path="a\0b"), ({}, b"")], "not the name of a file"),
        "leads out": ([pax(path="../x"), ({}, b"")], "leads out"),
        "link leads out": ([pax(linkpath="../x"), ({"type": tarfile.SYMTYPE}, b"")], "leads out"),
        "record of no length": ([({"type": tarfile.XHDTYPE, "size": 8}, b"0 path=x"), ({}, b"")], "damaged"),
        # CVE-2024-6232
        "a header of digits": ([({"type": tarfile.XHDTYPE, "size": 400_000}, b"1" * 400_000), ({}, b"")], "damaged"),
        "record without end": ([({"type": tarfile.XHDTYPE, "size": 8}, b"99999999"), ({}, b"")], "damaged"),
        "name of 300 bytes": ([pax(path="n" * 300), ({}, b"")], "a name that is too long"),
        "path of 100 folders": ([pax(path="/".join("n" * 100)), ({}, b"")], "not the name of a file"),
        "the directory": ([({"name": "."}, b"")], "name of the directory"),
        "file as folder": ([({"name": "a"}, b""), ({"name": "a/b"}, b"")], "a file and a folder"),
        "folder as file": ([({"name": "a/b"}, b""), ({"name": "a"}, b"")], "a file and a folder"),
        "endless tail": ([({}, b""), ({}, bytes(1 << 25))], "after its end"),
    }.values(),
)
def test_members_that_cannot_be(tmp_path, members, message):
    with pytest.raises(DataError, match=message) as caught:
        extract(raw_tar(tmp_path / "a.tar.gz", *members), tmp_path / "out")
    assert str(caught.value).isprintable() and names_in(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_links_come_through(tmp_path, format_):
    name = "/".join(["folder_" + "ä" * 40] * 5) + "/" + "b" * 120
    with tarfile.open(tmp_path / "a.tar", "w", format=format_) as archive:
        info = tarfile.TarInfo(name)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"1"))
        info = tarfile.TarInfo("hard")
        info.type, info.linkname = tarfile.LNKTYPE, name
        archive.addfile(info)
    extract(tmp_path / "a.tar", tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out" / "hard").read_bytes() == b"1"


def test_the_last_of_two_members_of_a_name_counts(tmp_path):
    archive = raw_tar(tmp_path / "a.tar.gz", ({"name": "a", "size": 1}, b"1"), ({"name": "a", "size": 1}, b"2"))
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"2"


def test_a_directory_of_a_zip_larger_than_its_files_need_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_FILES", 10)
    monkeypatch.setattr(module, "BYTES_PER_FILE", 1 << 30)
    archive = make_zip(tmp_path / "a.zip", {f"{number}" * 100: b"" for number in range(3000)})
    monkeypatch.setattr(zipfile, "ZipInfo", None)  # nothing is made of it
    with pytest.raises(DataError, match="its directory is larger"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_are_stored_or_deflated(tmp_path, compression):
    with pytest.raises(DataError, match="another way than deflate"):
        extract(make_zip(tmp_path / "a.zip", {"a": b"1"}, compression), tmp_path / "out")


# ------------------------------------------------------------------------------------------------------------- damage
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_a_flipped_bit_is_noticed(tmp_path, name):
    files = {f"{n}": os.urandom(3000) for n in range(3)}
    path = make_zip(tmp_path / name, files) if name == "a.zip" else make_tar(tmp_path / name, files, f"w:{name[6:]}")
    whole = path.read_bytes()
    for position in range(200, len(whole) - 200, 500):
        damaged = bytearray(whole)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged|was not unpacked") as caught:
            extract(path, tmp_path / "out")
        assert str(caught.value).isprintable() and names_in(tmp_path) == [name]


@pytest.mark.parametrize("offset, value", [(6, 1), (8, 99)])
def test_encrypted_and_unknown_zips_are_one_line(tmp_path, offset, value):
    path = make_zip(tmp_path / "a.zip", {"a": b"1"})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\1\2")
    content[offset] = content[directory + offset + 2] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged|another way") as caught:
        extract(path, tmp_path / "out")
    assert "\n" not in str(caught.value) and names_in(tmp_path) == ["a.zip"]


def test_names_do_not_steer_the_terminal(tmp_path):
    with pytest.raises(DataError) as caught:
        extract(make_zip(tmp_path / "a.zip", {"../\x1b[2J\u202e" + "n" * 5000: b"1"}), tmp_path / "out")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: None])
def test_an_archive_that_is_no_file_is_one_line(tmp_path, make):
    make(tmp_path / "a.zip")
    with pytest.raises(DataError, match="is not a file"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_windows_separators_make_folders(tmp_path):
    extract(make_zip(tmp_path / "a.zip", {"images\\cat\\1.png": b"1"}), tmp_path / "out", provides="images")
    assert (tmp_path / "out/images/cat/1.png").read_bytes() == b"1"


def test_no_helper_of_newer_pythons_is_needed(tmp_path, monkeypatch):
    for name in ("data_filter", "tar_filter", "FilterError"):
        monkeypatch.delattr(tarfile, name, raising=False)
    monkeypatch.setattr(tarfile.TarFile, "extract", None)
    extract(make_tar(tmp_path / "a.tar.gz", {"a": b"1"}), tmp_path / "out")
    with pytest.raises(DataError, match="leads out"):
        extract(make_tar(tmp_path / "b.tar.gz", {"../a": b"1"}), tmp_path / "out")
