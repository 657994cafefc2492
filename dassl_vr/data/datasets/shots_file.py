"""Few-shot draws that others have published, read instead of drawn.

The form is that of the 165 draws of 2SFS (Farina et al., CVPR 2025; github.com/FarinaMatteo/rethinking_fewshot_vlms), which lie in
a data set's directory as `split_fewshot/shot_<shots>-seed_<seed>_<train or val>.jsonl`: an image per line,
`{"_impath": "dtd/images/banded/banded_0002.jpg", "_label": 0, "_domain": -1, "_classname": "banded"}`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...utils import kinds
from ...utils.errors import ConfigError, DataError
from .base_dataset import Datum
from .names import look_of
from .split import Splits, relative_path

LARGEST_FILE = 10**8  # bytes
LINE = kinds.record({"_impath": kinds.NAME, "_label": kinds.COUNT, "_classname": kinds.NAME})
REMEDY = "fetch it again, or set DATASET.FEW_SHOT_FILE '' to have the images drawn"


def read_shots(splits: Splits, pattern: str, num_shots: int, seed: int, directory: str) -> Splits:
    """The training and validation images that two files name, each of the split that it is drawn from; tests stay whole.

    A line names an image of the split by the end of its path, whatever the directories in front of it are called.

    Args:
        pattern: path of the files, relative to `directory`, with `{split}` in place of train or val; `{shots}` and `{seed}` stand
            for the numbers.
        directory: the data set's.

    Raises:
        ConfigError: there is no `{split}` in `pattern`, or `num_shots` is below 1.
        DataError: a file cannot be read, has another form, or names other images than `num_shots` of each class (validation:
            min(num_shots, 4)).
    """
    if "{split}" not in pattern:
        raise ConfigError(f"DATASET.FEW_SHOT_FILE is '{pattern}'; it takes a path with {{split}} in it, in place of train and val")
    if num_shots < 1:
        raise ConfigError(
            "DATASET.FEW_SHOT_FILE names a few-shot draw; set DATASET.NUM_SHOTS to the number of its images per class"
        )
    found = []
    for name, items, number in (("train", splits.train, num_shots), ("val", splits.val, min(num_shots, 4))):
        path = pattern.replace("{split}", name).replace("{shots}", str(num_shots)).replace("{seed}", str(seed))
        found.append(_read(Path(directory, path), items, number, directory) if items else [])
    return Splits(*found, splits.test)


def _read(path: Path, items: Sequence[Datum], number: int, directory: str) -> list[Datum]:
    by_name = _by_name(items, directory)
    drawn = []
    for place, line in _lines(path):
        item = _named(line["_impath"], by_name)
        if item is None:
            raise DataError(f"{path}: line {place}: '{line['_impath']}' is no image of the split that is drawn from; {REMEDY}")
        if item.label != line["_label"] or look_of(item.classname) != look_of(line["_classname"]):
            told = f"label {line['_label']} '{line['_classname']}'; the data set has {item.label} '{item.classname}'"
            raise DataError(f"{path}: line {place}: '{line['_impath']}' has {told}; {REMEDY}")
        drawn.append(item)
    there, counts = Counter(item.label for item in items), Counter(item.label for item in drawn)
    for label, available in sorted(there.items()):  # a class of fewer images has all of them, or some of them again
        if counts[label] not in (number, min(number, available)):
            raise DataError(f"{path}: {counts[label]} images of class {label}, expected {number} (DATASET.NUM_SHOTS); {REMEDY}")
    return drawn


def _lines(path):
    """(number, content) of each line that is not empty."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path}: more than {LARGEST_FILE:,} bytes; no few-shot draw is that long; {REMEDY}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; {REMEDY}") from error
    for place, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            problem = LINE(content)
        except (ValueError, RecursionError):
            problem = "not valid JSON"
        if problem:
            raise DataError(f"{path}: line {place}: {problem}; {REMEDY}")
        yield place, content


def _by_name(items, directory):
    """{name of a file: [(parts of its path, item)]}"""
    found = defaultdict(list)
    for item in items:
        parts = PurePosixPath(relative_path(item, directory)).parts
        found[parts[-1]].append((parts, item))
    return found


def _named(path, by_name):
    """The item whose path has the longest end in common with `path`; None if there is none, or more than one."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    same = [(_common_end(parts, others), item) for others, item in by_name.get(parts[-1] if parts else "", ())]
    longest = max((length for length, _ in same), default=0)
    found = [item for length, item in same if length == longest]
    return found[0] if len(found) == 1 else None


def _common_end(parts, others):
    differs = (number for number, (a, b) in enumerate(zip(reversed(parts), reversed(others))) if a != b)
    return next(differs, min(len(parts), len(others)))
