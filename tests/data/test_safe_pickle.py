import os
import pickle

import numpy as np
import pytest

from dassl_vr.data.safe_pickle import load_arrays
from dassl_vr.utils.errors import DataError


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_arrays_come_back(tmp_path):
    content = {b"data": np.arange(12, dtype=np.uint8).reshape(3, 4), b"labels": [1, 2], "text": "x", "half": np.ones(2)}
    for protocol in range(5):
        path = tmp_path / f"{protocol}"
        path.write_bytes(pickle.dumps(content, protocol))
        loaded = load_arrays(path)
        assert set(loaded) == {"data", "labels", "text", "half"}
        assert np.array_equal(loaded["data"], content[b"data"]) and loaded["labels"] == [1, 2]


def test_a_pickle_of_python_2_with_the_old_module_name(tmp_path):
    path = tmp_path / "old"
    text = pickle.dumps({"data": np.arange(3, dtype=np.uint8)}, 2)
    path.write_bytes(text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert load_arrays(path)["data"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("wrap", [lambda h: {"data": h}, lambda h: h, lambda h: {h.path.name: [h]}])
def test_a_hostile_pickle_runs_nothing(tmp_path, wrap):
    path, trace = tmp_path / "batch", tmp_path / "trace"
    path.write_bytes(pickle.dumps(wrap(Hostile(trace))))
    with pytest.raises(DataError, match=r"not a plain pickle of arrays \(it asks for (posix|nt)\.system\)"):
        load_arrays(path)
    assert not trace.exists()


@pytest.mark.parametrize("function", [eval, getattr, np.load, np.lib.npyio.NpzFile])
def test_functions_of_python_and_numpy_are_not_handed_out(tmp_path, function):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": function}))
    with pytest.raises(DataError, match="asks for"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04 no pickle", pickle.dumps([1]), pickle.dumps({"a": 1})[:-3]])
def test_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(DataError, match="batch") as caught:
        load_arrays(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_arrays(tmp_path / "none")


# ---------------------------------------------------------------- pickles that crash, hang or fill Python's own unpickler
class Made:
    """Pickled as a call of `function`, with `state` set on what it gives."""

    def __init__(self, function, arguments, state):
        self.reduced = (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def dtype_of(name, *state):
    return Made(np.dtype, (name, False, True), state)


def array_of(dtype, shape, data):
    return Made(np.empty(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, shape, dtype, False, data))


PLAIN = (3, "<", None, None, None, -1, -1, 0)
OBJECTS = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
HOSTILE = {
    "array of objects": pickle.dumps({"data": np.array([None, 1], dtype=object)}, 2),
    "object type by state": pickle.dumps({"data": array_of(dtype_of([("a", "O")], *OBJECTS), (1,), b"A" * 8)}, 2),
    "fields in a plain type": pickle.dumps({"data": array_of(dtype_of("u8", *OBJECTS), (1,), b"A" * 8)}, 2),
    "itemsize in a plain type": pickle.dumps({"data": array_of(dtype_of("u1", *PLAIN[:5], 1 << 40, -1, 0), (1,), b"A")}, 2),
    "array as a target": pickle.dumps(array_of(dtype_of("O", *OBJECTS), (1,), b"A" * 8), 2)[:-1] + b"K\x00(K\x01ts.",
    "texts": pickle.dumps({"data": np.array(["a", "b"])}, 2),
    "records": pickle.dumps({"data": np.zeros(2, "u1,u2")}, 2),
    "negative shape": pickle.dumps({"data": array_of(dtype_of("u1", *PLAIN), (-1, -1), b"A")}, 2),
    "huge shape": pickle.dumps({"data": array_of(dtype_of("u1", *PLAIN), (1 << 62, 4), b"A")}, 2),
    "shape of other things": pickle.dumps({"data": array_of(dtype_of("u1", *PLAIN), (True,), b"A")}, 2),
    "too little data": pickle.dumps({"data": array_of(dtype_of("u4", *PLAIN), (2,), b"A" * 7)}, 2),
    "never built": b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rs.",
    "state of a list": b"\x80\x02](K\x01K\x02tb.",
    "state of a class": b"\x80\x02cnumpy\nndarray\n(K\x01K\x02tb.",
    "call of a list": b"\x80\x02])R.",
    "huge index": b"}p99999999999999\n0.",
    "tuples in each other as a key": b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
    "tuples in each other as a name": b"\x80\x04)" + b"\x85" * 200_000 + b"U\x01a\x93.",
    "tuples in each other as a type": b"\x80\x02cnumpy\ndtype\n)" + b"\x85" * 200_000 + b"\x85R.",
    "numbers as keys": b"\x80\x02}K\x01K\x02s.",
    "an odd number of items": b"\x80\x02}(U\x01au.",
    "mark that is not there": b"\x80\x02}u.",
    "set": b"\x80\x04\x8f.",
    "extension": b"\x80\x02\x82\x01.",
    "object of elsewhere": b"Pabc\n.",
    "bytes that are too many": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b"A.",
    "number that is too large": b"\x80\x02\x8b\xff\xff\xff\x7fA.",
    "frame that is too large": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
    "another encoding": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.",
    "nothing": b"\x80\x02.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_pickles_of_anything_but_arrays_are_refused(tmp_path, content):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a plain pickle of arrays") as caught:
        load_arrays(path)
    assert str(caught.value).isprintable()


def test_the_number_of_an_object_takes_no_memory(tmp_path):
    (tmp_path / "batch").write_bytes(b"\x80\x02}r\xff\xff\xff\x7fX\x01\x00\x00\x00aK\x01s.")
    assert load_arrays(tmp_path / "batch") == {"a": 1}


def test_a_pickle_of_more_steps_than_data_sets_have_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"labels": list(range(1000))}))
    load_arrays(path)
    monkeypatch.setattr("dassl_vr.data.safe_pickle.MAX_STEPS", 500)
    with pytest.raises(DataError, match="too many steps"):
        load_arrays(path)


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.ones(())]
)
@pytest.mark.parametrize("protocol", range(5))
def test_order_of_bytes_and_of_sides_come_back(tmp_path, array, protocol):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"a": array, "again": array}, protocol))
    loaded = load_arrays(path)
    assert np.array_equal(loaded["a"], array) and loaded["a"].dtype == array.dtype and loaded["again"] is loaded["a"]


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "batch")
    with pytest.raises(DataError, match="not a file"):
        load_arrays(tmp_path / "batch")
