"""Fashion-MNIST: small grey pictures of 10 kinds of clothes (Xiao et al. 2017)."""

import os

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, TrainTestDataset
from dassl_vr.data.download import Part, Source
from dassl_vr.data.readers import read_idx

CLASSNAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PREFIX = {"train": "train", "test": "t10k"}
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


@DATASET_REGISTRY.register(aliases=("fashion-mnist", "fashion_mnist", "fmnist"))
class FashionMNIST(TrainTestDataset):
    """`<root>/fashion-mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`.

    Debian has them as a package: `apt install dataset-fashion-mnist`, then `--root /usr/share/datasets`.
    """

    dataset_dir = "fashion-mnist"
    facts = {"NATIVE_SIZE": 32, "VAL_PERCENT": 0.0, "TEMPLATE": "a photo of a {}, a piece of clothing."}
    official_counts = (60000, 0, 10000)
    parts = tuple(
        Part(name, Source(name, urls=(f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",), md5=md5))
        for name, md5 in MD5.items()
    )

    def read(self, split: str) -> list[Datum]:
        prefix = os.path.join(self.dataset_dir, PREFIX[split])
        images, labels = read_idx(f"{prefix}-images-idx3-ubyte.gz", 3), read_idx(f"{prefix}-labels-idx1-ubyte.gz", 1)
        return self.array_items(images, labels, split, CLASSNAMES)
