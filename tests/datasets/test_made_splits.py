"""Without the split of the family one is made, and called not the official one."""

import os

import pytest

from dassl_vr.data.datasets import DATASET_REGISTRY, ImageSplitDataset
from dassl_vr.utils.errors import DataError

from .miniatures import MINIATURES

WITH_SPLIT_FILE = [
    "Caltech101",
    "DescribableTextures",
    "EuroSAT",
    "Food101",
    "OxfordFlowers",
    "OxfordPets",
    "SUN397",
    "StanfordCars",
    "UCF101",
]


def test_every_data_set_with_a_split_file_is_listed(plugins):
    classes = [DATASET_REGISTRY.get(name) for name in MINIATURES]
    assert {cls.__name__ for cls in classes if issubclass(cls, ImageSplitDataset)} == {*WITH_SPLIT_FILE, "RESISC45"}


def paths_of(dataset):
    return [{item.impath for item in items} for items in (dataset.train_x, dataset.val, dataset.test)]


@pytest.mark.parametrize("family_set", WITH_SPLIT_FILE)
def test_a_split_is_made_of_all_images_with_the_same_classes(family_set, tmp_path, draw, load, capsys):
    MINIATURES[family_set](tmp_path, draw)
    official = load(family_set, tmp_path)
    assert "official split has" in capsys.readouterr().out  # a miniature has other counts
    cls = DATASET_REGISTRY.get(family_set)
    split_file = tmp_path / cls.dataset_dir / cls.split_file
    split_file.unlink()
    made = load(family_set, tmp_path)
    assert "NOT the official one" in capsys.readouterr().out and not split_file.exists()
    assert made.classnames == official.classnames
    train, val, test = paths_of(made)
    assert train and test and not (train & val or train & test or val & test)
    assert set().union(*paths_of(official)) <= train | val | test
    labels = {item.impath: item.label for items in (official.train_x, official.val, official.test) for item in items}
    assert all(labels.get(item.impath, item.label) == item.label for item in made.train_x)
    assert paths_of(load(family_set, tmp_path, "SEED", 5)) == [train, val, test]


def test_published_test_lists_are_kept(tmp_path, draw, load):
    for name, test_names in (("OxfordPets", ("_8.", "_9.", "_10.")), ("UCF101", ("_g01_", "_g02_", "_g03_", "_g06_", "_g07_"))):
        MINIATURES[name](tmp_path, draw)
        cls = DATASET_REGISTRY.get(name)
        (tmp_path / cls.dataset_dir / cls.split_file).unlink()
        train, val, test = paths_of(load(name, tmp_path))
        assert test and all(any(mark in path for mark in test_names) for path in test)
        assert val and not any(any(mark in path for mark in test_names) for path in train | val)


@pytest.mark.parametrize(
    "name, file",
    [
        ("OxfordPets", "oxford_pets/annotations/test.txt"),
        ("OxfordFlowers", "oxford_flowers/imagelabels.mat"),
        ("OxfordFlowers", "oxford_flowers/cat_to_name.json"),
        ("StanfordCars", "stanford_cars/devkit/cars_meta.mat"),
        ("StanfordCars", "stanford_cars/cars_test_annos_withlabels.mat"),
        ("SVHN", "svhn/train_32x32.mat"),
        ("GTSRB", "gtsrb/gtsrb/GT-final_test.csv"),
        ("FGVCAircraft", "fgvc_aircraft/images_variant_val.txt"),
        ("FGVCAircraft", "fgvc_aircraft/variants.txt"),
        ("FashionMNIST", "fashion-mnist/t10k-labels-idx1-ubyte.gz"),
        ("FashionMNIST", "fashion-mnist/train-images-idx3-ubyte.gz"),
        ("CIFAR100", "cifar100/cifar-100-python/meta"),
        ("RESISC45", "resisc45/resisc45-val.txt"),
    ],
)
@pytest.mark.parametrize("damage", ["nonsense", "cut"])
def test_a_damaged_list_is_one_line_that_names_it(tmp_path, draw, load, name, file, damage):
    MINIATURES[name](tmp_path, draw)
    cls = DATASET_REGISTRY.get(name)
    if getattr(cls, "split_file", "") and name != "RESISC45":
        (tmp_path / cls.dataset_dir / cls.split_file).unlink()
    path = tmp_path / file
    whole = path.read_bytes()
    path.write_bytes(b"\0\xff nonsense" if damage == "nonsense" else whole[: len(whole) // 2 - 1])
    if damage == "cut" and path.suffix in (".txt", ".csv"):
        path.write_bytes(whole[:-6] + b"?")
    with pytest.raises(DataError) as caught:
        load(name, tmp_path)
    assert "\n" not in str(caught.value) and os.path.dirname(file).split("/")[0] in str(caught.value)


def test_imagenets_names_and_folders_must_agree(tmp_path, draw, load):
    MINIATURES["ImageNet"](tmp_path, draw)
    path = tmp_path / "imagenet" / "classnames.txt"
    lines = path.read_text().splitlines()
    for text in ("\n".join(lines[:-1]), "\n".join([*lines, lines[0]]), "\n".join([*lines, "n99999999 thing"]), "nonsense"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"imagenet.*(classnames|n99999999)"):
            load("ImageNet", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"classnames\.txt is missing; it comes from https://drive"):
        load("ImageNet", tmp_path)
