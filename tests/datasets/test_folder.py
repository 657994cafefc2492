import json
import os

import pytest
from PIL import Image

from dassl_vr.config import get_cfg_default
from dassl_vr.data import name_of_data
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import DataError


def counts(dataset):
    return len(dataset.train_x), len(dataset.val), len(dataset.test)


def fill(directory, draw, images=10, classes=("cat", "dog")):
    for name in classes:
        for number in range(images):
            draw(directory / name / f"{number}.png")


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("a/pets", "pets"),
        ("pets/", "pets"),
        ("~/my pets", "my pets"),
        (".", "here"),
        ("", "folder"),
        ("/", "folder"),
        ("EuroSAT", "folder-EuroSAT"),  # whose figures are elsewhere
        ("oxford_flowers", "folder-oxford_flowers"),
        ("DTD", "folder-DTD"),
    ],
)
def test_it_is_called_as_its_folder_is(root, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    load_plugins()
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT = "folder", root
    assert name_of_data(cfg) == name_of_data(cfg, "its yaml") == name
    cfg.DATASET.NAME = "EuroSAT"
    assert name_of_data(cfg) == "EuroSAT" and name_of_data(cfg, "eurosat") == "eurosat"


def test_one_folder_a_class_is_split_loudly(tmp_path, draw, load, capsys):
    fill(tmp_path, draw, 20)
    dataset = load("folder", tmp_path)
    assert counts(dataset) == (26, 2, 12) and dataset.classnames == ["cat", "dog"]
    text = capsys.readouterr().out
    assert "WARNING" in text and "12 test and 2 validation images" in text
    assert counts(load("folder", tmp_path, "DATASET.VAL_PERCENT", 0.0)) == (28, 0, 12)


def test_sub_folders_are_honoured(tmp_path, draw, load, capsys):
    for split, images in (("train", 10), ("val", 2), ("test", 3)):
        fill(tmp_path / split, draw, images)
    dataset = load("folder", tmp_path)
    assert counts(dataset) == (20, 4, 6) and all("/test/" in item.impath for item in dataset.test)
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize("absent, expected", [("val", (18, 2, 6)), ("test", (14, 4, 6))])
def test_an_absent_sub_folder_is_taken_from_training(tmp_path, draw, load, capsys, absent, expected):
    for split, images in (("train", 10), ("val", 2), ("test", 3)):
        if split != absent:
            fill(tmp_path / split, draw, images)
    assert counts(load("folder", tmp_path)) == expected
    assert "WARNING" in capsys.readouterr().out


def test_a_class_may_be_absent_from_the_test(tmp_path, draw, load):
    fill(tmp_path / "train", draw, 5, ("ant", "bee", "cow"))
    fill(tmp_path / "test", draw, 2, ("bee", "cow"))
    dataset = load("folder", tmp_path)
    assert {item.label for item in dataset.test} == {1, 2} and dataset.num_classes == 3


def test_a_class_may_not_be_absent_from_training(tmp_path, draw, load):
    fill(tmp_path / "train", draw, 5, ("ant", "bee"))
    fill(tmp_path / "test", draw, 2, ("bee", "cow"))
    with pytest.raises(DataError, match=r"test has class folder\(s\) that .*train lacks: 'cow'"):
        load("folder", tmp_path)


@pytest.mark.parametrize("inside", [None, "notes.txt", ".hidden.png"])
@pytest.mark.parametrize("parent", ["", "train"])
def test_an_empty_class_folder_is_named(tmp_path, draw, load, inside, parent):
    fill(tmp_path / parent, draw)
    empty = tmp_path / parent / "empty class"
    empty.mkdir()
    if inside:
        (empty / inside).touch()
    with pytest.raises(DataError, match=r"class folder .*empty class holds no image") as caught:
        load("folder", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_directory_without_folders(tmp_path, draw, load):
    draw(tmp_path / "loose.png")
    with pytest.raises(DataError, match="holds no folders"):
        load("folder", tmp_path)


def test_nested_folders_suffixes_and_hidden_ones(tmp_path, draw, load):
    fill(tmp_path, draw, 4)
    draw(tmp_path / "cat" / "more" / "A.JPG")
    draw(tmp_path / ".cache" / "x.png")
    draw(tmp_path / "cat" / ".thumbs" / "x.png")
    dataset = load("folder", tmp_path)
    assert sum(counts(dataset)) == 9 and dataset.classnames == ["cat", "dog"]


def test_files_of_other_types_are_taken_or_named(tmp_path, draw, load, capsys):
    fill(tmp_path, draw, 4)
    for suffix in ("gif", "JFIF", "jp2", "tga"):
        draw(tmp_path / "cat" / "plain.png")
        with Image.open(tmp_path / "cat" / "plain.png") as image:
            image.save(tmp_path / "cat" / f"more.{suffix}")
    for name in ("a.heic", "b.HEIC", "notes", ".hidden"):
        (tmp_path / "dog" / name).touch()
    dataset = load("folder", tmp_path)
    assert sum(counts(dataset)) == 13 and all(item.read().size == (12, 10) for item in dataset.train_x + dataset.test)
    warned = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(warned) == 1 and "left out 2 .heic, 1 without a suffix" in warned[0]
    for path in (tmp_path / "dog").glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"dog holds no image of a type that is read, but 2 \.heic, 1 without a suffix"):
        load("folder", tmp_path)


@pytest.mark.parametrize("name", ["split.json", "split_zhou_Toy.json"])
@pytest.mark.parametrize("images", ["", "images"])
def test_a_split_file(tmp_path, draw, load, name, images):
    fill(tmp_path / images, draw, 4)
    split = {
        "train": [["cat/0.png", 0, "a cat"], ["dog/0.png", 1, "a dog"]],
        "val": [["cat/1.png", 0, "a cat"]],
        "test": [["dog/1.png", 1, "a dog"]],
    }
    (tmp_path / name).write_text(json.dumps(split))
    dataset = load("folder", tmp_path)
    assert counts(dataset) == (2, 1, 1) and dataset.classnames == ["a cat", "a dog"]
    assert dataset.test[0].read().size == (12, 10)


def test_several_split_files_need_a_choice(tmp_path, draw, load):
    fill(tmp_path, draw)
    for name in ("split_a.json", "split_b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match="several split files"):
        load("folder", tmp_path)


def test_too_few_images_to_test_anything(tmp_path, draw, load):
    fill(tmp_path, draw, 1)
    with pytest.raises(DataError, match="too few images"):
        load("folder", tmp_path)


def test_uneven_classes_are_reported(tmp_path, draw, load, capsys):
    fill(tmp_path, draw, 20, ("cat",))
    fill(tmp_path, draw, 5, ("dog",))
    load("folder", tmp_path)
    assert "classes are uneven, 13 to 3 training images (cat 13, dog 3)" in capsys.readouterr().out
    fill(tmp_path, draw, 20, ("dog",))
    load("folder", tmp_path)
    assert "classes are uneven" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- layouts as people have them
@pytest.mark.parametrize("wrapper", ["", "archive", "archive/my data"])
@pytest.mark.parametrize(
    "names",
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN_SET", "valid", "test_set"), ("train", "dev", "Test")],
)
def test_splits_under_other_names(tmp_path, draw, load, capsys, wrapper, names):
    for name, images in zip(names, (10, 2, 3), strict=True):
        fill(tmp_path / wrapper / name, draw, images)
    (tmp_path / "__MACOSX" / "archive").mkdir(parents=True)
    dataset = load("folder", tmp_path)
    assert counts(dataset) == (20, 4, 6) and dataset.classnames == ["cat", "dog"]
    assert all(f"/{names[2]}/" in item.impath for item in dataset.test)
    assert "WARNING" not in capsys.readouterr().out


def test_class_folders_in_a_wrapper(tmp_path, draw, load, capsys):
    fill(tmp_path / "images", draw, 20)
    assert load("folder", tmp_path).classnames == ["cat", "dog"]
    assert f"the data are in {tmp_path / 'images'}" in capsys.readouterr().out


@pytest.mark.parametrize("pair", [("train", "Train"), ("test", "testing"), ("val", "valid")])
def test_two_folders_for_one_split(tmp_path, draw, load, pair):
    fill(tmp_path / "train", draw)
    for name in pair:
        if not (tmp_path / name).exists():
            fill(tmp_path / name, draw, 3)
    with pytest.raises(DataError, match=f"holds .*, both of which stand for '{pair[0]}'; keep one") as caught:
        load("folder", tmp_path)
    assert all(name in str(caught.value) for name in pair)


def test_a_second_name_or_an_empty_folder_is_no_second_split(tmp_path, draw, load):
    for split, images in (("train", 10), ("val", 2), ("test", 3)):
        fill(tmp_path / split, draw, images)
    (tmp_path / "validation").symlink_to("val")
    (tmp_path / "Testing").mkdir()
    assert counts(load("folder", tmp_path)) == (20, 4, 6)


@pytest.mark.parametrize("flat", [("Train", "Test"), ("train",), ("Test",), ("training", "valid", "testing")])
def test_splits_without_class_folders(tmp_path, draw, load, flat):
    for name in flat:
        draw(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="holds images of no class; expected one folder per class"):
        load("folder", tmp_path)


def test_unlabelled_test_images_beside_training_folders(tmp_path, draw, load):
    fill(tmp_path / "train", draw)
    draw(tmp_path / "test" / "1.png")
    with pytest.raises(DataError, match="test holds images of no class"):
        load("folder", tmp_path)


def test_test_images_alone(tmp_path, draw, load):
    fill(tmp_path / "Test", draw)
    with pytest.raises(DataError, match=r"holds test images, but none to train on; expected .*/train/<class>"):
        load("folder", tmp_path)


def test_test_folders_beside_class_folders(tmp_path, draw, load):
    fill(tmp_path, draw)
    fill(tmp_path / "Test", draw, 3)
    with pytest.raises(DataError, match=r"beside them Test with folders of the same names; move .* into .*/train"):
        load("folder", tmp_path)


def test_a_class_may_be_called_train_but_not_without_a_word(tmp_path, draw, load, capsys):
    fill(tmp_path, draw, 10, ("bus", "car", "train"))
    assert load("folder", tmp_path).classnames == ["bus", "car", "train"]
    assert "train is taken for a class called 'train'" in capsys.readouterr().out


def test_images_beside_the_splits_are_named(tmp_path, draw, load, capsys):
    for split in ("train", "test", "val"):
        fill(tmp_path / split, draw, 4)
    fill(tmp_path / "more", draw, 3)
    (tmp_path / "annotations").mkdir()
    assert counts(load("folder", tmp_path)) == (8, 8, 8)
    assert f"left out more in {tmp_path}, which hold images too" in capsys.readouterr().out


def test_one_class_in_two_unicode_forms(tmp_path, draw, load, capsys):
    composed, apart = "caf\u00e9", "cafe\u0301"
    fill(tmp_path / "train", draw, 5, (composed, "dog"))
    fill(tmp_path / "test", draw, 2, (apart, "dog"))
    dataset = load("folder", tmp_path)
    assert dataset.classnames == [composed, "dog"] and {(item.label, item.classname) for item in dataset.test} == {
        (0, composed),
        (1, "dog"),
    }
    fill(tmp_path / "train", draw, 5, (apart,))
    capsys.readouterr()
    load("folder", tmp_path)
    text = capsys.readouterr().out
    assert "look alike" in text and r"'cafe\u0301'" in text and r"'caf\xe9'" in text


def test_a_test_class_that_differs_in_case_is_shown(tmp_path, draw, load):
    fill(tmp_path / "train", draw, 5)
    fill(tmp_path / "test", draw, 2, ("Cat", "dog"))
    with pytest.raises(DataError, match="'Cat', which is not 'cat'"):
        load("folder", tmp_path)


def test_two_classes_in_one_folder(tmp_path, draw, load):
    fill(tmp_path, draw)
    (tmp_path / "kitten").symlink_to("cat")
    with pytest.raises(DataError, match="is in two classes, 'cat' .*'kitten'"):
        load("folder", tmp_path)


def test_copies_in_training_and_test_are_named(tmp_path, draw, load, capsys):
    fill(tmp_path / "train", draw, 5)
    fill(tmp_path / "test", draw, 2)
    (tmp_path / "test" / "cat" / "copy.png").write_bytes((tmp_path / "train" / "cat" / "0.png").read_bytes())
    load("folder", tmp_path, "DATASET.VAL_PERCENT", 0.0)
    assert "WARNING: 1 of 5 test images are copies of training images" in capsys.readouterr().out


def test_folders_named_in_other_encodings(tmp_path, draw, load):
    for name in (b"caf\xe9", b"th\xe9"):
        fill(tmp_path, draw, 10, (os.fsdecode(name),))
    dataset = load("folder", tmp_path)
    assert dataset.classnames == [r"caf\udce9", r"th\udce9"] and dataset.test[0].read().size == (12, 10)
    assert json.dumps(dataset.classnames, ensure_ascii=False).encode()


def test_more_shots_than_images_are_reported(tmp_path, draw, load, capsys):
    fill(tmp_path, draw)
    load("folder", tmp_path, "DATASET.NUM_SHOTS", 2)
    assert "NUM_SHOTS" not in capsys.readouterr().out
    load("folder", tmp_path, "DATASET.NUM_SHOTS", 100)
    assert "DATASET.NUM_SHOTS is 100, but 2 of 2 classes have fewer training images" in capsys.readouterr().out
