"""Splits: reading, making, identifying them, and taking a part of them (few shots, half of the classes)."""

import contextlib
import hashlib
import json
import math
import os
import random
import re
import reprlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from ...utils.errors import ConfigError, DataError
from ...utils.files import read_checked_json, read_json, write_json
from .base_dataset import DatasetBase, Datum, draw_shots, group_by
from .names import SPLIT_NAMES, split_of

BEGINNING = 2**16  # bytes of a file that are compared


class Splits(NamedTuple):
    """Three lists of `Datum`."""

    train: list
    val: list
    test: list

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(len(items) for items in self)


def read_split(path: str | os.PathLike, *image_dirs: str | os.PathLike, needs: Collection[str] = ("train", "test")) -> Splits:
    """The splits in a `split_zhou_*.json` file: {"train"|"val"|"test": [[relative path, label, class name], ...]}.

    Backslashes in paths, and accents in another Unicode form, are read as what exists.

    Args:
        path: the JSON file. What it calls `valid`, `Testing` and so on is taken for what it is.
        image_dirs: directories that the paths in it may be relative to; the first that holds the first image is taken.
        needs: splits that must be there; others are empty if they are not.

    Raises:
        DataError: the file has another form, a path leads out of the directory, or images are missing.
    """
    content = read_checked_json(path, "fetch or write it again", name=f"split file {path}")
    entries = _entries_of(content, path, needs)
    files = _Files()
    image_dir = _choose_directory(entries, image_dirs, files)
    splits = Splits(
        *(
            [_read_item(entry, f"entry {n} of '{name}'", path, image_dir, files) for n, entry in enumerate(entries[name])]
            for name in SPLIT_NAMES
        )
    )
    check_files([item.impath for items in splits for item in items], f"split file {path}", files)
    return splits


def _entries_of(content, path, needs):
    """{train, val, test: list of entries}."""
    keys = defaultdict(list)
    for key in content if isinstance(content, dict) else ():
        keys[split_of(key)].append(key)
    if not isinstance(content, dict) or not keys.keys() >= set(needs) or not keys.keys() - {None}:
        raise DataError(f"split file {path}: expected a dictionary with 'train', 'test' and perhaps 'val'")
    for split in SPLIT_NAMES:
        if len(keys[split]) > 1:
            raise DataError(f"split file {path}: both {' and '.join(map(repr, keys[split]))} stand for '{split}'; keep one")
    entries = {split: content[keys[split][0]] if keys[split] else [] for split in SPLIT_NAMES}
    entries["val"] = [] if entries["val"] is None else entries["val"]
    for split, found in entries.items():
        if not isinstance(found, list):
            raise DataError(f"split file {path}: '{split}' is {_told(found)}; expected a list of [path, label, class name]")
    return entries


def _choose_directory(entries, directories, files):
    first = next((found[0] for found in entries.values() if found), None)
    if len(directories) > 1 and isinstance(first, list) and first and isinstance(first[0], str):
        for directory in directories:
            if files.find(directory, first[0]):
                return directory
    return directories[0]


def _read_item(entry, position, path, image_dir, files):
    where = f"split file {path}: {position}"
    if not isinstance(entry, list) or len(entry) != 3:
        raise DataError(f"{where} is {_told(entry)}; expected [path, label, class name]")
    relative, label, classname = entry
    label = _whole(label)
    if label is None or not isinstance(relative, str) or type(classname) not in (str, int, float) or not str(classname).strip():
        raise DataError(f"{where} is {_told(entry)}; expected [path, label, class name], the label a whole number from 0 on")
    try:
        usable = "\0" not in relative and os.fsencode(relative)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise DataError(f"{where}: {relative!a} cannot be the path of a file; name one below {image_dir}")
    found = files.find(image_dir, relative)
    path_there = PurePosixPath(found or relative.replace("\\", "/"))
    if path_there.is_absolute() or PureWindowsPath(relative).drive or ".." in path_there.parts:
        raise DataError(f"{where}: '{relative}' must be a path below {image_dir}")
    return Datum(os.path.join(image_dir, PurePosixPath(found or relative)), label, 0, str(classname))


