"""The draw of few shots: kept as JSON, the same from it and without it, and CoOp's."""

import json
import random

import pytest

from dassl_vr.data import split_sha256

from .miniatures import MINIATURES


def drawn(dataset):
    return [[(item.impath, item.label, item.classname) for item in items] for items in (dataset.train_x, dataset.val)]


@pytest.fixture
def eurosat(tmp_path, draw):
    MINIATURES["EuroSAT"](tmp_path, draw)
    return tmp_path


def kept(root):
    return sorted((root / "eurosat" / "split_fewshot").glob("*.json"))


def test_a_hit_and_a_miss_give_the_same_in_the_same_order(eurosat, load, tmp_path_factory):
    first = load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 3, "SEED", 2)
    (path,) = kept(eurosat)
    assert path.name.startswith("shot_3-seed_2-") and not any(str(eurosat) in line for line in path.read_text().splitlines())
    assert drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 3, "SEED", 2)) == drawn(first)
    load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 3, "SEED", 3), load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 1, "SEED", 2)
    assert len(kept(eurosat)) == 3
    elsewhere = tmp_path_factory.mktemp("other") / "place"
    eurosat.rename(elsewhere)
    moved = load("EuroSAT", elsewhere, "DATASET.NUM_SHOTS", 3, "SEED", 2)
    assert split_sha256(moved) == split_sha256(first) and len(kept(elsewhere)) == 3
    eurosat.mkdir()


def test_a_saved_draw_is_used(eurosat, load):
    load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 1)
    (path,) = kept(eurosat)
    content = json.loads(path.read_text())
    content["train"].reverse()
    path.write_text(json.dumps(content))
    assert [item.label for item in load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 1).train_x] == list(range(9, -1, -1))


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"train": ["../x"], "val": []}', '{"train": 3}'])
def test_a_damaged_draw_is_made_again(eurosat, load, damage):
    reference = drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2))
    (path,) = kept(eurosat)
    path.write_text(damage)
    assert drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2)) == reference
    assert json.loads(path.read_text())["val"]


@pytest.mark.parametrize(
    "change",
    [
        lambda paths: paths[1:],
        lambda paths: paths + paths[:1],
        lambda paths: [paths[1], *paths[1:]],
        lambda paths: [*paths[2:4], *paths[2:]],
        lambda paths: dict.fromkeys(paths[1:], 1),
        lambda paths: [[path] for path in paths],
    ],
    ids=["one less", "one more", "one twice", "another class", "a dictionary", "nested"],
)
def test_other_shots_than_asked_for_are_drawn_again(eurosat, load, change):
    reference = drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2))
    (path,) = kept(eurosat)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "train": change(content["train"])}))
    assert drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2)) == reference
    assert json.loads(path.read_text()) == content


def test_another_split_has_another_draw(eurosat, load):
    load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2)
    path = eurosat / "eurosat" / "split_zhou_EuroSAT.json"
    split = json.loads(path.read_text())
    split["train"] = split["train"][::-1]
    path.write_text(json.dumps(split))
    assert load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2).train_x[0].label == 9
    assert len(kept(eurosat)) == 2


def test_a_read_only_directory_keeps_no_draw(eurosat, load):
    reference = drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2))
    kept(eurosat)[0].unlink()
    (eurosat / "eurosat" / "split_fewshot").rmdir()
    (eurosat / "eurosat" / "split_fewshot").write_text("in the way, also of root")
    assert drawn(load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", 2)) == reference


def test_the_users_own_directory_is_left_alone(tmp_path, draw, load):
    MINIATURES["folder"](tmp_path, draw)
    before = sorted(tmp_path.rglob("*"))
    load("folder", tmp_path, "DATASET.NUM_SHOTS", 2)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_draw_is_coops(eurosat, load):
    """CoOp seeds python's generator, then samples class by class, training first, then min(shots, 4) for validation."""
    split = json.loads((eurosat / "eurosat" / "split_zhou_EuroSAT.json").read_text())
    for shots in (1, 2, 5):
        random.seed(7)
        expected = []
        for name, count in (("train", shots), ("val", min(shots, 4))):
            by_class = {}
            for path, label, _ in split[name]:
                by_class.setdefault(label, []).append(path)
            chosen = [random.sample(paths, count) if len(paths) >= count else paths for paths in by_class.values()]
            expected.append([str(eurosat / "eurosat" / "2750" / path) for paths in chosen for path in paths])
        for _ in range(2):  # drawn, then read
            dataset = load("EuroSAT", eurosat, "DATASET.NUM_SHOTS", shots, "SEED", 7)
            assert [[item.impath for item in items] for items in (dataset.train_x, dataset.val)] == expected
