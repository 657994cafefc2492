"""Arrays that this process and its workers write to, however the workers are started."""

import math
import os
import tempfile

import numpy as np


class SharedArray:
    """An array of bytes in shared memory, at first zeros: `np.asarray` of it, here or in a worker, is the same memory.

    Not in /dev/shm, of which a container often has 64 MB. Where the system cannot make files in memory, in a temporary file.

    Args:
        shape: of the array.

    Raises:
        MemoryError: there is not that much memory.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)
        size = math.prod(self.shape)
        np.empty(size, np.uint8)  # raises: a file in memory may have any size, and fails when it is written to
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("dassl_vr"), "r+b")
            self._path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115
            self._path = self._file.name
        self._file.truncate(size)
        self._array = np.asarray(np.memmap(self._file, np.uint8, "r+", shape=self.shape))

    def __array__(self, dtype=None, copy=None):
        return self._array

    def __reduce__(self):
        return np.memmap, (self._path, np.uint8, "r+", 0, self.shape)
