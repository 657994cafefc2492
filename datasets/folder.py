"""Any directory of images: one folder per class, or a split file."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from yacs.config import CfgNode

from dassl_vr.data.datasets import DATASET_REGISTRY, BenchmarkDataset, Datum
from dassl_vr.data.datasets.benchmark import read_class_folders
from dassl_vr.data.datasets.names import SPLIT_NAMES, difference, same_name, split_of
from dassl_vr.data.datasets.split import Splits, read_split
from dassl_vr.data.datasets.walk import folders_in, image_files
from dassl_vr.utils.errors import DataError

UNEVEN = 3  # times as many training images in the largest class as in the smallest: worth a word
NAMED = 20  # classes in it
TEST_SHARE = 0.3  # of the images, where there are none for testing
UNSPLIT = "all"


@DATASET_REGISTRY.register(name="folder")
class Folder(BenchmarkDataset):
    """`DATASET.ROOT` itself is the directory with the data. One of:

    - `split.json`, or a single `split_*.json`: {"train"|"val"|"test": [[relative path, label, class name], ...]},
      the paths relative to the directory, or to `images/` in it;
    - `train/<class>/*`, with or without `val/<class>/*` and `test/<class>/*`; also under other names that people give them
      (`Training`, `valid`, `TEST`);
    - `<class>/*`.

    Each may be in a folder of its own in the directory.

    Without test images 30 % are set aside, without validation images `DATASET.VAL_PERCENT` of those for training, both
    class by class and by a fixed seed. Labels follow the sorted names of the training folders.

    With `DATASET.TEST_CLASSES` all images (those for testing, if they are split) are test images, with the labels of these classes;
    if they are of other classes too, with labels of their own.
    """

    root_is_data = True
    keeps_shots = False  # in the user's directory a folder would be a class
    compares_content = True

    def load(self, cfg: CfgNode) -> Splits:
        root = Path(self.dataset_dir)
        if not root.is_dir():
            raise DataError(f"{root} does not exist; name the directory that holds the class folders with --root")
        self._known = list(cfg.DATASET.TEST_CLASSES)
        root = self._unwrapped(root)
        parts = self._read(root)
        if self._known:
            return self._all_for_testing(parts, root)
        if UNSPLIT in parts:
            splits = Splits(parts[UNSPLIT], [], [])
        elif not parts.get("train"):
            raise DataError(
                f"{root} holds {' and '.join(parts) or 'no'} images, but none to train on; expected {root / 'train'}/<class>/*"
            )
        else:
            splits = Splits(*(parts.get(split, []) for split in SPLIT_NAMES))
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

    # ------------------------------------------------------------------------------------------------ what is where
    def _unwrapped(self, root):
        """The directory with the data: `root`, or the only folder in it, if that holds folders in place of images."""
        while not self._split_file(root):
            folders = folders_in(root)
            if len(folders) != 1 or split_of(folders[0].name) or same_name(folders[0].name) in map(same_name, self._known):
                break
            if not folders_in(folders[0]) and not self._split_file(folders[0]):
                break
            root = folders[0]
        if root != Path(self.dataset_dir):
            self.say(f"the data are in {root}")
        return root

    def _read(self, root):
        """{train, val, test: items} of those that are there, or {UNSPLIT: items}."""
        split_path = self._split_file(root)
        if split_path:
            needs = () if self._known else ("train", "test")
            splits = read_split(split_path, root, root / "images", needs=needs)
            return {split: items for split, items in zip(SPLIT_NAMES, splits, strict=True) if items}
        folders = self._split_folders(root)
        if not folders:
            return {UNSPLIT: read_class_folders(root)}
        self._say_what_is_left_out(root, folders.values())
        parts = {split: self._read_part(folder, split) for split, folder in folders.items()}
        if "train" in parts:
            names = {item.label: item.classname for item in parts["train"]}
            for split in parts.keys() - {"train"}:  # a class may be absent there
                parts[split] = _relabelled(parts[split], names, folders[split], f"{folders['train']} lacks")
        return parts

    @staticmethod
    def _split_file(root):
        if (root / "split.json").is_file():
            return root / "split.json"
        found = sorted(root.glob("split_*.json"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{root} holds several split files ({names}); keep one, or call the one to use split.json")
        return found[0] if found else None

    def _split_folders(self, root):
        """{train, val, test: folder} of those that are there, {} if the folders of `root` are classes."""
        found, classes = defaultdict(list), []
        for folder in folders_in(root):
            split = split_of(folder.name)
            (found[split] if split else classes).append(folder)
        if len(found) == 1 and classes and not any(map(folders_in, found["train"])):
            self._check_class_called(*next(iter(found.items())), classes)
            return {}
        for split, folders in found.items():
            if len(folders) > 1:
                folders = {folder.resolve(): folder for folder in reversed(folders) if folders_in(folder) or image_files(folder)}
                found[split] = sorted(folders.values()) or found[split]
            if len(found[split]) > 1:
                names = " and ".join(folder.name for folder in found[split])
                raise DataError(f"{root} holds {names}, both of which stand for '{split}'; keep one, or merge them")
        return {split: found[split][0] for split in SPLIT_NAMES if split in found}

    def _check_class_called(self, split, folders, classes):
        """A folder beside classes is one, even if it is called `train` or `valid`; unless it says otherwise."""
        names = {same_name(folder.name) for folder in classes}
        for folder in folders:
            if any(same_name(inner.name) in names for inner in folders_in(folder)):
                raise DataError(
                    f"{folder.parent} holds class folders ({classes[0].name}, ...) and beside them {folder.name} with folders of"
                    f" the same names; move the class folders for training into {folder.parent / 'train'}"
                )
            self.say(
                f"WARNING: {folder} is taken for a class called '{folder.name}', because it is next to class folders; if it is"
                f" not, move it away, or the other class folders into {folder.parent / 'train'}"
            )

    @staticmethod
    def _read_part(folder, split):
        if not folders_in(folder) and image_files(folder):
            raise DataError(
                f"{folder} holds images of no class; expected one folder per class in it, or, if it is not what is for '{split}',"
                " another name or place"
            )
        return read_class_folders(folder)

    def _say_what_is_left_out(self, root, used):
        others = [folder for folder in folders_in(root) if folder not in used and image_files(folder)]
        if others:
            names, places = (", ".join(folder.name for folder in folders) for folders in (others, used))
            self.say(f"WARNING: left out {names} in {root}, which hold images too, because {places} are there")

    # ------------------------------------------------------------------------------------- images that trained nothing
    def _all_for_testing(self, parts, root):
        self.test_only = True
        items = parts.get("test") or parts.get(UNSPLIT)
        if not items:
            raise DataError(
                f"{root} holds no images for testing, but such for {' and '.join(parts)}; name the directory with the class folders"
                " to test, of these for example, with --root"
            )
        self.say(f"testing on all {len(items)} images of {root}, none is for training")
        found = sorted({item.classname for item in items})
        if unknown := difference(map(same_name, found), [same_name(name) for name in self._known]):
            self.say(f"WARNING: classes that the run was not trained on: {unknown}; testing among the classes of {root} alone")
            self._known = found
        self.test_classes = self._known
        return Splits([], [], _relabelled(items, dict(enumerate(self._known)), root, "the run lacks"))


def _relabelled(items, names, where, lacking):
    """The items under the labels that `names`, {label: class name}, gives to their classes' names.

    Raises:
        DataError: there are other names.
    """
    labels = {same_name(name): label for label, name in names.items()} | {name: label for label, name in names.items()}
    label_of = {item.classname: labels.get(item.classname, labels.get(same_name(item.classname))) for item in items}
    if None in label_of.values():
        unknown = sorted(name for name, label in label_of.items() if label is None)
        raise DataError(
            f"{where} has class folder(s) that {lacking}: {difference(unknown, list(names.values()))}; every class needs"
            " training images"
        )
    return [item.relabelled(label_of[item.classname], names[label_of[item.classname]]) for item in items]


def uneven_classes(items: Iterable[Datum]) -> str:
    """A line with the training images of each class where these are uneven, else ""."""
    counts = Counter(item.classname for item in items).most_common()
    largest, smallest = counts[0][1], counts[-1][1]
    if largest < UNEVEN * smallest:
        return ""
    half = NAMED // 2
    shown = counts if len(counts) <= NAMED else [*counts[:half], ("...", "..."), *counts[-half:]]
    listed = ", ".join(f"{name} {count}" for name, count in shown)
    return f"classes are uneven, {largest} to {smallest} training images ({listed}); look at macro-F1 besides the accuracy"
