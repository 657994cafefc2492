"""Work shared out among the threads that torch computes with."""

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import threadpoolctl
import torch

_Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library whose threads torch uses; None where there is none, or another than GNU's interface."""
    found = [ctypes.CDLL(each["filepath"]) for each in threadpoolctl.threadpool_info() if each["user_api"] == "openmp"]
    # Other packages bring libraries of their own
    own = [each for each in found if Path(torch.__file__).parent in Path(each._name).resolve().parents] or found
    if len(own) != 1 or not hasattr(own[0], "GOMP_parallel"):
        return None
    own[0].GOMP_parallel.argtypes = [_Task, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    own[0].GOMP_parallel.restype = None
    return own[0]


def share_out(kernel: Callable[..., None], count: int, *arrays: np.ndarray) -> None:
    """Run `kernel(*arrays, first, last)` on parts of `range(count)`, in as many threads as torch has.

    They are torch's own where possible: after each operation those wait actively for the next one, for milliseconds, in which other
    threads would have to share the cores with them.
    """
    parts = max(min(torch.get_num_threads(), count), 1)
    if parts == 1:
        kernel(*arrays, 0, count)
        return
    bounds = [count * part // parts for part in range(parts + 1)]
    openmp = _openmp()
    if openmp is None:
        with ThreadPoolExecutor(parts) as threads:
            list(threads.map(lambda first, last: kernel(*arrays, first, last), bounds[:-1], bounds[1:]))
        return
    failed = []

    def task(_):
        try:  # the team may be smaller than asked for
            for part in range(openmp.omp_get_thread_num(), parts, openmp.omp_get_num_threads()):
                kernel(*arrays, bounds[part], bounds[part + 1])
        except BaseException as error:  # cannot pass through C
            failed.append(error)

    openmp.GOMP_parallel(_Task(task), None, parts, 0)
    if failed:
        raise failed[0]
