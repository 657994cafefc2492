"""Files that are not the 8-bit RGB picture one would like: read as a person sees them, or one line that names the file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dassl_vr.utils.errors import DataError
from dassl_vr.utils.files import read_image


def ramp(dtype, top):
    """12 x 10 grey values from 0 to `top`."""
    return np.linspace(0, top, 120).round().astype(dtype).reshape(10, 12)


GREY = ramp(np.uint8, 255)


def pixels_of(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", ["grey.png", "ein Bild, größer als ein 象.png", "new\nline.png", "-rf.png", "100%.png"])
def test_grey_and_any_name(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    assert np.array_equal(pixels_of(tmp_path / name), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_cut_off(tmp_path, suffix):
    Image.fromarray(ramp(np.uint16, 65535)).save(tmp_path / f"deep.{suffix}")
    assert abs(pixels_of(tmp_path / f"deep.{suffix}")[..., 0] - GREY).max() <= 1
    assert pixels_of(tmp_path / f"deep.{suffix}").max() == 255


def test_deeper_greys_are_one_line(tmp_path):
    for name, array in (("i.tif", ramp(np.int32, 1 << 30)), ("f.tif", ramp(np.float32, 1))):
        Image.fromarray(array).save(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name}.*store it with 8 or 16 bits"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("mode, suffix", [("1", "png"), ("L", "jpg"), ("LA", "png"), ("P", "gif"), ("P", "png"), ("RGBA", "png"),
                                          ("RGBA", "webp"), ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "jpg")])  # fmt: skip
def test_modes(tmp_path, mode, suffix):
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:8], colours[8:] = 0, 255
    Image.fromarray(colours).convert(mode).save(tmp_path / f"a.{suffix}")
    assert abs(pixels_of(tmp_path / f"a.{suffix}") - colours).max() <= 12  # JPEG loses a little


def test_transparency_is_dropped_and_colours_stay(tmp_path):
    image = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    image.save(tmp_path / "a.png")
    assert (pixels_of(tmp_path / "a.png") == (200, 100, 50)).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=1)
    assert (pixels_of(tmp_path / "p.png") == (10, 20, 30)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cameras_held_sideways(tmp_path, orientation):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    from PIL import ImageOps

    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(pixels_of(tmp_path / "a.png"), expected)
    assert (expected.shape == (9, 6, 3)) == (orientation >= 5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_remarks_do_no_harm(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert pixels_of(tmp_path / "a.jpg").shape == (10, 12, 3)


def bomb():
    """A PNG of a few bytes that says it has 50,000 x 50,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def encoded(suffix):
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, suffix)
    return buffer.getvalue()


BAD = {
    "zero bytes": (b"", "an empty file"),
    "text": (b"<html>quota exceeded</html>", "not an image"),
    "truncated JPEG": (encoded("JPEG")[:2000], "truncated"),
    "truncated PNG": (encoded("PNG")[:2000], "cannot be read"),
    "only a header": (encoded("PNG")[:20], "cannot be read"),
    "a wrong byte": (encoded("PNG")[:100] + b"?" + encoded("PNG")[101:], "cannot be read"),
    "bomb": (bomb(), "decompression bomb"),
}


@pytest.mark.parametrize("content, reason", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_line_that_names_it(tmp_path, content, reason):
    path = tmp_path / "größer als.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "ON_BAD_IMAGE" not in str(caught.value), "who reads a file alone has no such key"


def test_what_is_no_file_is_one_line(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    for name in ("folder.jpg", "none.jpg"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)
