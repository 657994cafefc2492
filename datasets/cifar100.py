"""CIFAR-100: small photographs of 100 kinds of objects (Krizhevsky 2009)."""

import os

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, TrainTestDataset
from dassl_vr.data.download import Part, Source
from dassl_vr.data.safe_pickle import load_arrays, load_cifar
from dassl_vr.utils.errors import DataError


@DATASET_REGISTRY.register(aliases=("cifar-100",))
class CIFAR100(TrainTestDataset):
    """`<root>/cifar100/cifar-100-python/{train, test, meta}`; the labels are the fine ones."""

    dataset_dir = "cifar100"
    facts = {"NATIVE_SIZE": 32, "VAL_PERCENT": 0.0}
    official_counts = (50000, 0, 10000)
    parts = (
        Part(
            "cifar-100-python",
            Source(
                "cifar-100-python.tar.gz",
                urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
                md5="eb9058c3a382ffc7106e4002c42a8d85",
                size=169001437,
            ),
        ),
    )

    def read(self, split: str) -> list[Datum]:
        directory = os.path.join(self.dataset_dir, "cifar-100-python")
        meta = os.path.join(directory, "meta")
        names = load_arrays(meta).get("fine_label_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{meta}: not a list of class names; remove its directory and fetch the data set again")
        return self.array_items(*load_cifar([os.path.join(directory, split)], "fine_labels", len(names)), split, names)
