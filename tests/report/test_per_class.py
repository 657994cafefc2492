"""Tables and pictures of classes, from predictions written for the test."""

import csv
import io

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from dassl_vr.cli.report import main
from dassl_vr.evaluation.predictions import StoredPredictions, write_predictions

NAMES = ["cat", "dog", "$eel_", "never tested"]
TRUE = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = {0: [0, 0, 1, 1, 2, 1], 1: [0, 0, 0, 1, 1, 1]}


@pytest.fixture
def runs(make_run, tmp_path):
    for seed, predicted in PREDICTED.items():
        kept = StoredPredictions(
            np.arange(7),
            np.array([f"{index}.png" for index in range(7)]),
            np.append(TRUE, -1),  # one without a label
            np.array([*predicted, 0]),
            np.full(7, 0.5, np.float32),
            np.array([1, 1, 1, 1, 1, 1, np.nan], np.float32),
            np.zeros((7, 4), np.float16),
        )
        write_predictions(kept, make_run("SMM", seed=seed, classnames=NAMES))
    return tmp_path / "output"


def test_each_class_over_the_seeds(runs, capsys):
    assert main([str(runs), "--per-class", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out.split("\n\n")[1])))
    assert [row["class"] for row in rows] == NAMES[:3], "those with test images"
    assert [row["images"] for row in rows] == ["3", "2", "1"]
    measures = {"accuracy %": recall_score, "precision %": precision_score, "F1 %": f1_score}
    for header, measure in measures.items():
        values = [
            100 * measure(TRUE, predicted, labels=[0, 1, 2], average=None, zero_division=0) for predicted in PREDICTED.values()
        ]
        for row, mean, std in zip(rows, np.mean(values, axis=0), np.std(values, axis=0, ddof=1)):
            assert row[header] == f"{mean:.1f} ± {std:.1f}"
    assert [row["most often taken for"] for row in rows] == ["dog", "$eel_", "dog"]
    assert [row["of its images %"] for row in rows] == ["16.7", "25.0", "100.0"]
    assert "backbone" not in rows[0], "the same in every row"


def test_runs_without_predictions_are_named(runs, make_run, capsys):
    old = make_run("VR", method="full", seed=0)
    assert main([str(runs), "--per-class"]) == 0
    text = capsys.readouterr()
    assert "cat" in text.out and f"left out of the classes: {old}: has no predictions.npz" in text.err
    for run in runs.rglob("predictions.npz"):
        run.unlink()
    assert main([str(runs), "--per-class"]) == 2


def test_confusion_matrices_are_drawn(runs, tmp_path, capsys):
    assert main([str(runs), "--confusion", str(tmp_path / "pictures")]) == 0
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.name == "EuroSAT-rn18-SMM.png" and path.read_bytes().startswith(b"\x89PNG")
    assert main([str(runs), "--confusion", str(tmp_path / "pictures")]) == 2, "what is there stays"
