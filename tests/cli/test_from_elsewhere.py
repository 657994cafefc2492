"""A run with relative paths is found and used from another directory, by every command that reads it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dassl_vr.backbones.tiny import WEIGHTS
from dassl_vr.cli.export import main as export
from dassl_vr.cli.predict import main as predict
from dassl_vr.cli.train import main as train
from dassl_vr.cli.visualize import main as visualize
from dassl_vr.config import is_path, read_yaml
from dassl_vr.config.validate import leaves
from dassl_vr.deploy import load_prompted

SETTINGS = ["MODEL.BACKBONE.WEIGHTS", "files/tiny.safetensors", "DATALOADER.STORE", "disk", "DATALOADER.STORE_DIR", "files/stores"]
QUIET = ["TRAIN.END_FIGURES", "False", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", "INPUT.SIZE", "(32, 32)"]
COMMAND = ["--trainer", "LinearProbe", "--config-file", "configs/trainers/LinearProbe/tiny_vit.yaml", "--seed", "1"]
COMMAND += ["--dataset-config-file", "configs/datasets/folder.yaml", "--root", "files/pets", "--output-dir", "runs/one"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Where the run is started: weights and images are in `files`."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "here/files/pets" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.save(tmp_path / f"here/files/pets/{name}/{number}.png")
    shutil.copy(WEIGHTS["vit"], tmp_path / "here/files/tiny.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_run_is_continued_and_used_elsewhere(here, monkeypatch, stopped_once_saved, capsys):
    with stopped_once_saved():
        assert train([*COMMAND, *SETTINGS, *QUIET]) == 130
    run = here / "runs/one"
    paths = {key: value for key, value in leaves(read_yaml(run / "config.yaml")) if is_path(key) and value}
    expected = {"OUTPUT_DIR": "runs/one", "DATASET.ROOT": "files/pets", SETTINGS[0]: SETTINGS[1], SETTINGS[4]: SETTINGS[5]}
    assert paths == {key: str(here / path) for key, path in expected.items()}

    monkeypatch.chdir(here.parent / "elsewhere")
    assert train(["--config-file", f"{run}/config.yaml", "--resume", str(run)]) == 0, "in the place that it had"
    assert json.loads((run / "results.json").read_text())["dataset"] == "pets", "it is called as its folder is"
    assert train(["--eval-only", "--model-dir", str(run)]) == 0
    assert predict([str(run), str(here / "files/pets")]) == 0
    assert visualize([str(run), "--out", "look", "--number", "1", "--features", "0"]) == 0
    assert "<title>LinearProbe on pets, tiny_vit" in Path("look/index.html").read_text()
    assert export([str(run), "bundle"]) == 0
    assert load_prompted("bundle").details.data_name == "pets"
    assert sorted(path.name for path in (here.parent / "elsewhere").iterdir()) == ["bundle", "look"]
    assert str(here) not in (here.parent / "elsewhere/bundle/config.json").read_text(), "of no use to others"

    monkeypatch.chdir(here)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["DATASET"]["ROOT"], config["MODEL"]["BACKBONE"]["WEIGHTS"] = "files/pets", SETTINGS[1]  # as runs had it before
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert train([*COMMAND, *SETTINGS, *QUIET]) == 0 and "finished already" in capsys.readouterr().out
