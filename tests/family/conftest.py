"""A checkout of the Dassl family with its data, and running a train.py in a process of its own."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import served
from PIL import Image

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
COLOURS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (200, 40, 50)}


@pytest.fixture
def checkout(tmp_path):
    """tmp_path/checkout: a train.py, trainers/, datasets/ and a module of the family; tmp_path/data: its images."""
    shutil.copytree(HERE / "checkout", tmp_path / "checkout", ignore=shutil.ignore_patterns("__pycache__"))
    rng = np.random.default_rng(0)
    for split, number in (("train", 10), ("test", 6)):
        for name, colour in COLOURS.items():
            folder = tmp_path / "data" / "colours" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = np.clip(colour + rng.normal(0, 30, (24, 24, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "checkout"


@pytest.fixture
def run_python(tmp_path):
    """run_python(*arguments, original=False): a process in tmp_path; `original` puts the stand-in for Dassl on its path."""

    def run(*arguments, original=False, cwd=tmp_path):
        path = [str(REPOSITORY), *([str(HERE / "original")] if original else [])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        return served.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True)

    return run


def last_accuracy(text):
    return re.findall(r"\* accuracy: ([\d.]+)%", text)[-1]
