import hashlib
import io
import os
import stat
import tarfile
import threading
import types
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dassl_vr.data import download
from dassl_vr.data.download import Part, Source, extract, fetch, prepare
from dassl_vr.utils.errors import DataError

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in the manner that the path names; `server.log` holds (path, Range) of each request."""

    def do_GET(self):
        range_ = self.headers.get("Range")
        self.server.log.append((self.path, range_))
        count = sum(path == self.path for path, _ in self.server.log)
        getattr(self, self.path.strip("/").split(".")[0])(range_, count)

    def answer(self, body, code=200, cut=None, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = True

    def good(self, range_, count, cut=None):
        start = int(range_[6:-1]) if range_ else 0
        if start >= len(CONTENT):
            return self.answer(b"", 416, Content_Range=f"bytes */{len(CONTENT)}")
        code = 206 if range_ else 200
        self.answer(CONTENT[start:], code, cut, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")

    def cut(self, range_, count):
        """Breaks off after 200,000 bytes of each answer."""
        self.good(range_, count, cut=200_000)

    def no_range(self, range_, count):
        """Knows no ranges, and breaks off once."""
        self.answer(CONTENT, cut=1000 if count == 1 else None)

    def busy(self, range_, count):
        self.answer(b"", 503) if count < 3 else self.good(range_, count)

    def broken(self, range_, count):
        self.answer(b"", 500)

    def gone(self, range_, count):
        self.answer(b"", 404)

    def wrong(self, range_, count):
        self.answer(b"x" * len(CONTENT))

    def page(self, range_, count):
        self.answer(b"<html>quota exceeded</html>", Content_Type="text/html; charset=utf-8")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.log = []
    server.url = lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def source(server, *names, **checks):
    return Source("file.bin", urls=tuple(server.url(name) for name in names), **(checks or {"md5": MD5}))


def names_in(directory):
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("manner", ["good", "cut", "no_range", "busy"])
@pytest.mark.parametrize("checks", [{"md5": MD5}, {"sha256": hashlib.sha256(CONTENT).hexdigest()}, {"size": 512_000}])
def test_every_manner_of_delivery_ends_in_the_right_bytes(server, tmp_path, manner, checks):
    path = fetch(source(server, manner, **checks), tmp_path / "new" / "directory")
    assert path.read_bytes() == CONTENT and names_in(path.parent) == ["file.bin"]


def test_a_cut_connection_is_resumed(server, tmp_path):
    fetch(source(server, "cut"), tmp_path)
    assert [range_ for _, range_ in server.log] == [None, "bytes=200000-", "bytes=400000-"]


def test_a_beginning_of_an_earlier_run_is_used(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:100])
    assert fetch(source(server, "good"), tmp_path).read_bytes() == CONTENT
    assert server.log == [("/good", "bytes=100-")]


def test_a_whole_part_needs_only_its_checksum(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(source(server, "good"), tmp_path).read_bytes() == CONTENT
    assert names_in(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("beginning", [b"y" * 100, CONTENT + b"more"])
def test_a_wrong_beginning_is_fetched_again_from_nothing(server, tmp_path, beginning):
    (tmp_path / "file.bin.part").write_bytes(beginning)
    assert fetch(source(server, "good"), tmp_path).read_bytes() == CONTENT
    assert server.log[-1] == ("/good", None)


def test_a_beginning_that_nothing_can_check_is_not_used(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"y" * 100)
    assert fetch(source(server, "good", size=512_000), tmp_path).read_bytes() == CONTENT
    assert server.log == [("/good", None)]


def test_nothing_is_fetched_twice(server, tmp_path):
    fetch(source(server, "good"), tmp_path)
    fetch(source(server, "good"), tmp_path)
    assert len(server.log) == 1
    (tmp_path / "file.bin").write_bytes(b"spoilt")
    assert fetch(source(server, "good"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("first", ["gone", "broken", "wrong", "page"])
def test_the_second_source_is_used_when_the_first_fails(server, tmp_path, first):
    assert fetch(source(server, first, "good"), tmp_path).read_bytes() == CONTENT
    assert server.log[-1][0] == "/good" and names_in(tmp_path) == ["file.bin"]


def test_a_host_that_does_not_answer_is_passed_over(server, tmp_path):
    dead = Source("file.bin", urls=("http://127.0.0.1:9/x", server.url("good")), md5=MD5)
    assert fetch(dead, tmp_path).read_bytes() == CONTENT


def test_when_all_fail_the_error_says_all_and_nothing_is_left(server, tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(source(server, "wrong", "gone", "broken", "page"), tmp_path)
    message = str(caught.value)
    for text in ("wrong: wrong md5 checksum", "gone: HTTP 404", "broken: HTTP 500", "page: a web page", "by hand"):
        assert text in message
    assert str(tmp_path / "file.bin") in message and "\n" not in message
    assert names_in(tmp_path) == []
    assert [path for path, _ in server.log].count("/gone") == 1  # a 404 is not tried again
    assert [path for path, _ in server.log].count("/broken") == download.ATTEMPTS


def test_only_http_is_fetched(tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(DataError, match="only http and https"):
        fetch(Source("file.bin", urls=(f"file://{tmp_path}/secret",)), tmp_path)


def test_the_disk_must_be_large_enough(server, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="free some space"):
        fetch(source(server, "good", size=512_000), tmp_path)
    assert server.log == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_one_line(server, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(DataError, match="cannot be written"):
        fetch(source(server, "good"), tmp_path)


def test_a_file_in_the_way_of_the_directory_is_one_line(server, tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match="cannot be written"):
        fetch(source(server, "good"), tmp_path / "taken")


def test_two_at_once_fetch_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=(source(server, "good"), tmp_path)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT and len(server.log) == 1


def test_drive_ids_go_through_gdown(server, tmp_path, monkeypatch):
    import gdown

    calls = []

    def download_(output, **options):
        calls.append(options)
        if len(calls) == 1:
            raise gdown.exceptions.FileURLRetrievalError("Too many users\n have viewed it")
        with open(output, "wb") as file:
            file.write(CONTENT)

    monkeypatch.setattr(gdown, "download", download_)
    drive = Source("file.bin", drive_id="abc", md5=MD5)
    with pytest.raises(DataError, match=r"Too many users have viewed it.*drive\.google\.com/file/d/abc/view"):
        fetch(drive, tmp_path)
    assert fetch(drive, tmp_path).read_bytes() == CONTENT
    assert calls[1]["id"] == "abc"


# ------------------------------------------------------------------------------------------------------- archives
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
    monkeypatch.setattr(download, "MIN_LIMIT", 1000)
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


# -------------------------------------------------------------------------------------------------------- prepare
def test_prepare_fetches_what_is_absent_and_only_that(server, tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "made.zip", {"images/a.txt": b"1"}).read_bytes()
    monkeypatch.setattr(Handler, "archive", lambda self, range_, count: self.answer(archive), raising=False)
    images = Part("images", Source("a.zip", (server.url("archive"),), md5=hashlib.md5(archive).hexdigest()))
    split = Part("split.json", Source("split.json", (server.url("gone"),)), required=False)
    root = tmp_path / "root"
    with pytest.raises(DataError, match=r"toy: .*images is missing; it comes from http.*a\.zip.*DATASET\.DOWNLOAD True"):
        prepare("toy", (images, split), root, download=False)
    assert not root.exists() and server.log == []
    prepare("toy", (images, split), root, download=True)
    assert (root / "images" / "a.txt").read_bytes() == b"1"
    requests = [path for path, _ in server.log]
    prepare("toy", (images,), root, download=True)
    prepare("toy", (images, split), root, download=False)
    assert [path for path, _ in server.log] == requests


def test_prepare_goes_on_loudly_without_what_is_not_required(server, tmp_path, capsys):
    prepare("toy", (Part("s.json", Source("s.json", (server.url("gone"),)), required=False),), tmp_path, download=True)
    assert "WARNING: going on without" in capsys.readouterr().out


def test_prepare_notices_an_archive_of_something_else(server, tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "made.zip", {"other/a.txt": b"1"}).read_bytes()
    monkeypatch.setattr(Handler, "archive", lambda self, range_, count: self.answer(archive), raising=False)
    with pytest.raises(DataError, match="is not in it"):
        prepare("toy", (Part("images", Source("a.zip", (server.url("archive"),))),), tmp_path / "root", download=True)
