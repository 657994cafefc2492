"""Workers write to the same memory, whichever way they are started."""

import contextlib
import gc
import operator
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dassl_vr.utils.shared_memory import SharedArray


@pytest.fixture(params=["Linux", "Linux, a Python without memfd_create", "elsewhere"])
def system(request, monkeypatch):
    if request.param == "elsewhere":
        monkeypatch.setattr(sys, "platform", "another")
    elif sys.platform != "linux":
        pytest.skip("Linux only")
    elif request.param != "Linux":
        monkeypatch.delattr(os, "memfd_create", raising=False)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_writes_to_the_same_memory(system, method):
    shared = SharedArray((2, 3, 5000))
    pixels = np.asarray(shared)
    pixels[:] = 1
    assert pixels.shape == (2, 3, 5000) and pixels.dtype == np.uint8
    # A forked worker inherits the array, a spawned one opens it
    values = pixels if method == "fork" else shared
    process = torch.multiprocessing.get_context(method).Process(target=operator.setitem, args=(values, (1, 2), 7))
    process.start()
    process.join()
    assert process.exitcode == 0 and (pixels[1, 2] == 7).all() and pixels.sum() == 6 * 5000 + 6 * 5000


def open_files():
    """Of this process, those in memory."""
    names = {}
    for path in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):  # the one that lists them
            names[path.name] = os.readlink(path)
    return {number for number, name in names.items() if "memfd:dassl_vr" in name}


def test_the_array_outlives_it_and_nothing_stays_open(system):
    gc.collect()  # what other tests have left
    before = open_files()
    shared = SharedArray((4, 100))
    pixels = np.asarray(shared)
    assert sys.platform != "linux" or open_files() > before
    del shared
    gc.collect()
    pixels[:] = 3
    assert pixels.sum() == 1200
    del pixels
    gc.collect()
    assert open_files() <= before


def test_too_much_is_refused_before_anything_is_written(system):
    with pytest.raises(MemoryError):
        SharedArray((1 << 30, 1 << 30))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="nothing to take its place")
def test_a_system_that_refuses_it_is_a_lack_of_memory(monkeypatch):
    def refuse(name):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(MemoryError, match="no shared memory: Permission denied"):
        SharedArray((2, 2))
