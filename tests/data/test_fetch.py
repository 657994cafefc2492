import hashlib
import os
import socket
import stat
import threading
import time
import types

import pytest

from dassl_vr.data import connection
from dassl_vr.data import fetch as fetching
from dassl_vr.data.fetch import Source, fetch
from dassl_vr.utils.errors import DataError

from .server import CONTENT, MD5


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
    for text in ("wrong: wrong md5 checksum", "gone: HTTP 404", "broken: HTTP 500", "page: a web page", "manually"):
        assert text in message
    assert str(tmp_path / "file.bin") in message and "\n" not in message
    assert names_in(tmp_path) == []
    assert [path for path, _ in server.log].count("/gone") == 1  # a 404 is not tried again
    assert [path for path, _ in server.log].count("/broken") == fetching.ATTEMPTS


def test_only_http_is_fetched(tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(DataError, match="only http and https"):
        fetch(Source("file.bin", urls=(f"file://{tmp_path}/secret",)), tmp_path)


def test_the_disk_must_be_large_enough(server, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage)
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


# -------------------------------------------------------------------------------------------- servers that cannot be trusted
@pytest.fixture
def raw(server):
    """`raw(answer)`: the address of a server that gives these bytes, or what `answer(request, count)` yields, to each request."""
    sockets = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)
        url, log = f"http://127.0.0.1:{listener.getsockname()[1]}/file.bin", []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    log.append(connection.recv(65536))
                    try:
                        for block in answer(log[-1], len(log)) if callable(answer) else [answer]:
                            connection.sendall(block)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        start.log = log
        return url

    yield start
    [each.close() for each in sockets]


def head(status="200 OK", **headers):
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


