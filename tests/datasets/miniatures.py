"""A miniature of each data set's layout on disk: `MINIATURES[name](root, draw)` -> (train, val, test) counts."""

import gzip
import json
import pickle
import struct

import numpy as np
from scipy.io import savemat

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


def digits_stripes(root, draw):
    return 539, 179, 539


def cifar100(root, draw, images=5):
    directory = root / "cifar100" / "cifar-100-python"
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 100 * images), ("test", 100)):
        labels = [n % 100 for n in range(count)]
        batch = {
            b"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            b"fine_labels": labels,
            b"coarse_labels": [label // 5 for label in labels],
        }
        (directory / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = [f"thing {n}" for n in range(100)]
    (directory / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))
    return 100 * images, 0, 100


def svhn(root, draw):
    (root / "svhn").mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 10 + 1  # 10 is the digit 0
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(root / "svhn" / f"{split}_32x32.mat", {"X": images, "y": labels[:, None].astype(np.uint8)})
    return 40, 0, 20


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def fashion_mnist(root, draw):
    (root / "fashion-mnist").mkdir()
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(root / "fashion-mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(root / "fashion-mnist" / f"{prefix}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return 40, 0, 20


def gtsrb(root, draw):
    top = root / "gtsrb" / "gtsrb"
    answers = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for label in range(43):
        for number in range(3):
            draw(top / f"GTSRB/Training/{label:05d}/00000_{number:05d}.ppm")
        (top / f"GTSRB/Training/{label:05d}/GT-{label:05d}.csv").write_text("Filename;ClassId\n")
        draw(top / f"GTSRB/Final_Test/Images/{label:05d}.ppm")
        answers.append(f"{label:05d}.ppm;12;10;1;1;9;9;{label}")
    (top / "GT-final_test.csv").write_text("\n".join(answers) + "\n")
    return 129, 0, 43


def with_split(directory, draw, image_dir, split_file, classes, path, images=10):
    """Image files and their split, half for training and a fifth for validation.

    Args:
        classes: class names by label.
        path: `path(label, number)`, relative to `image_dir`.
    """
    split = {"train": [], "val": [], "test": []}
    for label, classname in enumerate(classes):
        for number in range(images):
            part = "train" if number < images * 0.5 else "val" if number < images * 0.7 else "test"
            split[part].append([path(label, number, part), label, classname])
            draw(directory / image_dir / split[part][-1][0])
    (directory / split_file).write_text(json.dumps(split))
    return tuple(len(entries) for entries in split.values())


def in_folders(directory, image_dir, split_file, folders, classes=None, name="{number:04d}.jpg"):
    """A miniature with one folder of images per class."""

    def make(root, draw):
        return with_split(
            root / directory, draw, image_dir, split_file, classes or folders,
            lambda label, number, part: f"{folders[label]}/{name.format(number=number, folder=folders[label])}",
        )  # fmt: skip

    return make


def caltech101(root, draw):
    for folder in ("BACKGROUND_Google", "Faces_easy"):
        draw(root / "caltech-101" / "101_ObjectCategories" / folder / "image_0001.jpg")
    make = in_folders(
        "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json",
        ("Faces", "Leopards", "airplanes", "wrench"), ("face", "leopard", "airplane", "wrench"),
    )  # fmt: skip
    return make(root, draw)


def ucf101(root, draw):
    def path(label, number, part):
        action = ("ApplyEyeMakeup", "Archery", "YoYo")[label]
        group = number - 6 if part == "test" else number + 8
        return f"{('Apply_Eye_Makeup', 'Archery', 'Yo_Yo')[label]}/v_{action}_g{group:02d}_c01.jpg"

    names = ("Apply_Eye_Makeup", "Archery", "Yo_Yo")
    counts = with_split(root / "ucf101", draw, "UCF-101-midframes", "split_zhou_UCF101.json", names, path)
    for label in range(3):  # clips of the groups that the publishers test on
        for group in (6, 7):
            draw(root / "ucf101" / "UCF-101-midframes" / path(label, group + 6, "test"))
    return counts


def oxford_flowers(root, draw):
    def path(label, number, part):
        return f"image_{label * 10 + number + 1:05d}.jpg"

    names = ("pink primrose", "hard-leaved pocket orchid", "bolero deep blue")
    directory = root / "oxford_flowers"
    counts = with_split(directory, draw, "jpg", "split_zhou_OxfordFlowers.json", names, path)
    savemat(directory / "imagelabels.mat", {"labels": np.repeat([1, 2, 3], 10)[None].astype(np.uint8)})
    (directory / "cat_to_name.json").write_text(json.dumps({str(n + 1): name for n, name in enumerate(names)}))
    return counts


def oxford_pets(root, draw):
    breeds = ("Abyssinian", "american_bulldog", "Egyptian_Mau")
    directory = root / "oxford_pets"

    def path(label, number, part):
        return f"{breeds[label]}_{number + 1}.jpg"

    counts = with_split(
        directory, draw, "images", "split_zhou_OxfordPets.json", [breed.lower() for breed in breeds], path
    )  # fmt: skip
    (directory / "annotations").mkdir()
    for filename, numbers in (("trainval.txt", range(1, 8)), ("test.txt", range(8, 11))):
        lines = [f"{breed}_{number} {label} 1 1" for label, breed in enumerate(breeds, start=1) for number in numbers]
        (directory / "annotations" / filename).write_text("\n".join(lines) + "\n")
    return counts


def stanford_cars(root, draw):
    names = ("AM General Hummer SUV 2000", "Audi TT RS Coupe 2012", "smart fortwo Convertible 2012")
    directory = root / "stanford_cars"

    def path(label, number, part):
        folder = "cars_test" if part == "test" else "cars_train"
        return f"{folder}/{label * 10 + number + 1:05d}.jpg"

    shown = [" ".join([name.split()[-1], *name.split()[:-1]]) for name in names]
    counts = with_split(directory, draw, "", "split_zhou_StanfordCars.json", shown, path)
    (directory / "devkit").mkdir()
    fields = [("class", object), ("fname", object)]
    annotations = {"cars_train": [], "cars_test": []}
    for entries in json.loads((directory / "split_zhou_StanfordCars.json").read_text()).values():
        for relative, label, _ in entries:
            folder, _, name = relative.partition("/")
            annotations[folder].append((label + 1, name))
    for folder, target in (
        ("cars_train", "devkit/cars_train_annos.mat"),
        ("cars_test", "cars_test_annos_withlabels.mat"),
    ):
        savemat(directory / target, {"annotations": np.array(annotations[folder], dtype=fields)[None]})
    savemat(directory / "devkit" / "cars_meta.mat", {"class_names": np.array(names, dtype=object)[None]})
    return counts


def fgvc_aircraft(root, draw):
    directory, number = root / "fgvc_aircraft", 0
    names = ("707-320", "A310", "F/A-18", "Spitfire")
    (directory / "images").mkdir(parents=True)
    (directory / "variants.txt").write_text("\n".join(names) + "\n")
    for split, images in (("train", 4), ("val", 3), ("test", 2)):
        lines = []
        for name in names:
            for _ in range(images):
                number += 1
                draw(directory / "images" / f"{number:07d}.jpg")
                lines.append(f"{number:07d} {name}")
        (directory / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    return 16, 12, 8


def resisc45(root, draw):
    directory, names = root / "resisc45", ("airplane", "baseball_diamond", "wetland")
    for split, numbers in (("train", range(1, 7)), ("val", range(7, 10)), ("test", range(10, 12))):
        lines = [f"{name}_{number:03d}.jpg" for name in names for number in numbers]
        for line in lines:
            draw(directory / "NWPU-RESISC45" / line.rpartition("_")[0] / line)
        (directory / f"resisc45-{split}.txt").write_text("\n".join(lines) + "\n")
    return 18, 9, 6


IMAGENET_NAMES = {"n01440764": "tench", "n01443537": "goldfish", "n02129604": "tiger", "n03063599": "coffee mug"}


def write_classnames(directory):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "classnames.txt").write_text("".join(f"{folder} {name}\n" for folder, name in IMAGENET_NAMES.items()))


def imagenet(root, draw):
    for split, images in (("train", 5), ("val", 3)):
        for folder in IMAGENET_NAMES:
            for number in range(images):
                draw(root / "imagenet" / "images" / split / folder / f"{folder}_{number}.jpeg")
    write_classnames(root / "imagenet")
    return 20, 0, 12


def imagenet_test_set(directory, image_dir, folders, names_in):
    def make(root, draw):
        for folder in folders:
            for number in range(3):
                draw(root / directory / image_dir / folder / f"{number}.jpg")
        write_classnames(root / names_in)
        return 3 * len(folders), 0, 3 * len(folders)

    return make


TEST_SETS = {
    "ImageNetV2": imagenet_test_set("imagenetv2", "imagenetv2-matched-frequency-format-val", "0123", "imagenetv2"),
    "ImageNetSketch": imagenet_test_set("imagenet-sketch", "images", list(IMAGENET_NAMES), "imagenet-sketch"),
    # 200 of the 1,000 classes; the names may lie with ImageNet
    "ImageNetA": imagenet_test_set("imagenet-adversarial", "imagenet-a", ("n01443537", "n03063599"), "imagenet"),
    "ImageNetR": imagenet_test_set("imagenet-rendition", "imagenet-r", ("n01440764", "n02129604"), "imagenet"),
}

MINIATURES = {
    "CIFAR10": cifar10,
    "CIFAR100": cifar100,
    "Caltech101": caltech101,
    "DescribableTextures": in_folders(
        "dtd", "images", "split_zhou_DescribableTextures.json", ("banded", "blotchy", "zigzagged"), name="{folder}_{number:04d}.jpg"
    ),
    "EuroSAT": eurosat,
    "FGVCAircraft": fgvc_aircraft,
    "FashionMNIST": fashion_mnist,
    "Food101": in_folders("food-101", "images", "split_zhou_Food101.json", ("apple_pie", "tiramisu", "waffles")),
    "GTSRB": gtsrb,
    "ImageNet": imagenet,
    "OxfordFlowers": oxford_flowers,
    "OxfordPets": oxford_pets,
    "RESISC45": resisc45,
    "SUN397": in_folders(
        "sun397", "SUN397", "split_zhou_SUN397.json", ("a/abbey", "t/track/indoor", "t/track/outdoor"),
        ("abbey", "indoor track", "outdoor track"), name="sun_{number}.jpg",
    ),
    "SVHN": svhn,
    "StanfordCars": stanford_cars,
    "UCF101": ucf101,
    "digits": digits,
    "digits_stripes": digits_stripes,
    "folder": folder,
    **TEST_SETS,
}  # fmt: skip

WITHOUT_ROOT = {"digits", "digits_stripes"}
