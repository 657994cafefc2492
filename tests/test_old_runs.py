"""What earlier versions wrote is still read: unfinished and finished runs, and a bundle, in tests/old_runs/.

They are of November 2026, on digits with four training images per class, three epochs, seed 1. `vr` and `vpt` were interrupted
after the second epoch. The expected figures are those that the version of that day gave. They are compared with a tolerance,
since the last bits of a sum depend on the processor.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from dassl_vr import load_prompted
from dassl_vr.cli.train import main as train
from dassl_vr.data.datasets import build_dataset
from dassl_vr.plugins import load_plugins

OLD = Path(__file__).parent / "old_runs"
# run: loss per epoch, accuracy of the uninterrupted run
UNFINISHED = {"vr": ([4.26377, 4.16013, 3.55206], 16.51), "vpt": ([2.34683, 2.08409, 1.93252], 28.20)}


@pytest.fixture
def old(tmp_path):
    """old("vr") -> a copy that may be written to."""
    return lambda name: shutil.copytree(OLD / name, tmp_path / name)


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_run_is_resumed(name, old):
    run = old(name)
    assert train(["--config-file", str(run / "config.yaml"), "--output-dir", str(run), "--resume", str(run)]) == 0
    results = json.loads((run / "results.json").read_text())
    losses, accuracy = UNFINISHED[name]
    assert [entry["loss"] for entry in results["history"]] == pytest.approx(losses, abs=2e-3)
    assert results["accuracy"] == pytest.approx(accuracy, abs=0.6)  # three of 539 images


def test_a_finished_run_is_tested_again(old, capsys):
    run = old("coop")
    assert train(["--eval-only", "--model-dir", str(run)]) == 0
    assert "* accuracy: 94.6%" in capsys.readouterr().out


@pytest.mark.parametrize("name, right", [("coop", 510), ("smm_bundle", 88)])
def test_predictions_are_the_same(name, right):
    model = load_prompted(OLD / name)
    load_plugins()
    items = build_dataset(model.details.cfg).test
    labels = torch.tensor([item.label for item in items])
    predicted = model.predict([item.read() for item in items]).labels
    assert abs((predicted == labels).sum().item() - right) <= 3
