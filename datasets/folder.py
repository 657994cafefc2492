"""Any directory of images: one folder a class, or a split file."""

import os
from collections import Counter
from pathlib import Path

from dassl_vr.data.datasets import DATASET_REGISTRY, BenchmarkDataset
from dassl_vr.data.datasets.benchmark import read_class_folders
from dassl_vr.data.datasets.split import SPLIT_NAMES, Splits, read_split
from dassl_vr.utils.errors import DataError

UNEVEN = 3  # times as many training images in the largest class as in the smallest: worth a word
NAMED = 20  # classes in it
TEST_SHARE = 0.3  # of the images, where there are none for testing


@DATASET_REGISTRY.register(name="folder")
class Folder(BenchmarkDataset):
    """`DATASET.ROOT` itself is the directory with the data. One of:

    - `split.json`, or a single `split_*.json`: {"train"|"val"|"test": [[relative path, label, class name], ...]},
      the paths relative to the directory, or to `images/` in it;
    - `train/<class>/*`, with or without `val/<class>/*` and `test/<class>/*`;
    - `<class>/*`.

    Without test images 30 % are set aside, without validation images `DATASET.VAL_PERCENT` of those for training, both
    class by class and by a fixed seed. Labels follow the sorted names of the training folders.
    """

    root_is_data = True
    keeps_shots = False  # in the user's directory a folder would be a class

    def load(self, cfg):
        root = Path(self.dataset_dir)
        if not root.is_dir():
            raise DataError(f"{root} does not exist; name the directory that holds the class folders with --root")
        split_path = self._split_file(root)
        if split_path:
            splits = read_split(split_path, root, root / "images")
        elif self._has_folders(root / "train"):
            train = read_class_folders(root / "train")
            splits = Splits(train, self._read_like(train, root / "val"), self._read_like(train, root / "test"))
        else:
            splits = Splits(read_class_folders(root), [], [])
        return self._complete(splits, cfg.DATASET.VAL_PERCENT)

    def _complete(self, splits, val_share):
        train, val, test = splits
        made = []
        if not test:
            train, test = self.hold_out(train, (TEST_SHARE,))
            made.append(f"{len(test)} test")
        if not val and val_share > 0:
            train, val = self.hold_out(train, (val_share,))
            made.append(f"{len(val)} validation")
        if made:
            self.say(
                f"WARNING: no split for it in {self.dataset_dir}; set {' and '.join(made)} images aside by a fixed "
                f"seed and left {len(train)} for training"
            )
        if not test:
            raise DataError(f"{self.dataset_dir}: too few images to set any aside for testing; add some")
        if line := uneven_classes(train):
            self.say(f"WARNING: {line}")
        return Splits(train, val, test)

    @staticmethod
    def _split_file(root):
        if (root / "split.json").is_file():
            return root / "split.json"
        found = sorted(root.glob("split_*.json"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{root} holds several split files ({names}); keep one, or call the one to use split.json")
        return found[0] if found else None

    @staticmethod
    def _has_folders(path):
        return path.is_dir() and any(entry.is_dir() for entry in os.scandir(path))

    @staticmethod
    def _read_like(train, directory):
        """The images of another split under the labels of the training classes; a class may be absent there."""
        if not directory.is_dir():
            return []
        labels = {item.classname: item.label for item in train}
        items = read_class_folders(directory)
        unknown = sorted({item.classname for item in items} - labels.keys())
        if unknown:
            raise DataError(
                f"{directory} has class folder(s) that {directory.parent / SPLIT_NAMES[0]} lacks: {', '.join(unknown)}"
                "; every class needs training images"
            )
        return [item.relabelled(labels[item.classname]) for item in items]


def uneven_classes(items):
    """A line with the training images of each class where these are uneven, else ""."""
    counts = Counter(item.classname for item in items).most_common()
    largest, smallest = counts[0][1], counts[-1][1]
    if largest < UNEVEN * smallest:
        return ""
    half = NAMED // 2
    shown = counts if len(counts) <= NAMED else [*counts[:half], ("...", "..."), *counts[-half:]]
    told = ", ".join(f"{name} {count}" for name, count in shown)
    return f"classes are uneven, {largest} to {smallest} training images ({told}); look at macro-F1 besides the accuracy"
