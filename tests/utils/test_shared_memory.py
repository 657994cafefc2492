"""Workers write to the same memory, whichever way they are started."""

import multiprocessing
import operator
import os

import numpy as np
import pytest

from dassl_vr.utils.shared_memory import SharedArray


@pytest.fixture(params=["in memory", "temporary"])
def file(request, monkeypatch):
    if request.param == "temporary":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system makes no files in memory")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_writes_to_the_same_memory(file, method):
    shared = SharedArray((2, 3, 5000))
    pixels = np.asarray(shared)
    assert pixels.shape == (2, 3, 5000) and pixels.dtype == np.uint8 and not pixels.any()
    # A forked worker is given the object itself
    values = pixels if method == "fork" else shared
    process = multiprocessing.get_context(method).Process(target=operator.setitem, args=(values, (1, 2), 7))
    process.start()
    process.join()
    assert process.exitcode == 0 and (pixels[1, 2] == 7).all() and pixels.sum() == 7 * 5000


def test_it_lives_as_long_as_its_array(file):
    pixels = np.asarray(SharedArray((4, 100)))
    pixels[:] = 3
    assert pixels.sum() == 1200


def test_too_much_is_refused_before_anything_is_written():
    with pytest.raises(MemoryError):
        SharedArray((1 << 30, 1 << 30))
