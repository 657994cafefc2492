"""Data for the recipe study, few training images and validation images enough to choose by, and heads that lack a part.

Used as `--plugin benchmarks/recipe_data.py` with DATASET.NAME StudyDigits60, StudyFashion14 and the like; the number is that of
training images per class. Validation images are the rest of the training sets (of Fashion-MNIST, 100 per class of it). Test images
are the data sets' own (of Fashion-MNIST the first 2,000); they are not looked at before a recipe is chosen.
"""

import random

from dassl_vr.data import DATASET_REGISTRY, DatasetBase
from dassl_vr.reprogramming import MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings.discriminant import CONFIDENCE, DiscriminantHead

PER_CLASS = (6, 14, 60)


def divide(items, seed, per_class, val_per_class=None):
    """(`per_class` images of each class for training, for validation those after the first 60, `val_per_class` or all of them)."""
    train, val, seen = [], [], {}
    items = list(items)
    random.Random(seed).shuffle(items)
    for item in items:
        number = seen[item.label] = seen.get(item.label, 0) + 1
        if number <= per_class:
            train.append(item)
        elif number > max(PER_CLASS) and (val_per_class is None or number <= max(PER_CLASS) + val_per_class):
            val.append(item)
    return train, val


def whole(name, cfg):
    """The data set `name` without few-shot selection."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.NAME, cfg.DATASET.VAL_PERCENT = -1, name, 0.0
    return DATASET_REGISTRY.get(name)(cfg)


def study(name, source, per_class, val_per_class=None, tested=None):
    """Register the data set `name`: a part of `source`."""

    class Study(DatasetBase):
        facts = DATASET_REGISTRY.get(source).facts

        def __init__(self, cfg):
            data = whole(source, cfg)
            train, val = divide([*data.train_x, *(data.val or [])], cfg.SEED, per_class, val_per_class)
            super().__init__(train_x=train, val=val, test=data.test[:tested])

    Study.__name__ = name
    DATASET_REGISTRY.register(name=name)(Study)


for images in PER_CLASS:
    study(f"StudyDigits{images}", "digits", images)
    study(f"StudyFashion{images}", "FashionMNIST", images, val_per_class=100, tested=2000)


class StartOnly(DiscriminantHead):
    """The head that starts with a discriminant and is trained, no more."""

    def solve(self, features, labels, trained):
        if not trained:
            super().solve(features, labels, trained)


class EndOnly(DiscriminantHead):
    """The head that starts as `head` does and ends in the middle between its weights and a discriminant."""

    def solve(self, features, labels, trained):
        if trained:
            super().solve(features, labels, trained)
        self.started.fill_(True)
        self.computed = True


class SureStart(DiscriminantHead):
    """The head that starts with the discriminant's own confidence."""

    def solve(self, features, labels, trained):
        super().solve(features, labels, trained)
        if not trained:
            self.linear.weight.data.div_(CONFIDENCE)
            self.linear.bias.data.div_(CONFIDENCE)


for name, mapping in {"lda_start": StartOnly, "lda_end": EndOnly, "lda_sure": SureStart}.items():
    MAPPING_REGISTRY.register(name=name)(mapping)
