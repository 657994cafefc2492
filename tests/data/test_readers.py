import gzip
import os
import struct

import numpy as np
import pytest
from scipy.io import savemat

from dassl_vr.data import readers
from dassl_vr.data.readers import read_idx, read_lines, read_mat
from dassl_vr.utils.errors import DataError


def idx(*shape, data):
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + data


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_idx(tmp_path, name):
    content = idx(2, 3, data=bytes(range(6)))
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.gz" else content)
    assert read_idx(tmp_path / name, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        idx(2, 3, data=bytes(5)),
        idx(2, 3, data=bytes(7)),
        idx(6, data=bytes(6)),
        idx(2**32 - 1, 2**32 - 1, data=bytes(6)),
        idx(2**31, 2**31, data=b""),  # 2**62, beyond 64 bits in bytes of larger types
        idx(2**30, 4, data=b"x"),
    ],
)
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_an_idx_file_of_another_size_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.gz" else content)
    with pytest.raises(DataError, match="not a complete IDX file"):
        read_idx(tmp_path / name, 2)


def test_an_idx_file_is_unpacked_no_further_than_its_header_says(tmp_path, monkeypatch):
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(2, 3, data=bytes(50_000_000)), 1))
    read = gzip.GzipFile.read
    taken = []
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: taken.append(len(block := read(self, size))) or block)
    with pytest.raises(DataError, match="not a complete IDX file"):
        read_idx(tmp_path / "a.gz", 2)
    assert sum(taken) < 100


@pytest.mark.parametrize("compressed", [False, True])
def test_mat(tmp_path, compressed):
    content = {"X": np.arange(6, dtype=np.uint8).reshape(2, 3), "names": np.array(["a", "bc"], dtype=object)}
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    array, names = read_mat(tmp_path / "a.mat", "X", "names")
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]] and names.ravel()[1].item() == "bc"
    with pytest.raises(DataError, match="no variable 'y'"):
        read_mat(tmp_path / "a.mat", "y")


def test_a_mat_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    savemat(tmp_path / "a.mat", {"X": np.zeros(1_000_000, np.uint8)}, do_compression=True)
    read_mat(tmp_path / "a.mat", "X")
    monkeypatch.setattr(readers, "MAX_BYTES", 1_000_000)  # the array alone would fit
    with pytest.raises(DataError, match="unpacks to more"):
        read_mat(tmp_path / "a.mat", "X")


@pytest.mark.parametrize("shape", [(2**30, 1), (-1, 4), (65536, 65536, 65536, 65536)])
@pytest.mark.parametrize("kind", [1, 2, 9])  # cells, records, numbers
def test_a_mat_file_with_an_absurd_shape_is_one_line(tmp_path, shape, kind):
    body = struct.pack("<IIII", 6, 8, kind, 0) + struct.pack(
        f"<II{len(shape)}i", 5, 4 * len(shape), *[side % 2**31 for side in shape]
    )
    body += bytes(-len(body) % 8) + struct.pack("<II8s", 1, 1, b"X") + struct.pack("<II", 2, 0)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<II", 14, len(body)) + body)
    with pytest.raises(DataError, match="not a MATLAB file") as caught:
        read_mat(tmp_path / "a.mat", "X")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"MATLAB", os.urandom(1000), b"\0" * 200])
def test_a_damaged_mat_file_is_one_line(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match="MATLAB file|cannot be read|no variable") as caught:
        read_mat(tmp_path / "a.mat", "X")
    assert str(caught.value).isprintable()


def test_lines_of_any_system(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffä 1\r\n\r\nb 2\n".encode())
    assert read_lines(tmp_path / "a.txt") == ["ä 1", "b 2"]


@pytest.mark.parametrize("read", [lambda path: read_mat(path, "X"), lambda path: read_idx(path, 1), read_lines])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: None])
def test_paths_that_are_not_files_are_one_line(tmp_path, read, make):
    make(tmp_path / "a")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "a")
