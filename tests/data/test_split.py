import json
import random
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dassl_vr.data import ArrayDatum, DatasetBase, Datum, split_sha256
from dassl_vr.data.datasets.checks import check_classes
from dassl_vr.data.datasets.split import (
    Splits,
    read_split,
    select_shots,
    stratified_split,
    subsample_classes,
)
from dassl_vr.utils.errors import ConfigError, DataError


def items_of(labels, prefix="i"):
    return [Datum(f"/d/{prefix}{n}", label, 0, f"class {label}") for n, label in enumerate(labels)]


@pytest.fixture
def splits():
    rng = random.Random(7)
    labels = [label for label in range(5) for _ in range(9)]
    rng.shuffle(labels)
    return Splits(items_of(labels, "train"), items_of(labels[:25], "val"), items_of(labels, "test"))


def coops_draws(splits, num_shots, seed):
    """What CoOp's code does after its `set_random_seed`, written out manually."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    drawn = []
    for items, shots in ((splits.train, num_shots), (splits.val, min(num_shots, 4))):
        by_label = defaultdict(list)
        for item in items:
            by_label[item.label].append(item)
        paths = []
        for label in by_label:
            group = by_label[label]
            paths += [item.impath for item in (random.sample(group, shots) if len(group) >= shots else group)]
        drawn.append(paths)
    return drawn


@pytest.mark.parametrize("num_shots", [1, 4, 8, 16])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_the_same_shots_as_coop(splits, num_shots, seed):
    expected = coops_draws(splits, num_shots, seed)
    state = random.getstate()
    chosen = select_shots(splits, num_shots, seed)
    assert random.getstate() == state  # the global generator is left alone
    assert [[item.impath for item in items] for items in chosen[:2]] == expected
    assert chosen.test is splits.test


def test_no_shots_means_everything(splits):
    assert select_shots(splits, -1, 0) is splits
    assert select_shots(splits, 0, 0) is splits


def test_base_and_new_classes(splits):
    base, new = subsample_classes(splits, "base"), subsample_classes(splits, "new")
    assert subsample_classes(splits, "all") is splits
    for part, old, kept in ((base, [0, 1, 2], 3), (new, [3, 4], 2)):
        for items, whole in zip(part, splits):
            assert [item.impath for item in items] == [item.impath for item in whole if item.label in old]
            assert {(item.label, item.classname) for item in items} == {(n, f"class {old[n]}") for n in range(kept)}
    assert {item.label for item in splits.train} == set(range(5))  # the originals keep their labels
    with pytest.raises(ConfigError, match="leaves none of 1 class"):
        subsample_classes(Splits(items_of([0]), [], []), "new")
    with pytest.raises(ConfigError, match="one of all, base, new"):
        subsample_classes(splits, "old")


def test_stratified_split_takes_shares_of_every_class():
    labels = [0] * 100 + [1] * 10 + [2]
    train, val, test = stratified_split(items_of(labels), (0.2, 0.3), seed=1)
    counts = [[sum(item.label == label for item in part) for label in range(3)] for part in (train, val, test)]
    assert counts == [[50, 5, 1], [20, 2, 0], [30, 3, 0]]
    assert len({item.impath for part in (train, val, test) for item in part}) == len(labels)
    again = stratified_split(items_of(labels), (0.2, 0.3), seed=1)
    assert [item.impath for item in again[2]] == [item.impath for item in test]
    assert [item.impath for item in stratified_split(items_of(labels), (0.2, 0.3), 2)[2]] != [i.impath for i in test]


def test_the_first_part_keeps_an_image_of_every_class():
    train, *_ = stratified_split(items_of([0, 1, 1, 2, 2, 2]), (0.5, 0.5), seed=0)
    assert {item.label for item in train} == {0, 1, 2}


@pytest.mark.parametrize(
    "train, test, message",
    [
        ([0, 2], [0], "no image has label 1"),
        ([0, 1], [0, 2], "'class 2' has no training image"),
        ([0, -1], [0], "-1 is negative"),
    ],
)
def test_labels_must_make_sense(train, test, message):
    with pytest.raises(DataError, match=message):
        check_classes(Splits(items_of(train), [], items_of(test)), "toy")


def test_a_label_has_one_name():
    with pytest.raises(DataError, match="several class names"):
        check_classes(Splits([Datum("a", 0, 0, "x"), Datum("b", 0, 0, "y")], [], []), "toy")


# ---------------------------------------------------------------------------------------------------- split files
@pytest.fixture
def image_dir(tmp_path):
    directory = tmp_path / "images"
    (directory / "a b").mkdir(parents=True)
    for name in ("a b/ä.jpg", "c.jpg"):
        (directory / name).touch()
    return directory


def write(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_read_split(tmp_path, image_dir):
    path = write(tmp_path, {"train": [["a b/ä.jpg", "1", "x"]], "test": [["c.jpg", 0, "y"]]})
    splits = read_split(path, image_dir)
    assert splits.counts == (1, 0, 1)
    item = splits.train[0]
    assert (item.impath, item.label, item.classname) == (str(image_dir / "a b/ä.jpg"), 1, "x")
    # paths that count from the directory above
    path = write(tmp_path, {"train": [["images/c.jpg", 0, "y"]], "test": []})
    assert read_split(path, image_dir, tmp_path).train[0].impath == str(image_dir / "c.jpg")


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "expected a dictionary"),
        ({"train": []}, "expected a dictionary"),
        ({"train": [["c.jpg", 0]], "test": []}, "entry 0 of 'train'"),
        ({"train": [3], "test": []}, "entry 0 of 'train'"),
        ({"train": [["c.jpg", "zero", "y"]], "test": []}, "entry 0 of 'train'"),
        ({"train": 5, "test": []}, "'train' is 5; expected a list"),
        ({"train": None, "test": []}, "'train' is None; expected a list"),
        ({"train": {"c.jpg": 0}, "test": []}, "expected a list"),
        ({"train": [], "test": [], "Testing": []}, "'test' and 'Testing' stand for 'test'; keep one"),
        *(
            ({"train": [["c.jpg", label, "y"]], "test": []}, "entry 0 of 'train'.*the label a whole number from 0 on")
            for label in (float("inf"), float("nan"), -1, 1.5, True, None, [0], "1.0", " ", 2**31, 10**400, "9" * 19)
        ),
        *(
            ({"train": [["c.jpg", 0, classname]], "test": []}, "entry 0 of 'train'")
            for classname in (None, True, [], {}, "", " ", ["x"])
        ),
        *(
            ({"train": [[path, 0, "y"]], "test": []}, "entry 0 of 'train'")
            for path in (3, None, ["c.jpg"], "", "c\0.jpg", "\ud800/0.jpg", "..\\x.jpg", "C:\\x.jpg", "\\\\host\\share\\x.jpg")
        ),
        ({"train": [["a b", 0, "y"]], "test": []}, "images that do not exist"),
        ({"train": [["x" * 5000, 0, "y"]], "test": []}, "images that do not exist"),
        ({"train": [["c.jpg", 0, "y", ["x" * 10_000]]], "test": []}, "entry 0 of 'train' is .{,200}; expected"),
        ({"train": [["/etc/passwd", 0, "y"]], "test": []}, "must be a path below"),
        ({"train": [["../x.jpg", 0, "y"]], "test": []}, "must be a path below"),
        ({"train": [["c.jpg", 0, "y"]], "test": [["none.jpg", 0, "y"], ["n/n.jpg", 0, "y"]]}, "none.jpg and 1 more"),
    ],
)
def test_bad_split_files_are_one_line(tmp_path, image_dir, content, message):
    path = write(tmp_path, content)
    for directories in ([image_dir], [image_dir, tmp_path]):
        with pytest.raises(DataError, match=message) as caught:
            read_split(path, *directories)
        assert "split.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("written", ["a b\\ä.jpg", "a b/a\u0308.jpg", "a b\\a\u0308.jpg"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_split_file_from_another_system(tmp_path, image_dir, written, encoding):
    """Backslashes from Windows, accents in characters of their own from macOS, byte order marks, other names of the splits."""
    content = {"Train": [[written, 0.0, "y"]], "valid": None, "testing": [["c.jpg", 0, "y"]]}
    (tmp_path / "split.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    splits = read_split(tmp_path / "split.json", tmp_path, image_dir)
    assert splits.train[0].impath == str(image_dir / "a b" / "ä.jpg") and splits.counts == (1, 0, 1)


def test_a_backslash_may_belong_to_a_name(tmp_path, image_dir):
    (image_dir / "a b\\ä.jpg").touch()
    path = write(tmp_path, {"train": [["a b\\ä.jpg", 0, "y"]], "test": []})
    assert read_split(path, image_dir).train[0].impath == str(image_dir / "a b\\ä.jpg")


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, "\x80", ""])
def test_a_split_file_of_another_kind(tmp_path, image_dir, content):
    (tmp_path / "split.json").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match="split.json: not valid JSON"):
        read_split(tmp_path / "split.json", image_dir)


def test_a_split_file_that_is_no_json(tmp_path, image_dir):
    path = tmp_path / "split.json"
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_split(path, image_dir)


# -------------------------------------------------------------------------------------------------------- the hash
def dataset(train, val=(), test=(), directory=""):
    return SimpleNamespace(train_x=train, train_u=None, val=list(val), test=list(test), dataset_dir=str(directory))


def test_the_hash_does_not_depend_on_the_location_of_the_data(tmp_path):
    def at(root, known):
        items = [Datum(root / "a/1.jpg", 0, 0, "x"), Datum(root / "b/2.jpg", 1, 0, "y")]
        return split_sha256(dataset(items, directory=root if known else "name"))

    for known in (True, False):
        assert at(tmp_path, known) == at(tmp_path / "deeper" / "still", known)


def test_the_hash_depends_on_everything_else():
    array = np.zeros((2, 2), np.uint8)
    one, two = ArrayDatum(array, "d/1", 0, 0, "x"), ArrayDatum(array, "d/2", 1, 0, "y")
    variants = [
        dataset([one, two]),
        dataset([two, one]),
        dataset([one], [two]),
        dataset([one], [], [two]),
        dataset([one, two.relabelled(2)]),
        dataset([one, ArrayDatum(array, "d/2", 1, 0, "z")]),
        dataset([one, ArrayDatum(array, "d/3", 1, 0, "y")]),
    ]
    assert len({split_sha256(variant) for variant in variants}) == len(variants)


# ------------------------------------------------------------------------------------------------------- the items
def test_array_datum_reads_grey_and_colour():
    grey = ArrayDatum(np.full((3, 4), 7, np.uint8)).read()
    assert grey.mode == "RGB" and grey.size == (4, 3) and grey.getpixel((0, 0)) == (7, 7, 7)
    assert ArrayDatum(np.full((3, 4, 3), 7, np.uint8)).read().size == (4, 3)
    for bad in (np.zeros((3, 4)), np.zeros((3, 4, 4), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(ValueError, match="uint8 array"):
            ArrayDatum(bad)


def test_a_missing_file_is_reported_when_it_is_read(tmp_path):
    item = Datum(str(tmp_path / "none.jpg"))
    with pytest.raises(DataError, match=r"none\.jpg"):
        item.read()


def test_a_data_set_without_training_images_is_refused():
    items = [Datum("a", 1, 1, "y"), Datum("b", 0, 0, "x")]
    base = DatasetBase(train_x=items, train_u=items[:1], val=[], test=items)
    assert base.num_classes == 2 and base.classnames == ["x", "y"] and base.lab2cname == {0: "x", 1: "y"}
    assert base.train_u == items[:1] and base.val == [] and base.test is items
    with pytest.raises(DataError, match="no training images"):
        DatasetBase(train_x=[], test=items)
