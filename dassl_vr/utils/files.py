"""Reading and writing files."""

import contextlib
import json
import os
import tempfile
import warnings
from pathlib import Path

from .errors import DataError


@contextlib.contextmanager
def atomic_write(path, mode="w"):
    """Open a temporary file beside `path` and put it in place of `path` only when the block ends without an error.

    A reader sees the old file or the new one, never half of one, also after a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)  # `file.write` names no file
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def mkdir_if_missing(dirname):
    """Make a directory and its parents; fine if it exists."""
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath):
    """Whether `fpath` is a file; warns if not."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f"No file at {fpath}", stacklevel=2)
    return isfile


def read_json(fpath):
    """The content of a JSON file in UTF-8, with or without a byte order mark, or in the UTF-16 of a Windows shell.

    Raises:
        ValueError: it is not JSON, or nested more deeply than anything of ours.
    """
    try:
        return json.loads(Path(fpath).read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def write_json(obj, fpath):
    """Write `obj` as JSON, atomically, making the directory if needed."""
    with atomic_write(fpath) as file:
        json.dump(obj, file, indent=2, ensure_ascii=False)
        file.write("\n")


def listdir_nohidden(path, sort=False):
    """Names in a directory without those that start with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


REMEDY_IN_A_RUN = "; replace or remove it, or set DATASET.ON_BAD_IMAGE skip"

# How to turn an image upright, by the value of EXIF's orientation tag
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def read_image(path):
    """The image file at `path` as a PIL image in RGB, upright, of 8 bits a channel; transparency is dropped.

    Raises:
        DataError: it cannot be read; names the file.
    """
    from PIL import Image  # here: configuration and registries need no PIL

    try:
        with Image.open(path) as image:
            return upright_rgb(image)
    except FileNotFoundError as error:
        raise DataError(f"image {path}: no such file") from error
    except Exception as error:  # a damaged file can raise nearly anything
        reason = "an empty file" if _is_empty(path) else str(error) or type(error).__name__
        raise DataError(f"image {path}: cannot be read ({reason}){REMEDY_IN_A_RUN}") from error


def upright_rgb(image):
    """A PIL image of any mode as `read_image` gives it: RGB of 8 bits a channel, turned as its EXIF data say.

    Raises:
        ValueError: grey values that 8 bits cannot show.
    """
    from PIL import Image

    image.load()
    turn = _UPRIGHT.get(_exif_orientation(image))
    image = _to_rgb(image)
    return image.transpose(Image.Transpose[turn]) if turn else image


def _exif_orientation(image):
    if "exif" not in image.info:
        return 1
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged remarks do not make the pixels unreadable
        return 1


def _to_rgb(image):
    import numpy as np
    from PIL import Image

    # `convert` would cut deep greys off at 255: white all over
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("grey values of 32 bits; store it with 8 or 16")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 / 257 = 255
    elif image.mode == "F":
        raise ValueError("grey values with fractions; store it with 8 or 16 bits")
    return image.convert("RGB")


def _is_empty(path):
    return os.path.isfile(path) and os.path.getsize(path) == 0
