import functools
import hashlib
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from dassl_vr.cli.prepare import main
from dassl_vr.data import DATASET_REGISTRY, descriptions
from dassl_vr.data.datasets import ImageSplitDataset
from dassl_vr.data.download import Part, Source


@pytest.fixture
def toy():
    """A registered data set, `Toy` or `plaything`, of two folders of images."""

    @DATASET_REGISTRY.register(name="Toy", aliases=("plaything",))
    class Toy(ImageSplitDataset):
        dataset_dir = "toy"
        image_dir = "images"
        split_file = "split_zhou_Toy.json"
        parts = (
            Part("images", Source("images.zip", urls=("http://127.0.0.1:9/images.zip",))),
            Part("split_zhou_Toy.json", Source("split_zhou_Toy.json", drive_id="abc"), required=False),
        )

    yield Toy
    DATASET_REGISTRY.remove("Toy")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        (tmp_path / "data" / "toy" / "images" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8)).save(tmp_path / "data" / "toy" / "images" / name / f"{number}.png")
    return tmp_path / "data"


def test_a_complete_directory_is_well(toy, root, capsys):
    assert main(["PLAYTHING", "--root", str(root), "--check"]) == 0
    output = capsys.readouterr().out
    assert "Toy: 10/4/6 images for training/validation/test, 2 classes" in output and "NOT the official one" in output


def test_the_check_says_all_that_is_wrong(toy, root, capsys):
    folder = root / "toy" / ".image_store"
    folder.mkdir()
    (folder / "8x8-abc.bin").touch(), (folder / "8x8-def.1.tmp").touch()
    (root / "toy" / "images.zip.part").touch()
    assert main(["toy", "--root", str(root), "--check"]) == 2
    captured = capsys.readouterr()
    for text in ("8x8-abc.bin: an incomplete image store", "8x8-def.1.tmp: half of", "images.zip.part: a download"):
        assert text in captured.out
    assert captured.err == "error: 1 of 1 data set(s) not complete: Toy; see above\n"


def test_missing_parts_are_named_and_nothing_is_written(toy, tmp_path, capsys):
    root = tmp_path / "empty"
    root.mkdir()
    assert main(["toy", "digits", "--root", str(root), "--check"]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("images is missing; it comes from http://127.0.0.1:9/images.zip") == 1
    assert "digits: 1079/179/539" in captured.out and not list(root.iterdir())
    assert main(["toy", "--root", str(tmp_path / "none"), "--check"]) == 2
    assert "--root" in capsys.readouterr().out


def test_preparing_fetches(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dassl_vr.data.fetch.BACKOFF", 0.001)
    assert main(["toy", "--root", str(tmp_path / "new")]) == 2
    output = capsys.readouterr().out
    assert "could not be fetched" in output and str(tmp_path / "new" / "toy" / "images.zip") in output


@pytest.fixture
def bank(toy, tmp_path, monkeypatch):
    """Publishes sentences about the classes of `Toy` on a server of this machine: a function of {class: [sentences]}."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setattr(toy, "parts", toy.parts[:1])  # nothing from elsewhere
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    monkeypatch.setattr("dassl_vr.data.fetch.BACKOFF", 0.001)
    monkeypatch.setattr(descriptions, "PUBLISHED_AT", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def publish(sentences):
        content = json.dumps(sentences).encode()
        for kind in descriptions.KINDS:
            (folder / f"toy_{kind}.json").write_bytes(content)
        md5 = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(descriptions.PUBLISHED, "Toy", ("toy", md5, md5))
        return folder

    yield publish
    server.shutdown()
    server.server_close()


CAT, DOG = ["a cat has whiskers and soft paws"], ["a dog barks and wags its tail"]


def test_descriptions_are_fetched_and_checked(bank, root, capsys):
    bank({"cat": CAT, "dog": DOG})
    assert main(["toy", "--root", str(root), "--descriptions", "--check"]) == 2
    assert "toy_des.json is missing; it comes from http://127.0.0.1" in capsys.readouterr().out
    assert not list((root / "toy").glob("*.json"))
    assert main(["toy", "--root", str(root), "--descriptions"]) == 0
    files = [root / "toy" / f"toy_{kind}.json" for kind in ("des", "dist")]
    output = capsys.readouterr().out
    assert all(f"sentences about its classes are in {file}" in output and file.is_file() for file in files)
    assert descriptions.read_bank(files[0], ["dog", "cat"]) == [DOG, CAT]


def test_descriptions_with_a_wrong_checksum_are_not_kept(bank, root, capsys):
    folder = bank({"cat": CAT, "dog": DOG})
    (folder / "toy_dist.json").write_text("another file")
    assert main(["toy", "--root", str(root), "--descriptions"]) == 2
    output = capsys.readouterr().out
    assert "toy_dist.json" in output and "wrong md5 checksum" in output, output
    assert [file.name for file in (root / "toy").glob("toy*")] == ["toy_des.json"]


def test_descriptions_that_lack_a_class(bank, root, capsys):
    bank({"cat": CAT, "dog": ["short"]})
    assert main(["toy", "--root", str(root), "--descriptions"]) == 2
    captured = capsys.readouterr()
    assert "toy_des.json: no sentences of 20 characters and more for 1 of 2 classes, dog; add some" in captured.out
    assert captured.err == "error: 1 of 1 data set(s) not complete: Toy; see above\n"


def test_user_errors(capsys):
    assert main([]) == 2 and "--list" in capsys.readouterr().err
    assert main(["eurosta"]) == 2 and "did you mean 'EuroSAT'" in capsys.readouterr().err


def test_the_list(toy, root, capsys):
    assert main(["--list", "--root", str(root)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:]}
    assert rows["Toy"].split() == ["Toy", "plaything", "toy", "fetched", "yes"]
    assert "manually" in rows["ImageNet"] and rows["EuroSAT"].split()[-3:] == ["13500/5400/8100", "fetched", "no"]
    assert "dtd" in rows["DescribableTextures"] and "library" in rows["digits"]
