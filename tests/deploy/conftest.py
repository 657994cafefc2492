"""A tiny trained run of every trainer on digits, made once and only when it is asked for."""

from pathlib import Path

import pytest
import torch

from dassl_vr import load_prompted
from dassl_vr.cli.train import main as train
from dassl_vr.data.datasets import build_dataset
from dassl_vr.plugins import load_plugins

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ("tiny_vit", "tiny_clip", "lite0")  # the first that a trainer has a recipe for


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """trained("SMM") -> directory of its run."""
    runs, base = {}, tmp_path_factory.mktemp("runs")

    def run(name):
        if name not in runs:
            recipes = [REPOSITORY / f"configs/trainers/{name}/{backbone}.yaml" for backbone in SMALL]
            recipe = next(path for path in recipes if path.is_file())
            command = ["--trainer", name, "--config-file", str(recipe), "--seed", "1", "--output-dir", str(base / name)]
            settings = ["DATASET.NAME", "digits", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1", "VERBOSE", "False"]
            settings += ["TRAIN.END_FIGURES", "False"]
            assert train([*command, *settings, "DATALOADER.TRAIN_X.BATCH_SIZE", "10"]) == 0
            runs[name] = base / name
        return runs[name]

    return run


@pytest.fixture(scope="session")
def smm_bundle(trained, tmp_path_factory):
    """A bundle that tests must leave as it is."""
    from dassl_vr.deploy.bundle import write_bundle

    out = tmp_path_factory.mktemp("bundle") / "smm"
    write_bundle(load_prompted(trained("SMM")), out)
    return out


@pytest.fixture(scope="session")
def digits(trained):
    """(test images as PIL images, their labels)."""
    load_plugins()
    items = build_dataset(load_prompted(trained("SMM")).details.cfg).test
    return [item.read() for item in items], torch.tensor([item.label for item in items])
