"""Data for the recipe study, few training images and validation images enough to choose by, and heads that lack a part.

Used as `--plugin benchmarks/recipe_data.py` with DATASET.NAME StudyDigits, StudyStripes or StudyFashion, or with
StudyDigitsNoise, StudyDigitsHidden, StudyFashionNoise or StudyFashionHidden, whose images are all corrupted. DATASET.NUM_SHOTS
is the number of training images of each class. The seed draws them from the same 60 per class; with more than 60, they are the
first ones. Validation images are the rest of the training sets (of Fashion-MNIST 100 per class), test images the data sets' own
(of Fashion-MNIST the first 2,000).
"""

import random
import zlib

import numpy as np
from PIL import Image

from dassl_vr.data import DATASET_REGISTRY, DatasetBase
from dassl_vr.data.datasets import ArrayDatum
from dassl_vr.reprogramming import MAPPING_REGISTRY
from dassl_vr.reprogramming.mappings.discriminant import CONFIDENCE, DiscriminantHead, TextDiscriminantHead

DRAWN_FROM = 60  # images of each class
SIDE, NOISE, HIDDEN = 64, 80, 28  # of corrupted images in pixels, standard deviation of the noise of 255, side of the square


def divide(items, shots, seed, val_per_class=None):
    """(`shots` images of each class for training, `val_per_class` or all of the others for validation)."""
    classes = {}
    items = list(items)
    random.Random(0).shuffle(items)
    for item in items:
        classes.setdefault(item.label, []).append(item)
    draw, first = random.Random(seed), max(DRAWN_FROM, shots)
    train = [item for _, members in sorted(classes.items()) for item in draw.sample(members[:first], shots)]
    last = None if val_per_class is None else first + val_per_class
    return train, [item for _, members in sorted(classes.items()) for item in members[first:last]]


def whole(name, cfg):
    """The data set `name` without few-shot selection."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.NAME, cfg.DATASET.VAL_PERCENT = -1, name, 0.0
    return DATASET_REGISTRY.get(name)(cfg)


@DATASET_REGISTRY.register()
class StudyDigits(DatasetBase):
    """Digits: 658 images for validation, 539 for testing."""

    of = "digits"
    facts = DATASET_REGISTRY.get(of).facts

    def __init__(self, cfg):
        digits = whole(self.of, cfg)
        train, val = divide([*digits.train_x, *digits.val], cfg.DATASET.NUM_SHOTS, cfg.SEED)
        super().__init__(train_x=train, val=val, test=digits.test)


@DATASET_REGISTRY.register()
class StudyStripes(StudyDigits):
    """The digits behind stripes: images for validation are too few to choose by, 539 for testing."""

    of = "digits_stripes"


@DATASET_REGISTRY.register()
class StudyFashion(DatasetBase):
    """Fashion-MNIST: 1,000 images for validation, 2,000 for testing."""

    facts = DATASET_REGISTRY.get("FashionMNIST").facts

    def __init__(self, cfg):
        fashion = whole("FashionMNIST", cfg)
        train, val = divide(fashion.train_x, cfg.DATASET.NUM_SHOTS, cfg.SEED, val_per_class=100)
        super().__init__(train_x=train, val=val, test=fashion.test[:2000])


def noise(image, rng):
    """Gaussian noise on each pixel."""
    return (image + rng.normal(0, NOISE, image.shape)).clip(0, 255).astype(np.uint8)


def hidden(image, rng):
    """A grey square somewhere."""
    top, left = rng.integers(0, SIDE - HIDDEN + 1, size=2)
    image[top : top + HIDDEN, left : left + HIDDEN] = 128
    return image


def corrupted(item, corrupt):
    """The image of `item` enlarged and corrupted, always in the same way."""
    image = np.array(item.read().convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    rng = np.random.default_rng(zlib.crc32(item.impath.encode()))
    return ArrayDatum(corrupt(image, rng), f"corrupted/{item.impath}", item.label, item.domain, item.classname)


def with_corrupted_images(study, corrupt):
    """The data set `study` with all images corrupted."""

    class Corrupted(study):
        facts = {**study.facts, "NATIVE_SIZE": SIDE}

        def __init__(self, cfg):
            super().__init__(cfg)
            parts = {name: [corrupted(item, corrupt) for item in getattr(self, name)] for name in ("train_x", "val", "test")}
            DatasetBase.__init__(self, **parts)

    return Corrupted


for study in (StudyDigits, StudyFashion):
    for corrupt in (noise, hidden):
        DATASET_REGISTRY.register(name=f"{study.__name__}{corrupt.__name__.title()}")(with_corrupted_images(study, corrupt))


def without_a_part(head):
    """{ending of the name: what `head` is without a part}"""

    class StartOnly(head):
        """Starts with a discriminant and is trained, no more."""

        def solve(self, features, labels, trained):
            if not trained:
                super().solve(features, labels, trained)

    class EndOnly(head):
        """Starts as `head` does and ends in the middle between its weights and a discriminant."""

        def solve(self, features, labels, trained):
            if trained:
                super().solve(features, labels, trained)
            self.started.fill_(True)
            self.computed = True

    class SureStart(head):
        """Starts with the discriminant's own confidence."""

        def solve(self, features, labels, trained):
            super().solve(features, labels, trained)
            if not trained:
                self.linear.weight.data.div_(CONFIDENCE)
                self.linear.bias.data.div_(CONFIDENCE)

    return {"start": StartOnly, "end": EndOnly, "sure": SureStart}


for name, head in (("lda", DiscriminantHead), ("lda_text", TextDiscriminantHead)):
    for ending, mapping in without_a_part(head).items():
        MAPPING_REGISTRY.register(name=f"{name}_{ending}")(mapping)
