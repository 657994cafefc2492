"""Fixtures of the commands' tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a trained LinearProbe on tiny_vit, a run of seconds."""
    from dassl_vr.cli.train import main

    recipe = Path(__file__).resolve().parents[2] / "configs/trainers/LinearProbe/tiny_vit.yaml"
    out = tmp_path_factory.mktemp("run") / "probe"
    command = ["--trainer", "LinearProbe", "--config-file", str(recipe), "--seed", "1", "--output-dir", str(out)]
    settings = ["DATASET.NAME", "digits", "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1", "VERBOSE", "False"]
    assert main([*command, *settings, "TRAIN.END_FIGURES", "False"]) == 0
    return out
