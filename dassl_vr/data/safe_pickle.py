"""Reading the pickles that some data sets are published as, without letting them run or build anything but plain arrays.

A pickle is a program, and Python's unpickler runs it: even without calling a function it can be made to crash the interpreter (a
data type made of state, an index of 2**32, tuples in each other as a key). The few steps that such files need are done here.
"""

import math
import pickle
import pickletools
from pathlib import Path

import numpy as np

from ..utils.errors import DataError
from ..utils.places import open_regular
from ..utils.text import excerpt

MAX_BYTES = 1 << 29  # CIFAR-100's training images are 155 MB
MAX_STEPS = 2_000_000  # each can take some hundred bytes of memory; CIFAR-100 has a fifth of a million
NUMBERS = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Steps that leave their argument as a value. Python 2 wrote bytes as strings.
VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
VALUES |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
VALUES |= {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}


class _DataType:
    """A data type of plain numbers, by its name."""

    def __init__(self, name, align=False, copy=False):
        if not isinstance(name, str) or name not in NUMBERS:
            raise pickle.UnpicklingError("it asks for an array of no plain numbers")
        self.dtype = np.dtype(name)

    def build(self, version, order, *fields):
        if order not in ("<", ">", "=", "|") or fields != (None, None, None, -1, -1, 0):
            raise pickle.UnpicklingError("it asks for an array of no plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array, in `value` once it is built."""

    def __init__(self, kind, shape, code):
        if kind is not _Array:
            raise pickle.UnpicklingError("an array of another kind")

    def build(self, version, shape, kind, is_fortran, data):
        if not isinstance(kind, _DataType) or not isinstance(shape, tuple) or len(shape) > 8:
            raise pickle.UnpicklingError("an array of another kind")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("an array of no possible shape")
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, bytes) or math.prod(shape) * kind.dtype.itemsize != len(data):
            raise pickle.UnpicklingError("an array of another size than its shape says")
        self.value = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if is_fortran is True else "C")


def _latin1(text, encoding="latin1"):
    if encoding != "latin1":
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DataType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _latin1,
}


class _Machine:
    """Does the steps of a pickle that makes dictionaries, lists, tuples, texts, numbers and arrays."""

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}

    def run(self, file):
        """What the pickle in `file` makes."""
        for count, (step, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_STEPS:
                raise pickle.UnpicklingError("it takes too many steps")
            if step.name in VALUES:
                self.stack.append(argument)
            elif step.name in CONSTANTS:
                self.stack.append(CONSTANTS[step.name])
            else:
                self.do(step.name, argument)
        return self.stack.pop()

    def do(self, step, argument):
        stack = self.stack
        match step:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if argument is None else argument] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "LIST":
                stack.append(self.since_mark())
            case "DICT":
                items = self.since_mark()
                stack.append({})
                self.set_items(items)
            case "TUPLE":
                stack.append(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.last(int(step[-1]))))
            case "APPEND" | "APPENDS":
                items = self.last(1) if step == "APPEND" else self.since_mark()
                self.top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                self.set_items(self.last(2) if step == "SETITEM" else self.since_mark())
            case "GLOBAL" | "STACK_GLOBAL":
                names = tuple(argument.split(" ") if step == "GLOBAL" else self.last(2))
                if not all(isinstance(name, str) for name in names) or names not in _NAMES:
                    raise pickle.UnpicklingError(f"it asks for {'.'.join(map(str, names))}")
                stack.append(_NAMES[names])
            case "REDUCE":
                function, arguments = self.last(2)
                if function not in _NAMES.values():
                    raise pickle.UnpicklingError("it calls what is no function")
                stack.append(function(*arguments))
            case "BUILD":
                (state,) = self.last(1)
                self.top((_DataType, _Array)).build(*state)
            case _:
                raise pickle.UnpicklingError(f"it asks for the step {step}")

    def last(self, number):
        """Take the last `number` values off the stack."""
        if len(self.stack) < number:
            raise pickle.UnpicklingError("it takes more than there is")
        items = self.stack[-number:]
        del self.stack[-number:]
        return items

    def since_mark(self):
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kinds):
        if not isinstance(self.stack[-1], kinds):
            raise pickle.UnpicklingError("it adds to what cannot be added to")
        return self.stack[-1]

    def set_items(self, items):
        keys = items[::2]
        # keys of other kinds can be made so that looking them up takes hours, or more stack than there is
        if len(items) % 2 or not all(isinstance(key, (str, bytes)) for key in keys):
            raise pickle.UnpicklingError("a dictionary with keys that are no texts")
        self.top(dict).update(zip(keys, items[1::2]))


def load_arrays(path: str | Path) -> dict:
    """The dictionary of numpy arrays of numbers (read-only), lists, numbers and texts pickled in `path`; keys of bytes come as str.

    Raises:
        DataError: the file is missing, damaged, no dictionary, or asks for anything but arrays.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise pickle.UnpicklingError("larger than any that is published")
        with open_regular(path) as file:
            content = _Machine().run(file)
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"a {type(content).__name__} instead of a dictionary")
        return {
            key.decode("latin1") if isinstance(key, bytes) else key: value.value if isinstance(value, _Array) else value
            for key, value in content.items()
        }
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); fetch the data set again") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = excerpt(error) or type(error).__name__
        raise DataError(f"{path}: not a plain pickle of arrays ({reason}); remove it and fetch the data again") from error


def load_cifar(paths: list, label_key: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """((N, 32, 32, 3) uint8, (N,) int64) from the files of CIFAR-10 or CIFAR-100, one after the other.

    Args:
        label_key: what the labels are called in the files.

    Raises:
        DataError: a file is missing, or holds something else.
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
            or not all(type(label) is int and 0 <= label < num_classes for label in numbers)
        ):
            raise DataError(f"{path}: not a batch of CIFAR; remove its directory and fetch the data set again")
        # channel planes on disk, interleaved pixels in a picture
        images.append(np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        labels += numbers
    return np.concatenate(images), np.array(labels, dtype=np.int64)
