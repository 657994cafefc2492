"""What splits are refused for, and what is said of them."""

import os
import shutil

import pytest

from dassl_vr.data import Datum
from dassl_vr.data.datasets.checks import doubts, too_few
from dassl_vr.data.datasets.names import difference, differing_classes, split_of
from dassl_vr.data.datasets.split import Splits
from dassl_vr.utils.errors import DataError


@pytest.fixture
def items(tmp_path):
    """Eight images of the classes x and y, no two with the same bytes, all of the same size."""
    found = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes([number]) * 9000)
        found.append(Datum(path, number % 2, 0, "xy"[number % 2]))
    return found


def lines(*splits, compare_content=True):
    return doubts(Splits(*splits), "toy", compare_content)


def test_good_splits_give_rise_to_no_doubt(items):
    assert lines(items[:4], items[4:6], items[6:]) == []


def test_an_image_in_two_splits_is_named(items):
    (line,) = lines(items[:4], items[4:6], items[3:4] + items[6:])
    assert "1 of 3 test images are training images too" in line and items[3].impath in line
    (line,) = lines(items[:4], items[2:6], items[6:])
    assert "2 of 4 validation images are training images too" in line
    (line,) = lines(items[:4], items[4:7], items[6:])
    assert "1 of 2 test images are validation images too" in line
    assert lines(items, [], list(items))[0].startswith("8 of 8 test images")
    assert lines(items, [], items) == []  # a test set whose images stand in for those to train on


def test_a_folder_under_two_names_is_seen_through(items, tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    other = Datum(tmp_path / "again" / "0.png", 0, 0, "x")
    assert "1 of 1 test images are training images too" in lines(items, [], [other])[0]
    with pytest.raises(DataError, match=r"0\.png is in two classes, 'x' \(label 0\) and 'y' \(label 1 as .*again/0\.png\)"):
        lines([*items, Datum(other.impath, 1, 0, "y")], [], [])


def test_a_file_of_two_classes_is_refused(items):
    with pytest.raises(DataError, match="is in two classes"):
        lines(items, [], [Datum(items[0].impath, 1, 0, "y")])


def test_an_entry_that_is_repeated_is_named(items):
    assert lines(items + items[:2], [], []) == [f"2 training image(s) are named more than once, such as {items[0].impath}"]


@pytest.mark.parametrize("how", [shutil.copy, os.link, os.symlink])
def test_copies_are_found_by_their_bytes(items, tmp_path, how):
    how(items[0].impath, tmp_path / "copy.png")
    copy = Datum(tmp_path / "copy.png", 0, 0, "x")
    (line,) = lines(items, [], [copy])
    assert f"1 of 1 test images are copies of training images, byte for byte, such as {copy.impath} of {items[0].impath}" in line
    (line,) = lines([*items, copy.relabelled(1, "y")], [], [])
    assert "1 image(s) are in two classes, as copies" in line
    assert lines([*items, copy], [], []) == []  # in one class and one split they do no harm
    assert lines(items, [], [copy], compare_content=False) == []


def test_what_cannot_be_compared_is_left_to_the_reader(items, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("none.png", "pipe.png", "empty.png", "nothing.png"):
        items.append(Datum(tmp_path / name, 0, 0, "x"))
    for name in ("empty.png", "nothing.png"):
        (tmp_path / name).touch()
    assert lines(items[:9], [], items[9:]) == []


@pytest.mark.parametrize(
    "names, expected",
    [
        (("same", "same"), "0 'same' and 1 'same'"),
        (("Cat", "cat"), "0 'Cat' and 1 'cat'"),
        (("cat", "cat "), "0 'cat' and 1 'cat '"),
        (("a_b", "a b"), "0 'a_b' and 1 'a b'"),
        (("caf\u00e9", "cafe\u0301"), r"'caf\xe9') and 1 "),
        (("cafe", "caf\u00e9"), ""),
        (("cat", "dog"), ""),
    ],
)
def test_names_that_look_alike(names, expected):
    found = doubts(Splits([Datum(f"/{n}", n, 0, name) for n, name in enumerate(names)], [], []), "toy")
    assert len(found) == bool(expected) and expected in "".join(found)


def test_fewer_images_than_shots(items):
    assert too_few(items, 4) == too_few(items, -1) == ""
    line = too_few(items[:-1], 10**20)
    assert str(10**20) in line and "2 of 2 classes have fewer training images ('y': 3)" in line


# ------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    "name, split",
    [
        *((name, "train") for name in ("train", "Train", "TRAINING", "training_set", "Train Images", "train-data", "trn")),
        *((name, "val") for name in ("val", "valid", "Validation", "DEV", "val_set")),
        *((name, "test") for name in ("test", "Testing", "TEST", "testset", "test_images")),
        *((name, None) for name in ("cat", "images", "dataset", "trains", "testament", "valley", "", "train2")),
    ],
)
def test_names_of_splits(name, split):
    assert split_of(name) == split


def test_differences_are_shown():
    assert difference(["a", "b"], ["b", "a"]) == ""
    assert difference(["Cat", "owl"], ["cat"]) == "'Cat', which is not 'cat'; 'owl'"
    assert difference("abcde", "") == "'a'; 'b'; 'c'; and 2 more"
    text = difference(["cafe\u0301"], ["caf\u00e9"])
    assert r"'cafe\u0301'" in text and r"'caf\xe9'" in text
    assert "'\u0441\u0430t' (that is '\\u0441\\u0430t')" in difference(["\u0441\u0430t"], ["cat"])  # Cyrillic
    assert differing_classes(["a"], ["a"]) == ""
    assert differing_classes(["b", "a"], ["a", "b"]) == "the same names under other labels: 0 is 'a' then and 'b' now"
    assert differing_classes(["a", "c"], ["a", "b"]) == "only now: 'c'; only then: 'b'"


def test_names_of_any_bytes_can_be_written():
    name = os.fsdecode(b"caf\xe9")
    assert Datum("p", 0, 0, name).classname == r"caf\udce9" and Datum(os.fsdecode(b"/\xe9")).impath == "/\udce9"
    assert Datum("p", 0, 0, "猫").classname == "猫"
