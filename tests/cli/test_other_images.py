"""Folders of images that have moved since a run, and folders of other images that it is tested on."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from dassl_vr.cli.train import main

QUIET = ["VERBOSE", "False", "TRAIN.END_FIGURES", "False", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "1"]
COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def fill(root, images=6, classes=COLOURS, seed=0):
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(images):
            pixels = rng.integers(-30, 30, (32, 32, 3)) + COLOURS.get(name.lower().strip(), (99, 99, 99))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def train(root, out, *more):
    flags = ["--trainer", "LinearProbe", "--config-file", "configs/trainers/LinearProbe/tiny_vit.yaml"]
    flags += ["--dataset-config-file", "configs/datasets/folder.yaml", "--seed", "1", "--root", str(root), "--output-dir", str(out)]
    return main([*flags, *map(str, more), *QUIET])


def evaluate(run, root, out, *more):
    return main(["--eval-only", "--model-dir", str(run), "--root", str(root), "--output-dir", str(out), *map(str, more)])


def results(out):
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(data, run): cats, dogs and owls, and a linear probe on them."""
    directory = tmp_path_factory.mktemp("finished")
    root = fill(directory / "data")
    assert train(root, directory / "run") == 0
    return root, directory / "run"


@pytest.mark.parametrize("inside", ["", "test", "Testing", "wrapper/TEST"])
@pytest.mark.parametrize("classes", [("cat", "dog", "owl"), ("owl",), ("owl", "dog")])
def test_other_images_are_tested_whole_under_the_labels_of_the_run(finished, tmp_path, inside, classes):
    _, run = finished
    fill(tmp_path / "other" / inside, 4, classes, seed=1)
    assert evaluate(run, tmp_path / "other", tmp_path / "out") == 0
    now = results(tmp_path / "out")
    assert (now["num_train"], now["num_test"], now["protocol"]) == (0, 4 * len(classes), "external-test")
    assert now["classnames"] == ["cat", "dog", "owl"] and now["accuracy"] == 100
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["DATASET"]["TEST_CLASSES"] == ["cat", "dog", "owl"]


@pytest.mark.parametrize("keys", [("test",), ("train", "test"), ("Testing",)])
def test_a_split_file_of_other_images(finished, tmp_path, keys):
    _, run = finished
    fill(tmp_path / "other", 4, seed=1)
    entries = [[f"{name}/{n}.png", label, name] for label, name in enumerate(("owl", "cat")) for n in range(4)]
    (tmp_path / "other" / "split.json").write_text(json.dumps({key: entries if "est" in key else entries[:1] for key in keys}))
    assert evaluate(run, tmp_path / "other", tmp_path / "out") == 0
    assert results(tmp_path / "out")["num_test"] == 8 and results(tmp_path / "out")["accuracy"] == 100


@pytest.mark.parametrize(
    "name, expected", [("Cat", "'Cat', which is not 'cat'"), ("cat ", "'cat ', which is not 'cat'"), ("cow", "'cow'")]
)
def test_differing_class_names_are_named(finished, tmp_path, name, expected, capsys):
    _, run = finished
    fill(tmp_path / "other", 4, (name, "dog"))
    assert evaluate(run, tmp_path / "other", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line and "was trained on other classes than these" in line and not (tmp_path / "out").exists()


def test_images_for_training_are_not_tested(finished, tmp_path, capsys):
    _, run = finished
    fill(tmp_path / "other" / "train", 4)
    assert evaluate(run, tmp_path / "other", tmp_path / "out") == 2
    assert "no images for testing" in capsys.readouterr().err
    assert evaluate(run, tmp_path / "other" / "train", tmp_path / "out") == 0  # as the message says
    assert results(tmp_path / "out")["num_test"] == 12


def test_nothing_is_trained_on_test_images(finished, tmp_path, capsys):
    root, _ = finished
    assert train(root, tmp_path / "out", "DATASET.TEST_CLASSES", "('cat', 'dog', 'owl')") == 2
    assert "leave it out to train" in capsys.readouterr().err


def test_the_images_of_the_run_are_split_as_in_the_run(finished, tmp_path):
    root, run = finished
    assert evaluate(run, root, tmp_path / "own") == 0
    moved = tmp_path / "moved"
    moved.symlink_to(root)  # another path, the same place
    assert evaluate(run, moved, tmp_path / "linked") == 0
    for out in ("own", "linked"):
        now, before = results(tmp_path / out), results(run)
        assert all(now[key] == before[key] for key in ("num_train", "num_test", "split_sha256", "protocol"))


def test_images_that_have_moved(tmp_path, capsys):
    root, run, moved = fill(tmp_path / "data"), tmp_path / "run", tmp_path / "elsewhere" / "moved"
    assert train(root, run) == 0
    moved.parent.mkdir()
    root.rename(moved)
    assert evaluate(run, moved, tmp_path / "out") == 0
    assert results(tmp_path / "out")["split_sha256"] == results(run)["split_sha256"]
    capsys.readouterr()
    assert train(moved, run) == 0 and "finished already" in capsys.readouterr().out

    (run / "results.json").unlink()  # interrupted before its end
    capsys.readouterr()
    assert train(moved, run) == 2 and f"add --resume {run}" in capsys.readouterr().err
    assert train(moved, run, "--resume", run) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["DATASET"]["ROOT"] == str(moved)

    os.unlink(moved / "cat" / "0.png")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    fill(tmp_path / "data", 5)
    for more in ((), ("--resume", run)):
        capsys.readouterr()
        assert train(root, run, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "holds a run on the images of" in line and "choose another --output-dir" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_other_images_of_the_same_names(finished, tmp_path, capsys):
    """In a folder of the same name elsewhere: no other run is taken for this one, no other test images for its own."""
    root, run = finished
    other = fill(tmp_path / root.name, seed=1)
    assert train(other, run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the images of {root}, and those of {other} are not the same" in line and "rename one of the folders" in line
    assert evaluate(run, other, tmp_path / "out") == 0 and results(tmp_path / "out")["num_test"] == 18
    shutil.copytree(root, tmp_path / "copy")
    assert train(tmp_path / "copy", run) == 0 and "finished already" in capsys.readouterr().out


def test_no_advice_that_is_refused_next(tmp_path, capsys):
    """`--resume` is not recommended where the configuration is another one."""
    root, run = fill(tmp_path / "data"), tmp_path / "run"
    assert train(root, run) == 0
    (run / "results.json").unlink()
    capsys.readouterr()
    assert train(root, run, "OPTIM.LR", 0.5) == 2
    line = capsys.readouterr().err
    assert "another configuration (OPTIM.LR" in line and "--resume" not in line


def test_a_key_that_is_newer_than_the_run(finished, capsys):
    root, run = finished
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["DATASET"]["TEST_CLASSES"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert train(root, run) == 0 and "finished already" in capsys.readouterr().out
