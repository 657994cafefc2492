"""Arrays that this process and its workers write to, however the workers are started."""

import ctypes
import math
import os
import sys
import weakref

import numpy as np
import torch

_CLOSE_ON_EXEC = 1  # of Linux's memfd_create


class SharedArray:
    """An array of bytes in shared memory: `np.asarray` of it, here or in a worker, is the same memory.

    On Linux it is a file without a name in memory, not one of /dev/shm, of which a container often has 64 MB.

    Args:
        shape: of the array.

    Raises:
        MemoryError: the system does not give it; says why.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape)
        size = math.prod(self.shape)
        np.empty(size, np.uint8)  # raises: a file in memory may have any size, and fails when it is written to
        try:
            if sys.platform == "linux":
                self._descriptor = _memory_file()
                weakref.finalize(self, os.close, self._descriptor)
                os.truncate(self._descriptor, size)
                self._array = np.asarray(np.memmap(self._path, np.uint8, "r+", shape=self.shape))
            else:
                self._tensor = torch.empty(self.shape, dtype=torch.uint8).share_memory_()
                self._array = self._tensor.numpy()
        except (OSError, RuntimeError) as error:
            raise MemoryError(f"no shared memory: {getattr(error, 'strerror', None) or error}") from error

    @property
    def _path(self):
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def __array__(self, dtype=None, copy=None):
        return self._array

    def __reduce__(self):
        if sys.platform == "linux":
            return np.memmap, (self._path, np.uint8, "r+", 0, self.shape)
        return torch.Tensor.numpy, (self._tensor,)


def _memory_file():
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dassl_vr")
    # A Python that was built for older systems, as conda's are, lacks it
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.memfd_create(b"dassl_vr", _CLOSE_ON_EXEC)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor
