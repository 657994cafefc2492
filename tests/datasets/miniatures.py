"""A miniature of each data set's layout on disk: `MINIATURES[name](root, draw)` -> (train, val, test) counts."""

import json
import pickle

import numpy as np

EUROSAT_FOLDERS = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}


def eurosat(root, draw, images=10, with_split=True):
    split = {"train": [], "val": [], "test": []}
    for label, (folder, classname) in enumerate(EUROSAT_FOLDERS.items()):
        for number in range(images):
            relative = f"{folder}/{folder}_{number}.jpg"
            draw(root / "eurosat" / "2750" / relative)
            share = number / images
            split["train" if share < 0.5 else "val" if share < 0.7 else "test"].append([relative, label, classname])
    if with_split:
        (root / "eurosat" / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    return tuple(len(entries) for entries in split.values())


def cifar10(root, draw, images=20):
    directory = root / "cifar10" / "cifar-10-batches-py"
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        batch = {
            b"data": rng.integers(0, 256, (images, 3072), dtype=np.uint8),
            b"labels": [n % 10 for n in range(images)],
            b"batch_label": b"x",
            b"filenames": [b"y"] * images,
        }
        (directory / name).write_bytes(pickle.dumps(batch, protocol=2))
    return 5 * images, 0, images


def folder(root, draw):
    for split, images in (("train", 6), ("val", 5), ("test", 3)):
        for name in ("cat", "dog", "zebra"):
            for number in range(images):
                draw(root / split / name / f"{number}.png")
    return 18, 15, 9


def digits(root, draw):
    return 1079, 179, 539


MINIATURES = {"CIFAR10": cifar10, "EuroSAT": eurosat, "digits": digits, "folder": folder}
