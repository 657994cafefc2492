"""What must be true of the splits of a data set, and what its user should know."""

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable

from ...utils.errors import DataError
from .base_dataset import Datum
from .names import SPLIT_NAMES, look_of, shown
from .split import Splits
from .walk import real_paths

WORDS = dict(zip(SPLIT_NAMES, ("training", "validation", "test"), strict=True))
COMPARED = 50_000  # images whose bytes are compared at most: sizes are asked for one by one, which takes a second locally
TAIL = 4096  # bytes at the end of a file, which differ more than those at its beginning
NAMED = 3  # pairs in a message


def check_classes(splits: Splits, name: str) -> None:
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
            several = ", ".join(map(shown, sorted(names[label])))
            raise DataError(f"data set {name}: label {label} has several class names ({several}); give it one")
        if label not in trained:
            raise DataError(f"data set {name}: class '{min(names[label])}' has no training image; add some or remove it")
    if min(names, default=0) < 0:
        raise DataError(f"data set {name}: label {min(names)} is negative; labels must count from 0")


def doubts(splits: Splits, name: str, compare_content: bool = False) -> list[str]:
    """Lines about what makes results worth less than they look: names that look alike, images in two splits.

    Args:
        compare_content: look for copies of images too, by their bytes, where there are at most `COMPARED`.

    Raises:
        DataError: the same file has two labels.
    """
    lines = _names_alike(splits)
    if splits.train is splits.test:
        return lines  # a data set for testing only
    named = [
        (split, item)
        for split, items in zip(SPLIT_NAMES, splits, strict=True)
        for item in items
        if not getattr(item, "in_memory", False)
    ]
    paths = real_paths([item.impath for _, item in named])
    same_file = _Doubles(named, paths)
    for one, other in same_file.contradictions:
        raise DataError(
            f"data set {name}: {one.impath} is in two classes, {shown(one.classname)} (label {one.label}) and"
            f" {shown(other.classname)} (label {other.label}{_as(other, one)}); leave it in one"
        )
    lines += same_file.lines(splits, "{of} images too, such as {1}", "are named more than once, such as {1}")
    if compare_content and len(named) <= COMPARED:
        copies = _Doubles(named, _contents(paths))
        lines += copies.lines(splits, "copies of {of} images, byte for byte, such as {1} of {0}")
        if copies.contradictions:
            one, other = copies.contradictions[0]
            lines.append(
                f"{len(copies.contradictions)} image(s) are in two classes, as copies with the same bytes, such as {one.impath} and"
                f" {other.impath}; leave each in one"
            )
    return lines


def too_few(items: Iterable[Datum], num_shots: int) -> str:
    """A line if some classes have fewer training images than shots are asked for, else ""."""
    counts = Counter((item.label, item.classname) for item in items)
    short = [name for name in counts if counts[name] < num_shots]
    if not short:
        return ""
    least = min(short, key=counts.get)
    return (
        f"DATASET.NUM_SHOTS is {num_shots}, but {len(short)} of {len(counts)} classes have fewer training images"
        f" ({shown(least[1])}: {counts[least]}); of these all are taken"
    )


def _as(other, one):
    return f" as {other.impath}" if other.impath != one.impath else ""


class _Doubles:
    """The images that have the same key (not None) as one named before.

    Args:
        named: [(name of the split, item)].
        keys: one for each of these.

    Attributes:
        contradictions: [(item, item)] with different labels.
    """

    def __init__(self, named, keys):
        self.contradictions = []
        self._shared = defaultdict(list)  # (earlier split, split) -> [(item, item)]
        first = {}
        for (split, item), key in zip(named, keys, strict=True):
            if key is not None and key not in first:
                first[key] = split, item
            elif key is not None:
                earlier, one = first[key]
                if one.label != item.label:
                    self.contradictions.append((one, item))
                self._shared[earlier, split].append((one, item))

    def lines(self, splits, across, within=""):
        """A line for each two splits that share images, and, if there are words for it, for each that has some twice."""
        lines = []
        for (earlier, split), pairs in self._shared.items():
            paths = [item.impath for item in pairs[0]]
            if earlier != split:
                what = across.format(*paths, of=WORDS[earlier])
                lines.append(
                    f"{len(pairs)} of {len(getattr(splits, split))} {WORDS[split]} images are {what}; what is measured on them"
                    " says nothing of new images; leave each in one split"
                )
            elif within:
                lines.append(f"{len(pairs)} {WORDS[split]} image(s) {within.format(*paths)}")
        return lines


def _contents(paths):
    """For each path what identifies its bytes if another path has the same, else None. Reads only files of equal size."""
    keys = dict.fromkeys(paths)
    for same_size in _groups(keys, _size):
        for same_tail in _groups(same_size, _tail):
            for number, same in enumerate(_groups(same_tail, _digest)):
                keys.update(dict.fromkeys(same, (same[0], number)))
    return [keys[path] for path in paths]


def _groups(paths, key_of):
    """Lists of two paths or more for which `key_of` gives the same; what cannot be read is left out."""
    groups = defaultdict(list)
    for path in paths:
        try:
            key = key_of(path)
        except (OSError, ValueError):
            continue
        if key:
            groups[key].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _size(path):
    status = os.stat(path)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _tail(path):
    with open(path, "rb") as file:
        file.seek(-min(TAIL, os.path.getsize(path)), os.SEEK_END)
        return file.read()


def _digest(path):
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _names_alike(splits):
    groups = defaultdict(dict)
    for items in splits:
        for item in items:
            groups[item.classname][item.label] = item.classname
    looks = defaultdict(dict)
    for classname, labels in groups.items():
        looks[look_of(classname)].update(labels)
    alike = [names for names in looks.values() if len(names) > 1]
    if not alike:
        return []
    named = [" and ".join(f"{label} {shown(name)}" for label, name in sorted(names.items())[:NAMED]) for names in alike[:NAMED]]
    more = f" and {len(alike) - len(named)} more" if len(alike) > len(named) else ""
    return [f"classes have names that are equal or look alike ({'; '.join(named)}{more}); if they are one class, give it one label"]
