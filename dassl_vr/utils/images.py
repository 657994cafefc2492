"""Read images of any mode as upright RGB with 8 bits per channel. No other module opens an image."""

import contextlib
import contextvars
import functools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import DataError
from .places import open_regular

# Raster formats only: other formats of Pillow start a program (EPS), call a plug-in (WMF, GRIB) or are not images (MPEG)
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM"),
    *("QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP"),
)
SCALED_BY_PILLOW = ("JPEG2000", "PPM")  # these files state their white value, which Pillow scales to 65535
READER = 2  # incremented when the pixels that `read_image` returns change
MAX_PIXELS = 1024**3 // 12  # 89 million, where Pillow warns; reading that many takes up to 1 GB
BAND = 1 << 20  # pixels that are scaled at once
DARK = {8: 255, 10: 1023, 12: 4095}  # bits: the largest value; in a file of 16 bits such images are nearly black

_TIFF_BITS, _TIFF_MEANING_OF_ZERO, _TIFF_SAMPLE_FORMAT = 258, 262, 339

_listener = contextvars.ContextVar("listener", default=None)


class UnreadableImageError(DataError):
    """An image file cannot be read; the message names it."""

    def in_a_run(self) -> "UnreadableImageError":
        """The same error plus what to do about it in a run, which can continue without the image."""
        return UnreadableImageError(f"{self}; put a readable image in its place, or set DATASET.ON_BAD_IMAGE skip")


# ----------------------------------------------------------------------------------------------------------- names
@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """The lower-case suffixes of the image formats that the installed Pillow opens."""
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS))


def left_out_line(paths: Iterable[str | os.PathLike]) -> str:
    """The number of files per suffix, for example `2 .heic, 1 without a suffix`; "" if there are no files."""
    kinds = Counter(os.path.splitext(path)[1].lower() or "without a suffix" for path in paths)
    shown = [f"{count} {kind}" for kind, count in kinds.most_common(10)]
    return ", ".join([*shown, "..."] if len(kinds) > 10 else shown)


# --------------------------------------------------------------------------------------------------------- remarks
@contextlib.contextmanager
def remarks_to(listener: Callable[[tuple[str, str]], object]) -> Iterator[None]:
    """Send remarks on images read in this block to `listener((kind, line))` instead of Python's warnings."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def print_warning(line: str) -> None:
    """Print a line that begins with WARNING."""
    print(f"WARNING: {line}")


def once(report: Callable[[str], object] = print_warning) -> Callable[[tuple[str, str]], None]:
    """A listener that calls `report(line)` for the first remark of each kind."""
    reported = set()

    def listener(remark):
        kind, line = remark
        if kind not in reported:
            reported.add(kind)
            report(line)

    return listener


def remark(kind: str, line: str) -> None:
    """Send a remark of this kind to the current listener, else to Python's warnings."""
    listener = _listener.get()
    if listener is None:
        warnings.warn(line, stacklevel=2)
    else:
        listener((kind, line))


