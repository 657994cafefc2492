"""Handwritten digits of 8x8 pixels: the data set that comes with scikit-learn, so nothing is downloaded."""

import numpy as np
from yacs.config import CfgNode

from dassl_vr.data.datasets import DATASET_REGISTRY, ArrayDatum, BenchmarkDataset, Datum
from dassl_vr.data.datasets.split import Splits


@DATASET_REGISTRY.register(name="digits")
class Digits(BenchmarkDataset):
    """1,797 grey images, split 60/10/30 by a fixed seed that has nothing to do with SEED."""

    needs_root = False
    facts = {"FLIP": False, "NATIVE_SIZE": 32, "TEMPLATE": "a photo of the digit {}."}  # a mirrored digit is no digit

    def load(self, cfg: CfgNode) -> Splits:
        from sklearn.datasets import load_digits  # here: slow to import, and of no use to other data sets

        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # values are 0 .. 16
        numbered = [
            ArrayDatum(image, f"digits/{number:05d}", int(label), 0, str(label))
            for number, (image, label) in enumerate(zip(images, bunch.target, strict=True))
        ]
        return Splits(*self.hold_out(numbered, (0.1, 0.3)))


def halves(train: list[Datum]) -> tuple[list[Datum], list[Datum]]:
    """Two halves of the training split, by position: the small CLIP was trained on the first and never saw the second."""
    return train[::2], train[1::2]