ANSWERS = {
    "nothing": b"",
    "garbage": b"garbage\r\n",
    "terminal codes": b"HTTP/1.1 \x1b[2J\x1b]0;x\x07\r\n\r\n",
    "long header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 500 + b"\r\n",
    "length of 5000 digits": head(Content_Length="9" * 5000) + b"abc",
    "length of 18 digits": head(Content_Length="9" * 18) + b"abc",
    "superscript length": head(Content_Length="\xb2") + b"abc",
    "negative length": head(Content_Length="-1") + b"abc",
    "cut": head(Content_Length=10) + b"abc",
    "no content": head("204 No Content"),
    "empty": head(Content_Length=0),
    "part of the whole": head("206 Partial Content", Content_Range="bytes 0-2/10", Content_Length=3) + b"abc",
    "range of nonsense": head("206 Partial Content", Content_Range="bytes x-\xb2/3", Content_Length=3) + b"abc",
    "bad chunk": head(Transfer_Encoding="chunked") + b"xyz\r\nabc",
    "negative chunk": head(Transfer_Encoding="chunked") + b"-5\r\nabc\r\n0\r\n\r\n",
    "cut chunk": head(Transfer_Encoding="chunked") + b"5\r\nabc",
    "gzip": head(Content_Encoding="gzip", Content_Length=3) + b"abc",
    "to a file": head("302 Found", Location="file:///etc/hostname"),
    "to ftp": head("302 Found", Location="ftp://127.0.0.1:9/file.bin"),
    "to data": head("302 Found", Location="data:,abc"),
    "round": head("302 Found", Location="/file.bin"),
    "to nowhere": head("302 Found"),
    "to no address": head("302 Found", Location="http://[::1/"),
    "to a name that cannot be": head("302 Found", Location="http://" + "a" * 70 + "..invalid/"),
    "unauthorized": head("401 Unauthorized"),
    "416": head("416 Range Not Satisfiable", Content_Range="bytes */\xb2"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_every_answer_tries_the_next_address_and_ends_in_the_one_line(server, raw, tmp_path, answer):
    url = raw(answer)
    with pytest.raises(DataError, match="could not be fetched") as caught:
        fetch(Source("file.bin", urls=(url,)), tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500 + len(str(tmp_path))
    assert names_in(tmp_path) == []
    assert fetch(Source("file.bin", urls=(url, server.url("good")), md5=MD5), tmp_path).read_bytes() == CONTENT


def test_redirections_are_followed(server, raw, tmp_path):
    url = raw(head("302 Found", Location=server.url("good")))
    assert fetch(Source("file.bin", urls=(url,), md5=MD5), tmp_path).read_bytes() == CONTENT


def test_a_gzip_file_may_be_called_an_encoding(raw, tmp_path):
    url = raw(head(Content_Encoding="x-gzip", Content_Length=3) + b"abc")
    assert fetch(Source("file.tgz", urls=(url,)), tmp_path).read_bytes() == b"abc"


def test_a_secure_address_that_is_none_is_one_line(server, raw, tmp_path):
    with pytest.raises(DataError, match="SSL"):
        fetch(Source("file.bin", urls=(raw(b"abc").replace("http:", "https:"),)), tmp_path)


def test_progress_without_end_is_stopped(raw, tmp_path, monkeypatch):
    """One more byte with each request, of a file that is never whole."""
    monkeypatch.setattr(fetching, "MAX_ATTEMPTS", 20)

    def answer(request, count):
        if count == 1:
            return [head(Content_Length=5000) + b"x"]
        start = count - 1
        return [head("206 P", Content_Range=f"bytes {start}-4999/5000", Content_Length=5000 - start) + b"x"]

    with pytest.raises(DataError, match="broke off 20 times"):
        fetch(Source("file.bin", urls=(raw(answer),), md5=MD5), tmp_path)
    assert len(raw.log) == 20


def test_a_partial_file_that_shrinks_and_grows_is_not_progress(raw, tmp_path):
    def answer(request, count):
        if b"Range" in request:
            return [head("206 P", Content_Range="bytes 7-4999/5000", Content_Length=5000) + bytes(5000)]
        return [head(Content_Length=5000) + bytes(100)]

    with pytest.raises(DataError, match="another range"):
        fetch(Source("file.bin", urls=(raw(answer),), md5=MD5), tmp_path)
    assert len(raw.log) == fetching.ATTEMPTS


def endless(start, block, pause=0.0):
    def answer(request, count):
        yield start
        while True:
            yield block
            time.sleep(pause)

    return answer


@pytest.mark.parametrize("headers", [{}, {"Content_Length": 10**12}, {"Transfer_Encoding": "chunked"}])
@pytest.mark.parametrize("known", [{"size": 5000}, {}])
def test_an_endless_body_is_cut_at_the_known_size_or_free_space(server, raw, tmp_path, monkeypatch, headers, known):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=3_000_000))
    block = b"10000\r\n" + bytes(65536) + b"\r\n" if "Transfer_Encoding" in headers else bytes(65536)
    url = raw(endless(head(**headers), block))
    with pytest.raises(DataError, match="instead of 5000|more than 5000" if known else "all that the disk can take|than the disk"):
        fetch(Source("file.bin", urls=(url,), **known), tmp_path)
    assert names_in(tmp_path) == [] and len(raw.log) == 1


@pytest.mark.parametrize(
    "start, block",
    {
        "slow body": (head(Content_Length=1000), b"x"),
        "slow header": (b"HTTP/1.1 200 OK\r\n", b"x"),
        "continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "trailers without end": (head(Transfer_Encoding="chunked") + b"0\r\n", b"X: y\r\n"),
    }.values(),
)
def test_a_slow_answer_is_cut(server, raw, tmp_path, monkeypatch, start, block):
    monkeypatch.setattr(connection, "TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "PATIENCE", 1)
    url = raw(endless(start, block, pause=0.01))
    before = time.monotonic()
    assert fetch(Source("file.bin", urls=(url, server.url("good")), md5=MD5), tmp_path).read_bytes() == CONTENT
    assert time.monotonic() - before < 10


def test_an_address_has_a_limited_time(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIME_LIMIT", 0.3)
    url = raw(endless(head(), bytes(1000), pause=0.01))
    with pytest.raises(DataError, match="not complete after"):
        fetch(Source("file.bin", urls=(url,)), tmp_path)
    assert names_in(tmp_path) == []


def test_the_body_of_a_redirection_is_not_read(server, raw, tmp_path):
    url = raw(endless(head("302 Found", Location=server.url("good")), bytes(65536)))
    assert fetch(Source("file.bin", urls=(url,), md5=MD5), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("make", [lambda part: part.symlink_to("mine"), os.mkfifo])
def test_a_link_or_fifo_named_like_the_partial_file_is_replaced(server, tmp_path, make):
    (tmp_path / "mine").write_bytes(b"mine")
    make(tmp_path / "file.bin.part")
    assert fetch(source(server, "good"), tmp_path).read_bytes() == CONTENT
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_drive_has_the_same_limits(tmp_path, monkeypatch):
    def slow(output, cancel, **options):
        assert cancel.wait(10)
        raise RuntimeError("\x1b[2J cancelled")

    def large(output, progress, **options):
        for received in range(0, 10**6, 1000):
            with open(output, "ab") as file:
                file.write(bytes(1000))
            progress(received, None)

    monkeypatch.setattr(fetching, "TIME_LIMIT", 0.05)
    for manner, message in ((slow, "cancelled"), (large, "6000 bytes instead of at most 5000")):
        monkeypatch.setattr("gdown.download", manner)
        with pytest.raises(DataError, match=message) as caught:
            fetch(Source("file.bin", drive_id="abc", size=5000), tmp_path)
        assert str(caught.value).isprintable() and names_in(tmp_path) == []
