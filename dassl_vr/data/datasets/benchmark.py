"""The base of our own data sets: root, download, few shots and base/new classes in one place."""

import os
from collections.abc import Collection, Sequence

import numpy as np
from yacs.config import CfgNode

from ...home import expand_home
from ...utils.errors import DataError
from ...utils.images import left_out_line
from ..download import prepare
from .base_dataset import ArrayDatum, DatasetBase, Datum
from .checks import check_classes, doubts, too_few
from .shots_file import read_shots
from .split import Splits, read_split, select_shots, stratified_split, subsample_classes
from .walk import folders_in, image_files

# Of splits made by ourselves: fixed, so that every run of every SEED sees the same images in the same split.
SPLIT_SEED = 1


class BenchmarkDataset(DatasetBase):
    """A data set below `cfg.DATASET.ROOT`. Subclasses set the attributes that apply and define `load`.

    Attributes:
        dataset_dir: directory below the root; on an instance, its absolute path.
        name: that of its class.
        parts: what the directory is made of, a tuple of `Part`; absent ones are fetched if `DATASET.DOWNLOAD` is on.
        official_counts: images in (train, val, test) of the split that everybody uses, if there is one.
        needs_root: False for a data set that comes with a library.
        keeps_shots: whether few-shot draws may be written to the directory.
        compares_content: whether copies of images are looked for, where nobody has looked before.

    Raises:
        DataError: the root or a part of the data is missing, with the remedy.
    """

    parts = ()
    official_counts = None
    needs_root = True
    keeps_shots = True
    compares_content = False
    test_classes = ()  # class names by label, of a data set that turned out to be `test_only`

    def __init__(self, cfg: CfgNode):
        self.dataset_dir = str(self._root(cfg) / self.dataset_dir) if self.needs_root else ""
        prepare(self.name, self.parts, self.dataset_dir, download=cfg.DATASET.DOWNLOAD)
        splits = self.load(cfg)
        if not self.test_only:
            check_classes(splits, self.name)
        for line in doubts(splits, self.name, self.compares_content):
            self.say(f"WARNING: {line}")
        if self.test_only:
            super().__init__(train_x=splits.test, test=splits.test, classnames=self.test_classes)
            return
        if line := too_few(splits.train, cfg.DATASET.NUM_SHOTS):
            self.say(f"WARNING: {line}")
        # Few shots before the choice of classes, as in CoOp: `base` and `new` then hold the images of the same draw.
        shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
        if cfg.DATASET.FEW_SHOT_FILE:
            splits = read_shots(splits, cfg.DATASET.FEW_SHOT_FILE, shots, seed, self.dataset_dir)
        else:
            splits = select_shots(splits, shots, seed, self.dataset_dir if self.keeps_shots else "")
        splits = subsample_classes(splits, cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=splits.train, val=splits.val, test=splits.test)

    @property
    def name(self) -> str:
        return type(self).__name__

    def load(self, cfg: CfgNode) -> Splits:
        """All images as `Splits`, before any selection."""
        raise NotImplementedError

    def say(self, message: str) -> None:
        """Print a line that the user should see, below the name of the data set."""
        print(f"{self.name}: {message}")

    def check_counts(self, splits: Splits) -> None:
        """Warn if what should be the official split has other counts than the published ones."""
        if self.official_counts and splits.counts != tuple(self.official_counts):
            self.say(
                f"WARNING: {_slashed(splits.counts)} images for training/validation/test, but the official split has "
                f"{_slashed(self.official_counts)}; results do not compare with published ones"
            )

    def hold_out(self, items: list[Datum], fractions: Sequence[float]) -> list[list[Datum]]:
        """`items` split class by class with the fixed seed; see `stratified_split`."""
        return stratified_split(items, fractions, SPLIT_SEED)

    @staticmethod
    def _root(cfg):
        root = cfg.DATASET.ROOT
        if not root:
            raise DataError("DATASET.ROOT is empty; name the directory that holds the data sets with --root")
        root = expand_home(root).absolute()
        if not root.is_dir() and not cfg.DATASET.DOWNLOAD:
            raise DataError(
                f"data directory {root} does not exist; name the directory that holds the data sets with --root, "
                "or set DATASET.DOWNLOAD True to have it made"
            )
        return root


