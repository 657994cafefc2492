"""Splits: reading, making, identifying them, and taking a part of them (few shots, half of the classes)."""

import contextlib
import hashlib
import json
import math
import os
import random
from collections import Counter, defaultdict
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from ...utils.errors import ConfigError, DataError
from ...utils.files import read_json, write_json
from .base_dataset import Datum, draw_shots, group_by

SPLIT_NAMES = ("train", "val", "test")


class Splits(NamedTuple):
    """Three lists of `Datum`."""

    train: list
    val: list
    test: list

    @property
    def counts(self):
        return tuple(len(items) for items in self)


def read_split(path, *image_dirs):
    """The splits in a `split_zhou_*.json` file: {"train"|"val"|"test": [[relative path, label, class name], ...]}.

    Args:
        path: the JSON file; `val` may be left out.
        image_dirs: directories that the paths in it may be relative to; the first that holds the first image is taken.

    Raises:
        DataError: the file has another form, a path leads out of the directory, or images are missing.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"split file {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"split file {path}: not valid JSON ({error}); fetch it again") from error
    if not isinstance(content, dict) or not {"train", "test"} <= content.keys():
        raise DataError(f"split file {path}: expected a dictionary with 'train', 'test' and perhaps 'val'")
    image_dir = _choose_directory(content["train"], image_dirs)
    splits = Splits(*(_read_items(content.get(name) or [], name, path, image_dir) for name in SPLIT_NAMES))
    check_files([item.impath for items in splits for item in items], f"split file {path}")
    return splits


def _choose_directory(entries, directories):
    if len(directories) > 1 and entries:
        for directory in directories:
            try:
                if os.path.isfile(os.path.join(directory, entries[0][0])):
                    return directory
            except (TypeError, IndexError, KeyError):
                break  # reported with its position when the entry is read
    return directories[0]


def _read_items(entries, name, path, image_dir):
    items = []
    for position, entry in enumerate(entries):
        try:
            relative, label, classname = entry
            label = int(label)
        except (TypeError, ValueError):
            raise DataError(
                f"split file {path}: entry {position} of '{name}' is {entry!r}; expected [path, label, class name]"
            ) from None
        relative = PurePosixPath(str(relative))
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"split file {path}: '{relative}' in '{name}' must be a path below {image_dir}")
        items.append(Datum(os.path.join(image_dir, relative), label, 0, str(classname)))
    return items


def check_files(paths, what):
    """Raises `DataError` if one of `paths` does not exist. Each directory is listed once, no file is asked for."""
    listings, missing = {}, []
    for path in paths:
        directory, name = os.path.split(path)
        if directory not in listings:
            try:
                listings[directory] = {entry.name for entry in os.scandir(directory)}
            except OSError:
                listings[directory] = set()
        if name not in listings[directory]:
            missing.append(path)
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{what} names images that do not exist: {missing[0]}{others}; complete the images")


def stratified_split(items, fractions, seed):
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


def select_shots(splits, num_shots, seed, directory=""):
    """The few-shot training and validation images that CoOp's code draws for the same seed; tests stay whole.

    CoOp seeds python's generator, then draws `num_shots` images a class for training and after that min(num_shots, 4)
    for validation. Here the draws come from a generator of their own in the same state, so the global one is not moved.

    Args:
        directory: the data set's; the draw is kept in `split_fewshot/` there as JSON with relative paths, under a name
            that holds the hash of what was drawn from, and read again by the next run. "" = not kept.
    """
    if num_shots < 1:
        return splits
    sources = {"train": {_relative(item, directory): item for item in splits.train}}
    sources["val"] = {_relative(item, directory): item for item in splits.val}
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
            write_json({name: [_relative(item, directory) for item in items] for name, items in names.items()}, cache)
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


def _relative(item, directory):
    """What identifies an image wherever the data set lies."""
    if getattr(item, "in_memory", False):
        return item.impath
    return PurePath(os.path.relpath(item.impath, directory or os.sep)).as_posix()


def subsample_classes(splits, subsample):
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


def check_classes(splits, name):
    """Raises `DataError` unless labels count from 0 without gaps, have one name each, and all occur in training."""
    names = defaultdict(set)
    for items in splits:
        for item in items:
            names[item.label].add(item.classname)
    trained = {item.label for item in splits.train}
    for label in range(max(names, default=-1) + 1):
        if label not in names:
            raise DataError(f"data set {name}: no image has label {label}; labels must count from 0 without gaps")
        if len(names[label]) > 1:
            several = ", ".join(sorted(names[label]))
            raise DataError(f"data set {name}: label {label} has several class names ({several}); give it one")
        if label not in trained:
            raise DataError(f"data set {name}: class '{min(names[label])}' has no training image; add some or remove it")
    if min(names, default=0) < 0:
        raise DataError(f"data set {name}: label {min(names)} is negative; labels must count from 0")


def split_sha256(dataset):
    """A hash of what is trained and tested on: (split, path, label, class name) of each image, in order.

    Paths count from the data set's directory, so the hash is the same wherever that lies.
    """
    digest = hashlib.sha256()
    splits = {"train": dataset.train_x, "train_u": dataset.train_u, "val": dataset.val, "test": dataset.test}
    base = _base_directory(dataset, [item for items in splits.values() for item in items or ()])
    for name, items in splits.items():
        for item in items or ():
            # JSON, so that no two different entries read the same
            digest.update(json.dumps([name, _relative(item, base), item.label, item.classname]).encode())
    return digest.hexdigest()


def _base_directory(dataset, items):
    """The data set's own directory, or, for one that does not tell, the deepest directory common to all images."""
    if Path(dataset.dataset_dir).is_absolute():
        return dataset.dataset_dir
    directories = {os.path.dirname(item.impath) for item in items if not getattr(item, "in_memory", False)}
    return os.path.commonpath([Path(directory).absolute() for directory in directories]) if directories else ""
