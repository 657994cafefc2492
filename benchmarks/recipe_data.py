"""Data for the recipe study: 60 training images a class, and validation images enough to choose by.

Used as `--plugin benchmarks/recipe_data.py` with `DATASET.NAME StudyDigits` or `StudyFashion`. Test images are the data sets'
own and are not looked at until the recipes are chosen.
"""

import random

from dassl_vr.data import DATASET_REGISTRY, DatasetBase

TRAIN_PER_CLASS = 60


def divide(items, seed, val_per_class=None):
    """`TRAIN_PER_CLASS` images of each class for training; `val_per_class` others (None = all) for validation."""
    train, val, seen = [], [], {}
    items = list(items)
    random.Random(seed).shuffle(items)
    for item in items:
        number = seen[item.label] = seen.get(item.label, 0) + 1
        if number <= TRAIN_PER_CLASS:
            train.append(item)
        elif val_per_class is None or number <= TRAIN_PER_CLASS + val_per_class:
            val.append(item)
    return train, val


def whole(name, cfg):
    """The data set `name` without few-shot selection."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.NAME, cfg.DATASET.VAL_PERCENT = -1, name, 0.0
    return DATASET_REGISTRY.get(name)(cfg)


@DATASET_REGISTRY.register()
class StudyDigits(DatasetBase):
    """Digits: 600 for training, 658 for validation, 539 for testing."""

    facts = DATASET_REGISTRY.get("digits").facts

    def __init__(self, cfg):
        digits = whole("digits", cfg)
        train, val = divide([*digits.train_x, *digits.val], cfg.SEED)
        super().__init__(train_x=train, val=val, test=digits.test)


@DATASET_REGISTRY.register()
class StudyFashion(DatasetBase):
    """Fashion-MNIST: 600 for training, 1,000 for validation, the first 2,000 of the test set for testing."""

    facts = DATASET_REGISTRY.get("FashionMNIST").facts

    def __init__(self, cfg):
        fashion = whole("FashionMNIST", cfg)
        train, val = divide(fashion.train_x, cfg.SEED, val_per_class=100)
        super().__init__(train_x=train, val=val, test=fashion.test[:2000])
