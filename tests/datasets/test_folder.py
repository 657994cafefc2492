import json

import pytest
from PIL import Image

from dassl_vr.utils.errors import DataError


def counts(dataset):
    return len(dataset.train_x), len(dataset.val), len(dataset.test)


def fill(directory, draw, images=10, classes=("cat", "dog")):
    for name in classes:
        for number in range(images):
            draw(directory / name / f"{number}.png")


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
