import hashlib
import io
import zipfile

import pytest

from dassl_vr.data.download import Part, prepare
from dassl_vr.data.fetch import Source
from dassl_vr.utils.errors import DataError

from .server import Handler


def zipped(name):
    """The bytes of a zip with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"1")
    return buffer.getvalue()


def test_prepare_fetches_what_is_absent_and_only_that(server, tmp_path, monkeypatch):
    archive = zipped("images/a.txt")
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


def test_prepare_warns_and_continues_without_optional_parts(server, tmp_path, capsys):
    prepare("toy", (Part("s.json", Source("s.json", (server.url("gone"),)), required=False),), tmp_path, download=True)
    assert "WARNING: continuing without" in capsys.readouterr().out


def test_prepare_notices_an_archive_of_something_else(server, tmp_path, monkeypatch):
    archive = zipped("other/a.txt")
    monkeypatch.setattr(Handler, "archive", lambda self, range_, count: self.answer(archive), raising=False)
    with pytest.raises(DataError, match="is not in it"):
        prepare("toy", (Part("images", Source("a.zip", (server.url("archive"),))),), tmp_path / "root", download=True)
