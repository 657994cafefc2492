"""Public few-shot draws, in the form of 2SFS: which images are taken, and what ends in one line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from dassl_vr.data.datasets import ArrayDatum, Datum
from dassl_vr.data.datasets.shots_file import read_shots
from dassl_vr.data.datasets.split import Splits
from dassl_vr.utils.errors import ConfigError, DataError

PATTERN = "split_fewshot/shot_{shots}-seed_{seed}_{split}.jsonl"
NAMES = ("banded", "blotchy")


@pytest.fixture
def data(tmp_path):
    """Two classes whose files have the same names, 6 training, 3 validation and 2 test images each."""
    root = tmp_path / "dtd"

    def items(numbers):
        return [
            Datum(str(root / f"images/{name}/{number}.jpg"), label, 0, name)
            for label, name in enumerate(NAMES)
            for number in numbers
        ]

    splits = Splits(items(range(6)), items(range(6, 9)), items(range(9, 11)))

    def write(train, val=None, seed=1):
        folder = root / "split_fewshot"
        folder.mkdir(parents=True, exist_ok=True)
        val = [line(item) for item in [*splits.val[:2], *splits.val[3:5]]] if val is None else val
        for split, lines in (("train", train), ("val", val)):
            text = "\n".join(text if isinstance(text, str) else json.dumps(text) for text in lines)
            (folder / f"shot_2-seed_{seed}_{split}.jsonl").write_text(text + "\n")

    def read(pattern=PATTERN, shots=2, seed=1):
        return read_shots(splits, pattern, shots, seed, str(root))

    return SimpleNamespace(splits=splits, write=write, read=read, root=root)


def line(item, front="dtd/"):
    """What 2SFS says of an image."""
    path = front + item.impath.partition("/dtd/")[2]
    return {"_impath": path, "_label": item.label, "_domain": -1, "_classname": item.classname}


@pytest.mark.parametrize("front", ["dtd/", "/home/somebody/data/dtd/", "C:\\data\\dtd\\", ""])
def test_the_images_of_the_file_in_its_order(data, front):
    train = [data.splits.train[index] for index in (4, 2, 11, 6)]
    data.write([line(item, front) for item in train])
    found = data.read()
    assert found.train == train and found.test == data.splits.test
    assert [item.impath[-5:] for item in found.val] == ["6.jpg", "7.jpg"] * 2


def test_each_seed_has_its_file(data):
    for seed, chosen in ((1, (0, 1, 6, 7)), (2, (2, 3, 8, 9))):
        data.write([line(data.splits.train[index]) for index in chosen], seed=seed)
    assert [data.splits.train.index(item) for item in data.read(seed=2).train] == [2, 3, 8, 9]


def test_a_class_of_fewer_images_has_some_again(data):
    val = [line(data.splits.val[index]) for index in (0, 0, 3, 4)]
    splits = data.splits._replace(val=[data.splits.val[0], *data.splits.val[3:]])
    data.write([line(data.splits.train[index]) for index in (0, 1, 6, 7)], val)
    found = read_shots(splits, PATTERN, 2, 1, str(data.root))
    assert [item.label for item in found.val] == [0, 0, 1, 1] and found.val[0] is found.val[1]


def test_images_in_memory(tmp_path):
    image = np.zeros((8, 8), np.uint8)
    items = [ArrayDatum(image, f"digits/train/{number:05d}", number % 2, 0, str(number % 2)) for number in range(6)]
    lines = [{"_impath": item.impath, "_label": item.label, "_classname": item.classname} for item in items[:2]]
    path = tmp_path / "train.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    found = read_shots(Splits(items, [], []), str(tmp_path / "{split}.jsonl"), 1, 1, "")
    assert found.train == items[:2] and found.val == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:3], "1 images of class 1, expected 2"),
        (lambda lines: [*lines, lines[0]], "3 images of class 0, expected 2"),
        (
            lambda lines: [{**lines[0], "_label": 1}, *lines[1:]],
            "line 1: 'dtd/images/banded/0.jpg' has label 1 'banded'; the data set has 0",
        ),
        (lambda lines: [{**lines[0], "_classname": "dotted"}, *lines[1:]], "has label 0 'dotted'"),
        (
            lambda lines: [{**lines[0], "_impath": "dtd/images/banded/9.jpg"}, *lines[1:]],
            "line 1: 'dtd/images/banded/9.jpg' is no image",
        ),
        (lambda lines: [{**lines[0], "_impath": "0.jpg"}, *lines[1:]], "line 1: '0.jpg' is no image of the split"),
        (lambda lines: [{**lines[0], "_impath": "../../../etc/passwd"}, *lines[1:]], "is no image of the split"),
        (lambda lines: [{**lines[0], "_impath": ""}, *lines[1:]], "line 1: '' is no image"),
        (lambda lines: [{**lines[0], "_impath": 5}, *lines[1:]], "line 1: entry '_impath' is 5"),
        (lambda lines: [{"_impath": "a"}, *lines[1:]], "line 1: entry '_label' is missing"),
        (lambda lines: [*lines[:2], "{", *lines[2:]], "line 3: not valid JSON"),
        (lambda lines: ["[" * 10**5, *lines], "line 1: not valid JSON"),
        (lambda lines: ["[]", *lines], "line 1: its content is a list"),
    ],
)
def test_a_file_that_does_not_fit_ends_in_one_line(data, change, words):
    data.write(change([line(data.splits.train[index]) for index in (0, 1, 6, 7)]))
    with pytest.raises(DataError) as error:
        data.read()
    assert str(error.value).startswith(f"{data.root / 'split_fewshot/shot_2-seed_1_train.jsonl'}: ")
    assert words in str(error.value) and "\n" not in str(error.value) and "DATASET.FEW_SHOT_FILE ''" in str(error.value)


def test_a_file_that_is_absent_or_not_named_well(data):
    with pytest.raises(DataError, match=r"shot_2-seed_1_train\.jsonl: cannot be read"):
        data.read()
    data.write(["\xff"])
    (data.root / "split_fewshot/shot_2-seed_1_train.jsonl").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        data.read()
    with pytest.raises(ConfigError, match=r"takes a path with \{split\} in it"):
        data.read("shots.jsonl")
    with pytest.raises(ConfigError, match=r"set DATASET\.NUM_SHOTS"):
        data.read(shots=-1)


def test_a_run_reads_it(tmp_path, tiny_command, capsys):
    from dassl_vr.cli.train import main
    from dassl_vr.data import DATASET_REGISTRY
    from dassl_vr.runs import build_cfg

    cfg = build_cfg([], {"DATASET.NAME": "digits"})
    digits = DATASET_REGISTRY.get("digits")(cfg)
    for split, items in (("train", digits.train_x), ("val", digits.val)):
        chosen = {item.label: item for item in items}.values()  # the last of each class, which no draw of ours gives
        lines = [{"_impath": item.impath, "_label": item.label, "_classname": item.classname} for item in chosen]
        (tmp_path / f"1-{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    keys = ["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1", "DATASET.FEW_SHOT_FILE", str(tmp_path / "{shots}-{split}.jsonl")]
    hashes = []
    for name, more in (("read", keys), ("drawn", keys[:4])):
        assert main(tiny_command(tmp_path / name, *more)) == 0
        hashes.append(json.loads((tmp_path / name / "results.json").read_text())["split_sha256"])
    assert hashes[0] != hashes[1]
    assert main(tiny_command(tmp_path / "other", *keys, "DATASET.NUM_SHOTS", "2")) == 2
    assert "2-train.jsonl: cannot be read" in capsys.readouterr().err
