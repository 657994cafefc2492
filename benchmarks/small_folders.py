"""What to expect of a small folder of images: five classes of digits and of Fashion-MNIST, 14 training images of each.

    python benchmarks/small_folders.py --root data [--seeds 1 2 3] [--epochs 8 24] [--jobs 2]

Makes two folders as a user has them, `<class>/*.png` below `train` and `test`, and has `compare` train on them. Each seed draws
other training images. A call that was interrupted continues where it stopped; the table of all runs is printed at the end.
"""

import checkout

# isort: split
import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

from dassl_vr.data import build_dataset
from dassl_vr.data.datasets import read_item_image
from dassl_vr.plugins import load_plugins
from dassl_vr.runs import build_cfg

CLASSES, SHOTS = 5, 14
IMAGES = {"train": 60, "test": 120}  # of a class in a folder; the training images are drawn from the former
SOURCES = {"small_digits": "digits", "small_fashion": "FashionMNIST"}
COMMON = ["TRAIN.END_FIGURES", "False"]
SETTINGS = {"small_digits": ["DATASET.FLIP", "False"], "small_fashion": []}


def make_folder(folder, source, root):
    """Write the images of the first classes of a data set, unless they are there."""
    if folder.is_dir():
        return
    cfg = build_cfg([], {"DATASET.NAME": source, "DATASET.ROOT": root, "DATASET.DOWNLOAD": True, "DATASET.VAL_PERCENT": 0.0})
    dataset = build_dataset(cfg)
    unfinished = folder.with_name(f".{folder.name}")
    for name in dataset.classnames[:CLASSES]:
        items = iter([item for item in (*dataset.train_x, *(dataset.val or ()), *dataset.test) if item.classname == name])
        for split, number in IMAGES.items():
            place = unfinished / split / name.replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            for index, item in enumerate(itertools.islice(items, number)):
                read_item_image(item).save(place / f"{index:03d}.png")
    unfinished.rename(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="directory that holds fashion-mnist, or where to fetch it")
    parser.add_argument("--out", type=Path, default=Path("output/small_folders"), help="for the folders and the runs")
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--trainers", nargs="+", default=["LinearProbe", "SMM", "SMM-best"], help="as for compare.sh")
    parser.add_argument("--recipes", nargs="+", default=["best"], help="as for compare.sh")
    parser.add_argument("--epochs", nargs="+", default=["8", "24"], help="for every trainer, one table each")
    parser.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    parser.add_argument("--jobs", default="1")
    args = parser.parse_args()
    load_plugins()
    environment = {**os.environ, "PYTHONPATH": str(checkout.REPOSITORY)}
    runs = args.out / "runs"
    for folder, source in SOURCES.items():
        make_folder(args.out / folder, source, args.root)
    flags = [
        "--shots",
        str(SHOTS),
        "--seeds",
        *args.seeds,
        "--jobs",
        args.jobs,
        "--output",
        str(runs),
        "--trainers",
        *args.trainers,
    ]
    if args.recipes:
        flags += ["--recipes", *args.recipes]
    for epochs in args.epochs:
        for folder in SOURCES:
            compare = ["-m", "dassl_vr.cli.compare", str(args.out / folder), args.backbone, "--epochs", epochs, *flags]
            subprocess.run([sys.executable, *compare, "--", *COMMON, *SETTINGS[folder]], env=environment, check=False)
    subprocess.run([sys.executable, "-m", "dassl_vr.cli.report", str(runs)], env=environment, check=False)


if __name__ == "__main__":
    main()
