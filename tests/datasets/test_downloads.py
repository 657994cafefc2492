"""Every data set is fetched from a server on the loopback: small archives of the layout that the true ones have."""

import dataclasses
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dassl_vr.data import DATASET_REGISTRY, fetch
from dassl_vr.data.archive import is_archive
from dassl_vr.data.download import Part
from dassl_vr.utils.errors import DataError

from .miniatures import MINIATURES, WITHOUT_ROOT

# The folder that each archive wraps the data set's directory in; "" unless it is named here
TOP = {
    "food-101.tar.gz": "food-101/",
    "dtd-r1.0.1.tar.gz": "dtd/",
    "fgvc-aircraft-2013b.tar.gz": "fgvc-aircraft-2013b/data/",
    "caltech-101.zip": "caltech-101/",
    "mirror-sun397.zip": "sun397/",
    "mirror-stanford_cars.zip": "stanford_cars/",
    "mirror-eurosat.zip": "eurosat/",
    "mirror-oxford_flowers.zip": "oxford_flowers/",
    "mirror-food101.zip": "food-101/",
}
FETCHED = [name for name in MINIATURES if name not in (*WITHOUT_ROOT, "folder", "ImageNet")]


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; those in `server.cut` break off half-way the first time."""

    def do_GET(self):
        self.server.log.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        range_ = self.headers.get("Range")
        start = int(range_[6:-1]) if range_ else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        stop = len(content)
        if self.path in self.server.cut:
            self.server.cut.discard(self.path)
            stop = len(content) // 2
        self.wfile.write(content[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "BACKOFF", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.cut, server.log = {}, set(), []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def from_drive(output, id, **options):
        content = server.files.get(f"/drive/{id}")
        if content is None:
            raise RuntimeError("Cannot retrieve the public link of the file")
        with open(output, "wb") as file:
            file.write(content)

    monkeypatch.setattr("gdown.download", from_drive)
    yield server
    server.shutdown()
    server.server_close()


def pack(files, name):
    """The bytes of an archive called `name` of {path: content}."""
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w" if name.endswith(".tar") else "w:gz") as archive:
            for path, content in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def content_of(part, source, directory):
    """What `source` would serve if the data set were the miniature in `directory`."""
    if not is_archive(source.filename):
        return (directory / part.provides).read_bytes()
    everything = {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    own = {path: content for path, content in everything.items() if f"{path}/".startswith(f"{part.provides}/")}
    top = TOP.get(source.filename, "")
    if source.filename == "caltech-101.zip":
        inner = pack(own, "101_ObjectCategories.tar.gz")
        files = {f"{top}101_ObjectCategories.tar.gz": inner, "__MACOSX/caltech-101/101_ObjectCategories/x": b""}
    elif source.inside:
        files = {path.replace(part.provides, source.inside, 1): content for path, content in own.items()}
    else:
        whole = source.filename.startswith(("mirror-", "fgvc-"))
        files = {top + path: content for path, content in (everything if whole else own).items()}
    return pack(files, source.filename)


def serve(server, cls, directory, dead_firsts=False):
    """Copies of the data set's parts whose sources lead to the server, which has what they are to give."""
    parts = []
    for part in cls.parts:
        if not (directory / part.provides).exists():
            continue  # not in this miniature
        sources = []
        for position, source in enumerate(part.sources):
            content = content_of(part, source, directory)
            checks = {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha256") if getattr(source, name)}
            urls = tuple(f"{server.url}/{number}/{position}/{source.filename}" for number in range(len(source.urls)))
            sources.append(dataclasses.replace(source, urls=urls, size=len(content) if source.size else 0, **checks))
            places = [url.removeprefix(server.url) for url in urls]
            places += [f"/drive/{source.drive_id}"] if source.drive_id else []
            for number, place in enumerate(places):
                first = not number and not position
                has_another = len(places) > 1 or len(part.sources) > 1
                if not (dead_firsts and first and has_another):
                    server.files[place] = content
        parts.append(Part(part.provides, sources[0], part.required, tuple(sources[1:])))
    return tuple(parts)


@pytest.mark.parametrize("manner", ["good", "cut", "dead firsts"])
@pytest.mark.parametrize("name", FETCHED)
def test_it_is_fetched_and_loads(server, tmp_path, draw, load, monkeypatch, name, manner):
    (tmp_path / "there").mkdir()
    counts = MINIATURES[name](tmp_path / "there", draw)
    cls = DATASET_REGISTRY.get(name)
    monkeypatch.setattr(cls, "parts", serve(server, cls, tmp_path / "there" / cls.dataset_dir, manner == "dead firsts"))
    if name in ("ImageNetA", "ImageNetR"):  # the miniature's names lie with ImageNet
        (tmp_path / "here" / "imagenet").mkdir(parents=True)
        (tmp_path / "there" / "imagenet" / "classnames.txt").rename(tmp_path / "here" / "imagenet" / "classnames.txt")
    if manner == "cut":
        server.cut = set(server.files)
    dataset = load(name, tmp_path / "here", "DATASET.DOWNLOAD", True)
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == counts
    assert dataset.test[0].read().mode == "RGB"
    requests = list(server.log)
    if manner == "cut":
        assert len(requests) > len(set(requests)) or all(part.source.drive_id for part in cls.parts)
    elif manner == "dead firsts":
        dead = [path for path in requests if path not in server.files]
        assert len(dead) == sum(len(part.source.urls) > 0 and len(part.source.addresses + part.fallbacks) > 1 for part in cls.parts)
    assert not list((tmp_path / "here").rglob("*.part")) and not list((tmp_path / "here").glob(".*-*"))
    load(name, tmp_path / "here", "DATASET.DOWNLOAD", True)
    assert server.log == requests  # nothing is fetched twice
    load(name, tmp_path / "here")


@pytest.mark.parametrize("name", FETCHED)
@pytest.mark.parametrize("manner", ["wrong bytes", "hostile"])
def test_what_is_wrong_is_rejected_and_leaves_nothing(server, tmp_path, draw, load, monkeypatch, name, manner):
    (tmp_path / "there").mkdir()
    MINIATURES[name](tmp_path / "there", draw)
    cls = DATASET_REGISTRY.get(name)
    parts = serve(server, cls, tmp_path / "there" / cls.dataset_dir)
    part = next(part for part in parts if part.required)
    if manner == "hostile" and not is_archive(part.source.filename):
        return  # no archive, nothing to unpack
    sources = []
    for source in part.sources:
        content = pack({"../../outside": b"x", part.provides + "/a": b"x"}, source.filename)
        known = {"sha256": hashlib.sha256(content if manner == "hostile" else b"?").hexdigest(), "md5": "", "size": 0}
        sources.append(dataclasses.replace(source, **known))
        for place in server.files:
            if place.endswith(f"/{source.filename}") or (source.drive_id and place.endswith(source.drive_id)):
                server.files[place] = content
    monkeypatch.setattr(cls, "parts", (Part(part.provides, sources[0], True, tuple(sources[1:])),))
    with pytest.raises(DataError, match="leads out of" if manner == "hostile" else "wrong sha256") as caught:
        load(name, tmp_path / "here", "DATASET.DOWNLOAD", True)
    assert "\n" not in str(caught.value) and str(tmp_path / "here") in str(caught.value)
    left = [path for path in (tmp_path / "here").rglob("*") if path.is_file() and path.suffix != ".lock"]
    # what was fetched and has the right checksum is kept, so that it is not fetched again
    assert {path.name for path in left} == ({source.filename for source in sources} if manner == "hostile" else set())
    assert not list(tmp_path.rglob("outside"))
