"""The family's `Datum` and `DatasetBase`, and a `Datum` for images that are in memory."""

import copy
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from ...utils.errors import DataError
from ...utils.images import read_image
from .names import printable_name


class Datum:
    """One image with its label. The file is opened by `read`, not before: a missing one is reported then.

    Args:
        impath: path of the image.
        label: class, counted from 0.
        domain: domain, counted from 0.
        classname: the class in words; what cannot be written to a file is escaped.
    """

    in_memory = False
    grey_bits = 0  # see `upright_rgb`

    def __init__(self, impath: str | os.PathLike = "", label: int = 0, domain: int = 0, classname: str = ""):
        self._impath = str(impath)
        self._label = label
        self._domain = domain
        self._classname = printable_name(classname)

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def read(self) -> Image.Image:
        """The image, PIL in RGB. Raises `DataError` naming the file if it cannot be read."""
        return read_image(self._impath, self.grey_bits)

    def relabelled(self, label: int, classname: str | None = None) -> "Datum":
        """The same image under another label, and another class name if one is given."""
        other = copy.copy(self)
        other._label = label
        other._classname = self._classname if classname is None else classname
        return other

    def __repr__(self):
        return f"{type(self).__name__}({self._impath!r}, label={self._label}, classname={self._classname!r})"


class ArrayDatum(Datum):
    """An image that is in memory.

    Args:
        image: uint8 array, (H, W, 3) in RGB or (H, W) in grey.
        impath: a made-up path that identifies the image, such as `digits/train/00012`.

    Raises:
        ValueError: another kind of array.
    """

    in_memory = True

    def __init__(self, image: np.ndarray, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        super().__init__(impath, label, domain, classname)
        if image.dtype != "uint8" or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"{impath}: an image is a uint8 array (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
        self._image = image

    def read(self) -> Image.Image:
        return Image.fromarray(self._image).convert("RGB")


class DatasetBase:
    """Splits of a data set under the family's names.

    Args:
        train_x: labelled training images, a list of `Datum`.
        train_u: unlabelled training images (optional).
        val: validation images (optional).
        test: test images.
        classnames: of all labels, where not every class has an image to train on.

    Raises:
        DataError: there are no training images.
    """

    dataset_dir = ""  # directory of the data set below DATASET.ROOT
    test_only = False  # no image is for training: those for testing stand in, because the family's data sets have some
    domains = []  # names of all domains
    facts = {}  # keys of cfg.DATASET that this data set answers: {"FLIP": False, "NATIVE_SIZE": 32, "BATCH_LIMIT": 64}

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
        classnames: Sequence[str] | None = None,
    ):
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        if not train_x:
            raise DataError(f"data set {type(self).__name__}: there are no training images; check its directory and split")
        if classnames is None:
            self._num_classes = self.get_num_classes(train_x)
            self._lab2cname, self._classnames = self.get_lab2cname(train_x)
        else:
            self._num_classes = len(classnames)
            self._lab2cname, self._classnames = dict(enumerate(classnames)), list(classnames)

    @property
    def train_x(self) -> list[Datum]:
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        """{label: class name}."""
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names in the order of their labels."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """The highest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """({label: class name}, [class names by label])."""
        mapping = {item.label: item.classname for item in data_source}
        mapping = dict(sorted(mapping.items()))
        return mapping, list(mapping.values())


def read_item_image(item: Datum) -> Image.Image:
    """The PIL image of a `Datum`, also of the family's, which cannot read itself."""
    return item.read() if hasattr(item, "read") else read_image(item.impath, getattr(item, "grey_bits", 0))


def group_by(items: Iterable[Datum], attribute: str) -> dict[int | str, list[Datum]]:
    """{value of the attribute: [items]}, values in the order of first appearance."""
    groups = defaultdict(list)
    for item in items:
        groups[getattr(item, attribute)].append(item)
    return groups


def draw_shots(items: Iterable[Datum], num_shots: int, rng: random.Random, repeat: bool = False) -> list[Datum]:
    """`num_shots` images of each class, drawn as the family does, so that equal generators give equal images."""
    chosen = []
    for group in group_by(items, "label").values():
        if len(group) >= num_shots:
            chosen += rng.sample(group, num_shots)
        else:
            chosen += rng.choices(group, k=num_shots) if repeat else group
    return chosen
