"""Whole runs: the same numbers with any kind of store, and bad images counted in the results."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from dassl_vr.cli.train import main


def results_of(directory):
    return json.loads((directory / "results.json").read_text())


@pytest.fixture
def photographs(tmp_path):
    """30 files, 2 classes, with colours that tell them apart a little."""
    rng = np.random.default_rng(0)
    for number in range(30):
        pixels = rng.integers(0, 256, (40, 44, 3))
        pixels[..., number % 2] //= 2
        path = tmp_path / "photographs" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "photographs"


def train(tiny_command, output, root, *pairs):
    keys = ("DATASET.NAME", "folder", "DATASET.ROOT", str(root), "DATASET.NUM_SHOTS", "-1", "OPTIM.MAX_EPOCH", "2")
    assert main(tiny_command(output, *keys, "DATALOADER.NUM_WORKERS", "0", *pairs)) == 0
    return results_of(output)


def test_accuracies_and_losses_do_not_depend_on_the_store(tiny_command, photographs, tmp_path):
    runs = {how: train(tiny_command, tmp_path / how, photographs, "DATALOADER.STORE", how) for how in ("off", "memory", "disk")}
    for how in ("memory", "disk"):
        for key in ("accuracy", "accuracy_train", "macro_f1", "history", "metrics", "split_sha256"):
            ours, reference = [_without_time(run[key]) for run in (runs[how], runs["off"])]
            assert ours == reference, key
    assert list((photographs / ".image_store").glob("*.bin")) and runs["off"]["skipped_images"] == 0
    # a finished run is left alone whatever the store: it changes no result
    assert main(tiny_command(tmp_path / "off", "DATASET.NAME", "folder", "DATASET.ROOT", str(photographs), "DATASET.NUM_SHOTS",
                             "-1", "OPTIM.MAX_EPOCH", "2", "DATALOADER.STORE", "memory")) == 0  # fmt: skip


def _without_time(value):
    if isinstance(value, dict):
        return {key: _without_time(entry) for key, entry in value.items() if "second" not in key and "time" not in key}
    return [_without_time(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("how", ["auto", "off"])
def test_skipped_images_are_counted_in_the_results(tiny_command, photographs, tmp_path, how, capsys):
    (photographs / "a" / "2.jpg").write_bytes(b"")
    (photographs / "b" / "5.jpg").write_text("no image")
    results = train(
        tiny_command, tmp_path / "run", photographs, "DATALOADER.STORE", how, "DATASET.ON_BAD_IMAGE", "skip",
        "DATALOADER.TRAIN_X.DROP_LAST", "False",
    )  # fmt: skip
    assert results["skipped_images"] == 2 and results["num_train"] + results["num_test"] > 25
    capsys.readouterr()
    shutil.rmtree(tmp_path / "run")
    keys = ("DATASET.NAME", "folder", "DATASET.ROOT", str(photographs), "DATASET.NUM_SHOTS", "-1", "DATALOADER.STORE", how)
    assert main(tiny_command(tmp_path / "run", *keys)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: image ") and ("2.jpg" in error or "5.jpg" in error)
