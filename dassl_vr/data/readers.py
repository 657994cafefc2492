"""Reading the file formats that data sets come in, images apart: MATLAB files, IDX arrays, CIFAR's batches, lines of text."""

import gzip
import math
import os
import struct
import zlib

import numpy as np

from ..utils.errors import DataError
from ..utils.places import open_regular
from ..utils.text import excerpt

MAX_BYTES = 1 << 30  # of an array; the largest of our data sets, SVHN's training images, has a quarter
CHUNK = 1 << 20
COMPRESSED = 15  # the type of such an element of a MATLAB file
MAX_CELLS = 1 << 20  # of an array of other arrays


def read_mat(path: str | os.PathLike, *keys: str) -> tuple[np.ndarray, ...]:
    """The arrays called `keys` in a MATLAB file. Raises `DataError` if it is damaged or lacks one."""
    from scipy.io import loadmat, whosmat  # here: slow to import, and of no use to most data sets

    try:
        with open_regular(path) as file:
            for name, shape, kind in whosmat(file):
                most = MAX_CELLS if kind in ("cell", "struct", "object", "opaque", "function") else MAX_BYTES
                if name in keys and (min(shape, default=0) < 0 or math.prod(shape) > most):
                    raise ValueError(f"'{name}' is larger than any that is published")
            _check_growth(file)
            file.seek(0)
            content = loadmat(file, variable_names=keys)
        arrays = tuple(content[key] for key in keys)
        if not all(isinstance(array, np.ndarray) for array in arrays):
            raise ValueError("it holds no plain arrays")
        return arrays
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); fetch the data set again") from error
    except KeyError as error:
        raise DataError(f"{path}: has no variable {error}; remove it and fetch the data set again") from error
    except Exception as error:  # a damaged file can raise nearly anything
        reason = excerpt(error) or type(error).__name__
        raise DataError(f"{path}: not a MATLAB file ({reason}); remove it and fetch the data set again") from error


def _check_growth(file):
    """Raises `ValueError` if the compressed variables of a MATLAB file unpack to more than any that is published."""
    file.seek(126)  # a text, the version and the order of bytes
    order = {b"IM": "<", b"MI": ">"}.get(file.read(2))
    total = 0
    while order and len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}II", tag)
        end = file.tell() + size
        if kind == COMPRESSED:
            decompressor = zlib.decompressobj()
            while not decompressor.eof and (block := decompressor.unconsumed_tail or file.read(min(CHUNK, end - file.tell()))):
                total += len(decompressor.decompress(block, CHUNK))
                if total > MAX_BYTES:
                    raise ValueError("it unpacks to more than any that is published")
        file.seek(end)


def read_idx(path: str | os.PathLike, dimensions: int) -> np.ndarray:
    """The uint8 array in an IDX file (the format of MNIST), plain or gzipped by its name.

    Raises:
        DataError: the file is missing, damaged, cut off, or has another number of dimensions.
    """
    try:
        with open_regular(path) as raw, gzip.GzipFile(fileobj=raw) if str(path).endswith(".gz") else raw as file:
            header = file.read(4 + 4 * dimensions)
            # magic number: two zeros, 8 for unsigned bytes, the number of dimensions
            if header[:4] == bytes((0, 0, 8, dimensions)) and len(header) == 4 + 4 * dimensions:
                shape = struct.unpack(f">{dimensions}I", header[4:])
                size = math.prod(shape)
                if size <= MAX_BYTES and len(content := file.read(size + 1)) == size:
                    return np.frombuffer(content, np.uint8).reshape(shape)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({excerpt(error)}); fetch the data set again") from error
    raise DataError(f"{path}: not a complete IDX file of bytes in {dimensions} dimensions; remove it and fetch the data set again")


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines of a text file without line ends, empty ones left out. Raises `DataError` if it is no text in UTF-8."""
    try:
        with open_regular(path) as file:
            return [line for line in file.read().decode("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); fetch the data again") from error
