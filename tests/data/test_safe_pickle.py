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
    with pytest.raises(DataError, match=r"no plain pickle of arrays \(it asks for (posix|nt)\.system\)"):
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
