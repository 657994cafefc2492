"""Fixtures shared by all tests."""

import os
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tests compare bits, on the CPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: more threads only get in each other's way

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# A run of seconds with real weights on real images: 30 digits at a side of 32
TINY = [
    "INPUT.SIZE",
    "(32, 32)",
    "DATASET.NUM_SHOTS",
    "3",
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    "8",
    "OPTIM.MAX_EPOCH",
    "3",
    "TRAIN.END_FIGURES",
    "False",
]


@pytest.fixture
def repository():
    return REPOSITORY


@pytest.fixture
def tiny_command():
    """Arguments of `train.py` for a tiny run: tiny_command(output_dir, *more, trainer="SMM", backbone="lite0", seed=1)."""

    def command(output_dir, *more, trainer="SMM", backbone="lite0", seed=1):
        flags, opts = [], [*TINY]
        target = flags
        for word in map(str, more):
            if target is flags and not word.startswith("--") and (not flags or not flags[-1].startswith("--")):
                target = opts  # the first KEY after the flags and their values
            target.append(word)
        recipe = ["--trainer", trainer, "--config-file", str(REPOSITORY / f"configs/trainers/{trainer}/{backbone}.yaml")]
        data = ["--dataset-config-file", str(REPOSITORY / "configs/datasets/digits.yaml")]
        return [*recipe, *data, "--output-dir", str(output_dir), "--seed", str(seed), *flags, *opts]

    return command