class ImageSplitDataset(BenchmarkDataset):
    """Image files with a split of the family's form, `split_zhou_*.json`.

    Attributes:
        image_dir: directory below `dataset_dir` that the split's paths are relative to.
        split_file: name of the JSON file in `dataset_dir`. Where it is absent, a split is made by `make_split`.
        folder_names: {folder name: class name}, for a split that is made; other folders keep their names.
        ignored: folders that are no classes.
        fractions: shares of validation and test in a split that is made.
    """

    image_dir = ""
    split_file = ""
    folder_names = {}
    ignored = ()
    fractions = (0.2, 0.3)

    def load(self, cfg: CfgNode) -> Splits:
        image_dir = os.path.join(self.dataset_dir, self.image_dir)
        split_path = os.path.join(self.dataset_dir, self.split_file)
        if os.path.isfile(split_path):
            splits = read_split(split_path, image_dir)
            self.check_counts(splits)
            return splits
        splits = self.make_split(image_dir)
        self.say(
            f"WARNING: {split_path} is missing; made a split of our own ({_slashed(splits.counts)} images) that is NOT "
            "the official one; results do not compare with published ones"
        )
        return splits

    def make_split(self, image_dir: str) -> Splits:
        """`Splits` by the fixed seed, where there is no split file."""
        return Splits(*self.hold_out(self.read_unsplit(image_dir), self.fractions))

    def make_split_of(self, train: list[Datum], test: list[Datum]) -> Splits:
        """As CoOp does for data with a published test list: a fifth of the other images is for validation."""
        return Splits(*self.hold_out(train, (0.2,)), test)

    def read_unsplit(self, image_dir: str) -> list[Datum]:
        """All images as a list of `Datum`, for making a split: one folder per class unless overridden."""
        return read_class_folders(image_dir, self.folder_names, self.ignored)


class TrainTestDataset(BenchmarkDataset):
    """Data that are published as training and test images; all training images are trained on, as published.

    `DATASET.VAL_PERCENT` above 0 sets some of them aside for validation. Subclasses define `read(split)`.
    """

    facts = {"VAL_PERCENT": 0.0}

    def load(self, cfg: CfgNode) -> Splits:
        splits = Splits(self.read("train"), [], self.read("test"))
        self.check_counts(splits)
        if cfg.DATASET.VAL_PERCENT > 0:
            train, val = self.hold_out(splits.train, (cfg.DATASET.VAL_PERCENT,))
            self.say(f"set {len(val)} of {len(splits.train)} training images aside for validation")
            splits = Splits(train, val, splits.test)
        return splits

    def read(self, split: str) -> list[Datum]:
        """The list of `Datum` of `train` or `test`."""
        raise NotImplementedError

    def array_items(self, images: np.ndarray, labels: np.ndarray, split: str, classnames: Sequence[str]) -> list[Datum]:
        """`Datum`s of images in memory.

        Args:
            images: (N, H, W, 3) or (N, H, W) uint8.
            labels: N whole numbers; those outside of `classnames` end in a `DataError`.
        """
        if len(images) != len(labels) or not all(0 <= label < len(classnames) for label in labels):
            raise DataError(f"{self.dataset_dir}: labels of {split} do not fit its images; remove it and fetch the data set again")
        name = type(self).__name__.lower()
        return [
            ArrayDatum(image, f"{name}/{split}/{number:05d}", int(label), 0, classnames[label])
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        ]


def _slashed(counts):
    return "/".join(map(str, counts))


def read_class_folders(
    directory: str | os.PathLike, classnames: dict[str, str] | None = None, ignored: Collection[str] = ()
) -> list[Datum]:
    """The images of a directory with one folder per class; labels follow the folders' sorted names.

    Args:
        classnames: {folder name: class name}; a folder that is not in it gives its own name.
        ignored: names of folders that are left out.

    Raises:
        DataError: there is no folder, or one without any image.
    """
    folders = [path for path in folders_in(directory) if path.name not in ignored]
    if not folders:
        raise DataError(f"{directory} holds no folders; expected one folder of images per class")
    items, others = [], []
    for label, folder in enumerate(folders):
        name = (classnames or {}).get(folder.name, folder.name)
        others_before = len(others)
        paths = image_files(folder, others)
        if not paths:
            found = left_out_line(others[others_before:])
            what = f"no image of a type that is read, but {found}; convert them to JPEG or PNG," if found else "no image; add some"
            raise DataError(f"class folder {folder} holds {what} or remove the folder")
        items += [Datum(path, label, 0, name) for path in paths]
    if others:
        print(f"WARNING: {directory}: left out {left_out_line(others)}, which are no images of a type that is read")
    return items
