"""SVHN: house numbers photographed from the street, one digit per image (Netzer et al. 2011)."""

import os

import numpy as np

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, TrainTestDataset
from dassl_vr.data.download import Part, Source
from dassl_vr.data.readers import read_mat
from dassl_vr.utils.errors import DataError

CLASSNAMES = tuple("0123456789")
MD5 = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}


@DATASET_REGISTRY.register()
class SVHN(TrainTestDataset):
    """`<root>/svhn/{train_32x32.mat, test_32x32.mat}`; the further images of `extra` are not used."""

    dataset_dir = "svhn"
    # A mirrored digit is no digit, but the published recipes mirror them: FLIP stays True so that numbers compare.
    facts = {"NATIVE_SIZE": 32, "VAL_PERCENT": 0.0, "TEMPLATE": "a photo of the house number {}."}
    official_counts = (73257, 0, 26032)
    parts = tuple(
        Part(
            f"{split}_32x32.mat",
            Source(f"{split}_32x32.mat", urls=(f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat",), md5=md5),
        )
        for split, md5 in MD5.items()
    )

    def read(self, split: str) -> list[Datum]:
        path = os.path.join(self.dataset_dir, f"{split}_32x32.mat")
        images, labels = read_mat(path, "X", "y")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3:
            raise DataError(f"{path}: holds no colour images; remove it and fetch the data set again")
        images = np.ascontiguousarray(images.transpose(3, 0, 1, 2))  # (H, W, 3, N) -> (N, H, W, 3)
        labels = labels.ravel().astype(np.int64)
        labels[labels == 10] = 0  # the files count 1 to 10, where 10 is the digit 0
        return self.array_items(images, labels, split, CLASSNAMES)
