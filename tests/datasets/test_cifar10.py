import os
import pickle

import numpy as np
import pytest

from dassl_vr.utils.errors import DataError

from .miniatures import cifar10


def test_pixels_and_labels(tmp_path, draw, load):
    cifar10(tmp_path, draw)
    dataset = load("cifar-10", tmp_path)
    batch = pickle.loads((tmp_path / "cifar10/cifar-10-batches-py/data_batch_2").read_bytes(), encoding="bytes")
    item = dataset.train_x[23]  # the fourth image of the second batch of 20
    assert item.label == batch[b"labels"][3] and item.classname == "cat" and item.impath == "cifar10/train/00023"
    red_green_blue = batch[b"data"][3].reshape(3, 32, 32)
    image = np.asarray(item.read())
    assert all(np.array_equal(image[:, :, channel], red_green_blue[channel]) for channel in range(3))
    assert type(dataset).facts["NATIVE_SIZE"] == 32


def test_validation_images_on_request(tmp_path, draw, load, capsys):
    cifar10(tmp_path, draw)
    assert load("CIFAR10", tmp_path).val == []
    dataset = load("CIFAR10", tmp_path, "DATASET.VAL_PERCENT", 0.2)
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (80, 20, 20)


@pytest.mark.parametrize(
    "batch",
    [
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
        {b"data": np.zeros((1, 3072)), b"labels": [1]},
        {b"data": [1], b"labels": [1]},
        {b"labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8)},
    ],
)
def test_another_kind_of_batch_is_one_line(tmp_path, draw, load, batch):
    cifar10(tmp_path, draw)
    (tmp_path / "cifar10/cifar-10-batches-py/data_batch_3").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(DataError, match="data_batch_3: not a batch of CIFAR"):
        load("CIFAR10", tmp_path)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("dassl_vr_hostile",)


def test_a_hostile_batch_runs_nothing(tmp_path, draw, load, monkeypatch):
    cifar10(tmp_path, draw)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10/cifar-10-batches-py/test_batch").write_bytes(pickle.dumps({b"data": Hostile()}))
    with pytest.raises(DataError, match="test_batch: not a plain pickle of arrays"):
        load("CIFAR10", tmp_path)
    assert not (tmp_path / "dassl_vr_hostile").exists()
