"""Files that are not the 8-bit RGB picture one would like: read as a person sees them, or one line that names the file."""

import io
import os
import re
import socket
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from dassl_vr.utils import images
from dassl_vr.utils.errors import DataError
from dassl_vr.utils.images import image_suffixes, left_out_line, once, read_image, remarks_to, upright_rgb


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


def tiff(array, photometric=1, sample_format=1, bits=None):
    """A minimal TIFF file of one channel, uncompressed."""
    height, width = array.shape
    bits = bits or array.dtype.itemsize * 8
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    if bits == 12:
        text = "".join(f"{value:012b}" for value in array.ravel())
        data = int(text, 2).to_bytes(len(text) // 8, "big")
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    entries += [(279, len(data)), (339, sample_format)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + directory + bytes(4)


@pytest.mark.parametrize(
    "array, options, grey_bits",
    [
        (ramp(np.uint16, 65535), {}, 0),
        (ramp(np.uint16, 65535), {}, 16),
        (ramp(np.uint16, 4095), {}, 12),
        (ramp(np.uint16, 255), {}, 8),
        (ramp(np.uint16, 65535)[:, ::-1].copy(), {"photometric": 0}, 0),  # 0 is white
        (ramp(np.uint16, 4095), {"bits": 12}, 0),  # the file says how many bits it has
        (ramp(np.int16, 4095), {"sample_format": 2}, 12),
        (ramp(np.int32, 65535), {"sample_format": 2}, 0),
        (ramp(np.int32, 255), {"sample_format": 2}, 8),
        (ramp(np.uint32, 65535), {}, 0),
    ],
)
def test_deep_greys(tmp_path, array, options, grey_bits):
    (tmp_path / "a.tif").write_bytes(tiff(array, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grey = np.asarray(read_image(tmp_path / "a.tif", grey_bits)).astype(int)[..., 0]
    expected = GREY[:, ::-1] if options.get("photometric") == 0 else GREY
    if options.get("photometric") == 0:
        expected = 255 - np.round(array / 257)
    assert abs(grey - expected).max() <= 1 and (grey.min(), grey.max()) == (0, 255)


@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_orders_of_16_bits(tmp_path, order):
    deep = ramp(np.uint16, 65535)
    image = Image.frombytes("I;16B" if order == ">" else "I;16", (12, 10), deep.astype(f"{order}u2").tobytes())
    image.save(tmp_path / "a.tif")
    assert abs(pixels_of(tmp_path / "a.tif")[..., 0] - GREY).max() <= 1
    assert np.array_equal(np.asarray(upright_rgb(image)), pixels_of(tmp_path / "a.tif"))


def test_a_large_deep_image_is_scaled_band_by_band(monkeypatch):
    deep = np.random.default_rng(0).integers(0, 65536, (61, 40)).astype(np.uint16)
    whole = np.asarray(upright_rgb(Image.fromarray(deep)))
    monkeypatch.setattr(images, "BAND", 130)
    assert np.array_equal(np.asarray(upright_rgb(Image.fromarray(deep))), whole)
    assert np.array_equal(whole[..., 1], np.round(deep / 257).astype(np.uint8))


@pytest.mark.parametrize(
    "array, sample_format, grey_bits, reason",
    [
        (ramp(np.int32, 1 << 30), 2, 0, "from 0 to 1073741824.*store it with 8 or 16 bits"),
        (ramp(np.uint32, 4294967295), 1, 0, "from 0 to 4294967295"),
        (ramp(np.int16, 2000) - 1000, 2, 0, "from -1000 to 1000; expected"),
        (ramp(np.int32, 255), 2, 0, "up to 255 only.*GREY_BITS 8 or 16"),
        (ramp(np.uint16, 5000), 1, 12, "up to 5000.*GREY_BITS 12 4095 is white"),
        (ramp(np.float32, 1), 3, 0, "floating point.*store it with 8 or 16 bits"),
    ],
)
def test_greys_of_which_nothing_says_what_is_white(tmp_path, array, sample_format, grey_bits, reason):
    (tmp_path / "deep.tif").write_bytes(tiff(array.astype(array.dtype), sample_format=sample_format))
    with pytest.raises(DataError, match=rf"deep\.tif.*{reason}"):
        read_image(tmp_path / "deep.tif", grey_bits)


@pytest.mark.parametrize("top, bits", [(200, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12)])
def test_16_bits_that_are_fewer_are_remarked_on(tmp_path, top, bits):
    Image.fromarray(ramp(np.uint16, top)).save(tmp_path / "dark.png")
    with pytest.warns(UserWarning, match=rf"dark\.png: grey values from 0 to {top} .*GREY_BITS {bits} "):
        read_image(tmp_path / "dark.png")
    assert pixels_of_quiet(tmp_path / "dark.png", bits).max() == round(255 * top / (2**bits - 1))


def pixels_of_quiet(path, grey_bits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.asarray(read_image(path, grey_bits))


@pytest.mark.parametrize("top, grey_bits", [(0, 0), (4096, 0), (65535, 0), (255, 16)])
def test_no_remark_without_reason(tmp_path, top, grey_bits):
    Image.fromarray(ramp(np.uint16, top)).save(tmp_path / "a.png")
    pixels_of_quiet(tmp_path / "a.png", grey_bits)


def test_colours_of_16_bits_that_are_nearly_black_are_remarked_on(tmp_path):
    def png(colours, kind):
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
        header = struct.pack(">IIBBBBB", colours.shape[1], colours.shape[0], 16, kind, 0, 0, 0)
        return png_of((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))

    for kind, channels in ((2, 3), (4, 1), (6, 3)):  # RGB; grey and RGB with alpha
        colours = np.repeat(ramp(np.uint16, 4095)[..., None], channels, axis=2)
        alpha = np.full((10, 12, int(kind > 2)), 65535, np.uint16)
        (tmp_path / "a.png").write_bytes(png(np.dstack([colours, alpha]), kind))
        with pytest.warns(UserWarning, match="a.png: 16 bits per channel, none above 4095"):
            read_image(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes(png(np.dstack([colours * 16, alpha]), kind))
        assert abs(pixels_of_quiet(tmp_path / "a.png", 0)[..., 0].astype(int) - GREY).max() <= 1


def test_files_that_say_themselves_what_is_white(tmp_path):
    header = b"P5 12 10 4095\n"
    (tmp_path / "a.pgm").write_bytes(header + ramp(np.uint16, 4095).astype(">u2").tobytes())
    (tmp_path / "dark.pgm").write_bytes(header + ramp(np.uint16, 10).astype(">u2").tobytes())
    for bits in (0, 12):
        assert abs(pixels_of_quiet(tmp_path / "a.pgm", bits)[..., 0].astype(int) - GREY).max() <= 1
        assert pixels_of_quiet(tmp_path / "dark.pgm", bits).max() == 1


def test_remarks_go_to_who_listens_once_of_each_kind(tmp_path):
    lines = []
    with remarks_to(once(lines.append)), warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, top in enumerate((100, 1000, 200, 4000, 900)):
            Image.fromarray(ramp(np.uint16, top)).save(tmp_path / f"{number}.png")
            read_image(tmp_path / f"{number}.png")
    assert [re.search(r"(\d)\.png", line)[1] for line in lines] == ["0", "1", "3"]


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
    for transparency in (1, b"\x80\x10"):
        palette.save(tmp_path / "p.png", transparency=transparency)
        assert (pixels_of_quiet(tmp_path / "p.png", 0) == (10, 20, 30)).all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "I;16"]
)
def test_images_in_memory_of_any_mode(mode):
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    image = Image.fromarray(half)
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    elif mode in ("La", "RGBa", "PA"):
        image = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}[mode]).convert(mode)
    elif mode == "I;16":
        image = Image.fromarray(half[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    assert image.mode == mode
    upright = upright_rgb(image)
    assert upright.mode == "RGB" and abs(np.asarray(upright).astype(int) - half).max() <= 2
    assert image.mode == mode and upright is not image


def test_lab_and_cmyk_files_have_their_colours(tmp_path):
    from PIL import ImageCms

    red = Image.new("RGB", (8, 8), (200, 40, 60))
    lab = ImageCms.profileToProfile(red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    for image, suffix in ((lab, "tif"), (red.convert("CMYK"), "tif"), (red.convert("CMYK"), "jpg"), (red.convert("YCbCr"), "tif")):
        image.save(tmp_path / f"a.{suffix}")
        assert abs(pixels_of(tmp_path / f"a.{suffix}") - (200, 40, 60)).max() <= 6, (image.mode, suffix)


# Where the first row and the first column of a picture that is stored so belong, in words of EXIF's standard
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {} /></x:xmpmeta>'
BLOCKS = np.kron(np.random.default_rng(0).integers(0, 2, (3, 5, 3), dtype=np.uint8) * 255, np.ones((16, 16, 1), np.uint8))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("place", ["exif png", "exif jpg", "exif webp", "exif avif", "tag tif", "xmp png", "xmp jpg", "xmp webp"])
def test_cameras_held_sideways(tmp_path, place, orientation):
    kind, suffix = place.split()
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path, image, options = tmp_path / f"a.{suffix}", Image.fromarray(BLOCKS), {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    xmp = XMP.format(f'tiff:Orientation="{orientation}"')
    if kind == "exif":
        options["exif"] = exif
    elif kind == "tag":
        options["tiffinfo"] = exif
    elif suffix == "png":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    else:
        options["xmp"] = xmp.encode()
    image.save(path, quality=100, **options)
    expected = UPRIGHT[orientation](BLOCKS).astype(int)
    assert pixels_of(path).shape == expected.shape and np.median(abs(pixels_of(path) - expected)) <= 8
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(upright_rgb(opened)), pixels_of(path))
    assert np.array_equal(np.asarray(upright_rgb(read_image(path))), pixels_of(path)), "what is upright stays so"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_remarks_do_no_harm(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert pixels_of(tmp_path / "a.jpg").shape == (10, 12, 3)


def bomb(side, *chunks):
    """A PNG of a few bytes that says it has side x side pixels."""

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return png_of((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))


def png_of(*chunks):
    """The bytes of a PNG file of these (kind, data)."""
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def text_bomb():
    return bomb(8, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000))))


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
    "bomb": (bomb(50_000), "decompression bomb"),
    "more than fits in memory": (bomb(9_500), "more than 89 million pixels.*scale it down"),
    "too much text": (text_bomb(), "cannot be read"),
    "starts Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n", "not an image"),
    "PDF": (b"%PDF-1.4\n", "not an image"),
    "calls a plug-in": (b"GRIB\0\0\0\x01" + bytes(100), "not an image"),
    "WMF": (b"\xd7\xcd\xc6\x9a\0\0" + bytes(100), "not an image"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "not an image"),
    "FITS": (b"SIMPLE  =                    T".ljust(2880), "not an image"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content, reason", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_line_that_names_it(tmp_path, content, reason):
    path = tmp_path / "größer als.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "ON_BAD_IMAGE" not in str(caught.value), "who reads a file alone has no such key"


@pytest.mark.timeout(60)
def test_paths_that_are_not_files_are_one_line(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.jpg"))
    for name, reason in (
        ("folder.jpg", "a directory"),
        ("none.jpg", "no such file"),
        ("pipe.jpg", "a pipe, socket or device"),
        ("link.jpg", "a pipe, socket or device"),
        ("socket.jpg", "a pipe, socket or device"),
        ("loop.jpg", "symbolic links"),
        ("/dev/zero", "a pipe, socket or device"),
        ("a\0.jpg", "null"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_lazily_opened_picture_of_another_kind_starts_nothing(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **options: pytest.fail("a program was started"))
    with Image.open(tmp_path / "a.eps") as image, pytest.raises(ValueError, match="format EPS is not read"):
        upright_rgb(image)


def test_a_jpeg_that_is_too_large_is_read_at_half_its_size(tmp_path, monkeypatch):
    image = Image.fromarray(BLOCKS)  # 80 x 48
    image.save(tmp_path / "a.jpg", quality=100)
    image.save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 80 * 48 - 1)
    assert read_image(tmp_path / "a.jpg").size == (40, 24)
    assert np.median(abs(pixels_of(tmp_path / "a.jpg") - BLOCKS[::2, ::2].astype(int))) <= 8
    for too_large in (lambda: read_image(tmp_path / "a.png"), lambda: upright_rgb(image)):
        with pytest.raises((DataError, ValueError), match="million pixels.*scale it down"):
            too_large()


def test_suffixes_are_those_of_the_formats_that_are_read(tmp_path):
    usual = {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".tga",
    }
    assert usual <= set(image_suffixes()) and not {".eps", ".ps", ".pdf", ".wmf", ".h5", ".mpg", ".txt"} & set(image_suffixes())
    writers = Image.registered_extensions()
    image = ImageOps.posterize(Image.fromarray(BLOCKS), 1)
    for suffix in image_suffixes():
        if writers[suffix] in Image.SAVE:
            stored = image.convert("1") if suffix == ".pbm" else image.convert("L") if suffix == ".pgm" else image
            stored.convert("F" if suffix == ".pfm" else stored.mode).save(tmp_path / f"a{suffix}")
            if suffix == ".pfm":
                with pytest.raises(DataError, match="floating point"):
                    read_image(tmp_path / f"a{suffix}")
            else:
                assert read_image(tmp_path / f"a{suffix}").size == (80, 48), suffix


def test_of_several_frames_the_first_is_read(tmp_path):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for suffix in ("gif", "tif", "png", "webp", "mpo"):
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
        assert abs(pixels_of(tmp_path / f"a.{suffix}") - (255, 0, 0)).max() <= 3


def test_files_that_are_left_out_are_counted_by_their_suffixes():
    assert left_out_line(["x/a.HEIC", "x/b.heic", "x/README", "c.txt"]) == "2 .heic, 1 without a suffix, 1 .txt"
    assert left_out_line([]) == ""
    assert left_out_line(f"a.{number}" for number in range(12)).endswith(", ...")
