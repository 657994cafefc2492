"""Small folders of images, as somebody's own would be: what to expect of few images (docs/own_data.md).

    python benchmarks/small_folders.py small --root data     # writes small/digits and small/fashion (that from data/fashion-mnist)

Each holds `train/<class>/` with 14 images of each of five classes, `val/<class>/` with 50 and `test/<class>/` with 50 others: real
folders of this size have no such validation and test images, which are here so that the figures mean something.
"""

import argparse
import random
from collections import Counter
from pathlib import Path

from dassl_vr.config import get_cfg_default
from dassl_vr.data import DATASET_REGISTRY
from dassl_vr.plugins import load_plugins

SETS = {"digits": "digits", "fashion": "FashionMNIST"}
CLASSES = 5
COUNTS = {"train": 14, "val": 50, "test": 50}  # a class


def draw(items, counts):
    """{split: items} with `counts` items of each of the first classes, drawn without replacement."""
    items, seen = list(items), Counter()
    random.Random(0).shuffle(items)
    drawn = {split: [] for split in counts}
    for item in items:
        place, start = seen[item.label], 0
        for split, count in counts.items():
            if item.label < CLASSES and start <= place < start + count:
                drawn[split].append(item)
            start += count
        seen[item.label] += 1
    return drawn


def write_folder(name: str, root: str, out: Path) -> None:
    """Write the images of the data set `name` to `out`/<split>/<class>/<number>.png."""
    load_plugins()
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.DATASET.VAL_PERCENT, cfg.SEED = name, root, 0.0, 0
    dataset = DATASET_REGISTRY.get(name)(cfg)
    training = [*dataset.train_x, *(dataset.val or ())]
    parts = draw(training, {split: COUNTS[split] for split in ("train", "val")}) | draw(dataset.test, {"test": COUNTS["test"]})
    for split, items in parts.items():
        for number, item in enumerate(items):
            path = out / split / item.classname / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            item.read().save(path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", default="data", help="directory that holds fashion-mnist")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    args = parser.parse_args(argv)
    for name in args.sets:
        write_folder(SETS[name], args.root, args.out / name)
        print(f"wrote {args.out / name}")


if __name__ == "__main__":
    main()
