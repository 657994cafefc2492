"""Reading the other file formats that data sets come in: MATLAB files, IDX arrays, lines of text."""

import gzip
import struct
import zlib

import numpy as np

from ..utils.errors import DataError


def read_mat(path, *keys):
    """The arrays called `keys` in a MATLAB file. Raises `DataError` if it is damaged or lacks one."""
    from scipy.io import loadmat  # here: slow to import, and of no use to most data sets

    try:
        content = loadmat(path)
        return tuple(content[key] for key in keys)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); fetch the data set again") from error
    except KeyError as error:
        raise DataError(f"{path}: has no variable {error}; remove it and fetch the data set again") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{path}: no MATLAB file ({error}); remove it and fetch the data set again") from error


def read_idx(path, dimensions):
    """The uint8 array in an IDX file (the format of MNIST), plain or gzipped by its name.

    Raises:
        DataError: the file is missing, damaged, cut off, or has another number of dimensions.
    """
    try:
        with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the data set again") from error
    header = 4 + 4 * dimensions
    # magic number: two zeros, 8 for unsigned bytes, the number of dimensions
    if content[:4] == bytes((0, 0, 8, dimensions)) and len(content) >= header:
        shape = struct.unpack(f">{dimensions}I", content[4:header])
        if len(content) == header + int(np.prod(shape, dtype=np.int64)):
            return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    raise DataError(f"{path}: no complete IDX file of bytes in {dimensions} dimensions; remove it and fetch the data set again")


def read_lines(path):
    """The lines of a text file without line ends, empty ones left out."""
    try:
        with open(path, encoding="utf-8") as file:
            return [line for line in file.read().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); fetch the data again") from error
