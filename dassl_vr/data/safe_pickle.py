"""Reading the pickles that some data sets are published as, without letting them run anything."""

import pickle

import numpy as np

from ..utils.errors import DataError

# All that a pickled dictionary of numpy arrays needs. `_codecs.encode` is how Python 2 wrote bytes.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


def _encode(text, encoding="latin1"):
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):
            return _encode
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load_arrays(path):
    """The dictionary of numpy arrays, lists, numbers and texts pickled in `path`; keys of bytes come as str.

    Raises:
        DataError: the file is missing, damaged, no dictionary, or asks for anything but arrays.
    """
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); fetch the data set again") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"{path}: no plain pickle of arrays ({error}); remove it and fetch the data again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, not a dictionary of arrays; fetch the data again")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def load_cifar(paths, label_key, num_classes):
    """((N, 32, 32, 3) uint8, (N,) int64) from the files of CIFAR-10 or CIFAR-100, one after the other.

    Args:
        label_key: what the labels are called in the files.
    """
    images, labels = [], []
    for path in paths:
        content = load_arrays(path)
        data, numbers = content.get("data"), content.get(label_key)
        if (
            not isinstance(data, np.ndarray)
            or not isinstance(numbers, list)
            or data.dtype != np.uint8
            or data.shape != (len(numbers), 3 * 32 * 32)
            or not all(label in range(num_classes) for label in numbers)
        ):
            raise DataError(f"{path}: not a batch of CIFAR; remove its directory and fetch the data set again")
        # channel planes on disk, interleaved pixels in a picture
        images.append(np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        labels += numbers
    return np.concatenate(images), np.array(labels, dtype=np.int64)
