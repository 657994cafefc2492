import pytest
from PIL import Image

from dassl_vr.utils import check_isfile, listdir_nohidden, read_image, read_json, write_json
from dassl_vr.utils.errors import DataError
from dassl_vr.utils.files import atomic_write


def test_atomic_write_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as file:
        file.write("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"], "nothing is left behind"


def test_json_round_trip(tmp_path):
    write_json({"name": "Größe", "n": [1, 2.5]}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"name": "Größe", "n": [1, 2.5]}


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_images_of_any_mode_become_rgb(tmp_path, mode):
    suffix = ".tif" if mode == "CMYK" else ".png"
    Image.new(mode, (5, 4)).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.mode == "RGB" and image.size == (5, 4)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_image_is_named(tmp_path, content):
    path = tmp_path / "bad image.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match="bad image.png"):
        read_image(path)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "none.png")


def test_small_ones(tmp_path):
    (tmp_path / ".hidden").touch()
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert listdir_nohidden(tmp_path, sort=True) == ["a", "b"]
    assert check_isfile(tmp_path / "a")
    with pytest.warns(UserWarning, match="none"):
        assert not check_isfile(tmp_path / "none")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_json_as_editors_and_shells_write_it(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"name": "Größe"}\r\n'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"name": "Größe"}


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe\xff", b"\x80", b"", b"{", b"9" * 5000])
def test_what_is_no_json_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")