# --------------------------------------------------------------------------------------------------------- reading
def read_image(path: str | os.PathLike, grey_bits: int = 0) -> Image.Image:
    """The image file at `path` as an upright PIL image in RGB with 8 bits per channel; transparency is dropped.

    Of several frames the first is read. A JPEG of more than `MAX_PIXELS` is read at half its size.

    Args:
        grey_bits: see `upright_rgb`.

    Raises:
        UnreadableImageError: it cannot be read; names the file.
    """
    try:
        with open_regular(path) as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("an empty file")
            with Image.open(file, formats=_formats()) as image:
                width, height = image.size
                if width * height > MAX_PIXELS and image.format in ("JPEG", "MPO"):
                    image.draft(None, (width // 2, height // 2))
                return upright_rgb(image, grey_bits, path)
    except FileNotFoundError as error:
        raise UnreadableImageError(f"image {path}: no such file") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise UnreadableImageError(f"image {path}: cannot be read ({_reason(error)})") from error


def upright_rgb(image: Image.Image, grey_bits: int = 0, name: str | os.PathLike = "in memory") -> Image.Image:
    """A PIL image of any mode as `read_image` returns it: RGB, 8 bits per channel, rotated as its EXIF or XMP data state.

    Grey values of 16 and 32 bits are scaled by the same factor in all images, never stretched to the range of one image.

    Args:
        grey_bits: number of significant bits: 2 ** grey_bits - 1 is white. 0 = 16 bits, with a remark on an image that would be
            nearly black; 32-bit integers up to 255 are then refused.
        name: of the image, for that remark.

    Raises:
        ValueError: it is too large, of another format than `FORMATS`, or its grey values are not those of an image.
    """
    if image.format is not None and image.format not in FORMATS:  # loading it could start a program
        raise ValueError(f"the format {image.format} is not read; convert it to PNG")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large())
    if 0 in image.size:
        raise ValueError("it has no pixels")
    of_16_bits = any(";16" in str(args) for *_, args in getattr(image, "tile", ()))  # lost when it is loaded
    image.load()
    orientation = _orientation(image)
    rgb = _to_rgb(image, grey_bits, name)
    if of_16_bits and len(image.getbands()) > 1 and max(high for _, high in rgb.getextrema()) <= DARK[12] // 256:
        what = "16 bits per channel, none above 4095, where 65535 is white, so it looks nearly black"
        remark("colours", f"image {name}: {what}; if that is not meant, store images with 8 bits per channel")
    rgb.info = {}  # colour profiles are ignored
    if orientation != 1:
        # Rotated last, as a copy without other metadata: colours need the file's own tags, damaged metadata makes Pillow raise, and
        # the caller's image must not change
        rgb.getexif()[ExifTags.Base.Orientation] = orientation
        ImageOps.exif_transpose(rgb, in_place=True)
        rgb.info = {}
    return rgb


@functools.cache
def _formats():
    Image.init()
    # `upright_rgb` refuses such images itself
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF and the like are not part of every Pillow


def _reason(error):
    if isinstance(error, UnidentifiedImageError):
        return f"not an image, or of none of the formats {', '.join(_formats())}"
    if isinstance(error, Image.DecompressionBombError):
        return _too_large()
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__


def _too_large():
    return f"more than {MAX_PIXELS // 10**6} million pixels, too many for the memory, or a decompression bomb; scale it down"


def _orientation(image):
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata does not make the pixels unreadable
        return 1
    return orientation if orientation in range(1, 9) else 1


# ---------------------------------------------------------------------------------------------------------- colours
def _to_rgb(image, grey_bits, name):
    if image.mode == "F":
        raise ValueError("grey values of floating point, of which nothing says how much is white; store it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;"):
        image = _grey_of_8_bits(image, grey_bits, name)  # `convert` would clip deep greys to 255: all white
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # else Pillow warns that it is lost
    return image.convert("RGB")


def _grey_of_8_bits(image, grey_bits, name):
    tags = getattr(image, "tag_v2", {})  # of a TIFF file

    def bands():
        """Yield (first row, array of rows): the whole image at once would take a multiple of its memory."""
        rows = max(1, BAND // image.width)
        for top in range(0, image.height, rows):
            values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
            unsigned = image.mode == "I" and tags.get(_TIFF_BITS) == (32,) and tags.get(_TIFF_SAMPLE_FORMAT, (1,)) == (1,)
            yield top, values.view(np.uint32) if unsigned else values

    extremes = [(int(values.min()), int(values.max())) for _, values in bands()]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    white = _white(image, tags, low, high, grey_bits, name)
    grey_of = ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_TIFF_MEANING_OF_ZERO) == 0:  # white; Pillow applies it to 8 bits only
        grey_of = grey_of[::-1]
    grey = np.empty((image.height, image.width), np.uint8)
    for top, values in bands():
        np.take(grey_of, values, out=grey[top : top + len(values)])
    return Image.fromarray(grey)


def _white(image, tags, low, high, grey_bits, name):
    """The grey value that is white."""
    if low < 0 or high > 65535:
        raise ValueError(f"grey values from {low} to {high}; expected 0 to 255, or 0 to 65535: store it with 8 or 16 bits")
    if image.format in SCALED_BY_PILLOW:
        return 65535
    bits = tags.get(_TIFF_BITS, (16,))[0]
    if 8 < bits < 16:
        return 2**bits - 1
    if grey_bits:
        if high >= 2**grey_bits:
            raise ValueError(f"grey values up to {high}, but with DATASET.GREY_BITS {grey_bits} {2**grey_bits - 1} is white")
        return 2**grey_bits - 1
    if image.mode == "I" and 0 < high <= 255:
        what = f"integers of 32 bits, yet grey values up to {high} only: nothing says whether 255 or 65535 is white"
        raise ValueError(f"{what}; store it with 8 or 16 bits, or train with DATASET.GREY_BITS 8 or 16")
    if 0 < high <= DARK[12]:
        bits = min(bits for bits, top in DARK.items() if high <= top)
        remark(
            f"{bits} bits",
            f"image {name}: grey values from {low} to {high} where 65535 is white, so it looks nearly black; if they have {bits}"
            f" bits, train with DATASET.GREY_BITS {bits} (16 if they are right as they are), or store images with 8 bits",
        )
    return 65535