def _whole(label):
    """The label as a number, or None: neither `true` nor 1.5 nor anything that no array could hold is one."""
    if isinstance(label, str):
        label = int(label) if re.fullmatch(r"[0-9]{1,18}", label) else None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return label if type(label) is int and 0 <= label < 2**31 else None


def _told(value):
    """What was found in place of something else, cut short, in plain ASCII."""
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()


class _Files:
    """What the directories hold; each is listed once, and no file is asked for."""

    def __init__(self):
        self._names = {}

    def has(self, path):
        directory, name = os.path.split(path)
        if directory not in self._names:
            try:
                with os.scandir(directory) as entries:
                    self._names[directory] = {entry.name for entry in entries if entry.is_symlink() or not entry.is_dir()}
            except OSError:
                self._names[directory] = set()
        return name in self._names[directory]

    def find(self, directory, relative):
        """`relative`, or another spelling of it, whichever is a file in `directory`; None if none is."""
        for separated in dict.fromkeys((relative, relative.replace("\\", "/"))):
            for form in dict.fromkeys((separated, *(unicodedata.normalize(form, separated) for form in ("NFC", "NFD")))):
                with contextlib.suppress(ValueError):  # no path at all
                    if self.has(os.path.join(directory, form)):
                        return form
        return None


def check_files(paths: Iterable[str], what: str, files: _Files | None = None) -> None:
    """Raises `DataError` if one of `paths` does not exist. Each directory is listed once."""
    files = files or _Files()
    missing = [path for path in paths if not files.has(path)]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{what} names images that do not exist: {missing[0]}{others}; complete the images")


def stratified_split(items: Iterable[Datum], fractions: Sequence[float], seed: int) -> list[list[Datum]]:
    """Split `items` class by class.

    The draws depend on the seed and the items' order alone. Every class keeps at least one image for the first part.

    Args:
        fractions: shares of all parts but the first, which takes the rest: (val, test).

    Returns:
        1 + len(fractions) lists, each with the items class by class in the order of first appearance.
    """
    rng = random.Random(seed)
    parts = [[] for _ in range(1 + len(fractions))]
    for group in group_by(items, "label").values():
        total, group = len(group), rng.sample(group, len(group))
        for part in range(len(fractions), 0, -1):
            count = min(math.floor(fractions[part - 1] * total + 0.5), len(group) - 1)
            parts[part] += group[:count]
            del group[:count]
        parts[0] += group
    return parts


def select_shots(splits: Splits, num_shots: int, seed: int, directory: str = "") -> Splits:
    """The few-shot training and validation images that CoOp's code draws for the same seed; tests stay whole.

    CoOp seeds python's generator, then draws `num_shots` images per class for training and after that min(num_shots, 4)
    for validation. Here the draws come from a generator of their own in the same state, so the global one is not moved.

    Args:
        directory: the data set's; the draw is kept in `split_fewshot/` there as JSON with relative paths, under a name
            that holds the hash of what was drawn from, and read again by the next run. "" = not kept.
    """
    if num_shots < 1:
        return splits
    sources = {"train": {relative_path(item, directory): item for item in splits.train}}
    sources["val"] = {relative_path(item, directory): item for item in splits.val}
    cache = None
    if directory and all(len(paths) == len(items) for paths, items in zip(sources.values(), splits)):
        digest = hashlib.sha256()
        for name, items in sources.items():
            for path, item in items.items():
                digest.update(json.dumps([name, path, item.label]).encode())
        cache = Path(directory, "split_fewshot", f"shot_{num_shots}-seed_{seed}-{digest.hexdigest()[:16]}.json")
        cached = _cached_shots(cache, sources, {"train": num_shots, "val": min(num_shots, 4)})
        if cached:
            return Splits(*cached, splits.test)
    rng = random.Random(seed)
    train = draw_shots(splits.train, num_shots, rng)
    val = draw_shots(splits.val, min(num_shots, 4), rng)
    if cache:
        names = {"train": train, "val": val}
        with contextlib.suppress(OSError):  # a directory that may only be read, a full disk: then drawn again next time
            write_json({name: [relative_path(item, directory) for item in items] for name, items in names.items()}, cache)
    return Splits(train, val, splits.test)


def _cached_shots(cache, sources, shots):
    """(training, validation) images as written in `cache`; None if it is absent, damaged, or not `shots` of each class."""
    try:
        content = read_json(cache)
        cached = {name: [items[path] for path in content[name]] for name, items in sources.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for name, items in cached.items():
        there = Counter(item.label for item in sources[name].values())
        expected = {label: min(count, shots[name]) for label, count in there.items()}
        if Counter(item.label for item in items) != expected or len(set(content[name])) != len(items):
            return None
    return list(cached.values())


def relative_path(item: Datum, directory: str) -> str:
    """What identifies an image wherever the data set is."""
    if getattr(item, "in_memory", False):
        return item.impath
    return PurePath(os.path.relpath(item.impath, directory or os.sep)).as_posix()


def subsample_classes(splits: Splits, subsample: str) -> Splits:
    """The images of all classes, of the first half (`base`, rounded up) or of the second (`new`), relabelled from 0.

    Raises:
        ConfigError: another word than all, base or new; or no class is left.
    """
    if subsample == "all":
        return splits
    if subsample not in ("base", "new"):
        raise ConfigError(f"DATASET.SUBSAMPLE_CLASSES is '{subsample}'; it takes one of all, base, new")
    labels = sorted({item.label for item in splits.train})
    half = math.ceil(len(labels) / 2)
    selected = labels[:half] if subsample == "base" else labels[half:]
    if not selected:
        raise ConfigError(f"DATASET.SUBSAMPLE_CLASSES is '{subsample}', which leaves none of {len(labels)} class(es); use all")
    new_label = {label: position for position, label in enumerate(selected)}
    return Splits(*([item.relabelled(new_label[item.label]) for item in items if item.label in new_label] for items in splits))


def split_sha256(dataset: DatasetBase) -> str:
    """A hash of what is trained and tested on: (split, path, label, class name) of each image, in order.

    Paths count from the data set's directory, so the hash is the same wherever that is.
    """
    digest = hashlib.sha256()
    splits = {"train": dataset.train_x, "train_u": dataset.train_u, "val": dataset.val, "test": dataset.test}
    base = _base_directory(dataset, [item for items in splits.values() for item in items or ()])
    for name, items in splits.items():
        for item in items or ():
            # JSON, so that no two different entries read the same
            digest.update(json.dumps([name, relative_path(item, base), item.label, item.classname]).encode())
    return digest.hexdigest()


def same_files(one: DatasetBase, other: DatasetBase) -> bool:
    """Whether the image files of two data sets with the same `split_sha256` are copies, by their sizes and beginnings: two folders
    may use the same names for different images."""
    return all(map(_look_the_same, _all_items(one), _all_items(other)))


def _all_items(dataset):
    return [item for items in (dataset.train_x, dataset.train_u, dataset.val, dataset.test) for item in items or ()]


def _look_the_same(*items):
    if any(getattr(item, "in_memory", False) for item in items):
        return True
    found = []
    for item in items:
        try:
            with open(item.impath, "rb") as file:
                found.append((os.path.getsize(item.impath), file.read(BEGINNING)))
        except OSError:
            return False
    return found[0] == found[1]


def _base_directory(dataset, items):
    """The data set's own directory, or, for one that does not tell, the deepest directory common to all images."""
    if Path(dataset.dataset_dir).is_absolute():
        return dataset.dataset_dir
    directories = {os.path.dirname(item.impath) for item in items if not getattr(item, "in_memory", False)}
    return os.path.commonpath([Path(directory).absolute() for directory in directories]) if directories else ""
