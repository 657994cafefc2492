"""What a run has measured comes out of its directory, its bundle and its ONNX graph, whatever the trainer."""

import json
import shutil

import pytest
import torch

from dassl_vr import load_prompted
from dassl_vr.cli.export import main as export
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.evaluation.predictions import read_predictions
from dassl_vr.plugins import load_plugins

load_plugins()
OURS = [
    name for name in TRAINER_REGISTRY.registered_names() if TRAINER_REGISTRY.get(name).__module__.startswith("dassl_vr.trainers")
]

# Accuracies of bundles, in a process that can reach nobody
ELSEWHERE = """
import json, socket, sys
import torch
def refuse(*args, **kwargs):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from dassl_vr import load_prompted
pixels, labels = torch.load(sys.argv[1], weights_only=True)
accuracies = {}
for directory in sys.argv[2:]:
    model = load_prompted(directory, device="cpu")
    correct = int((model.predict(pixels).labels == labels).sum())
    accuracies[directory] = 100.0 * correct / len(labels)
print(json.dumps(accuracies))
"""


def results_in(directory):
    return json.loads((directory / "results.json").read_text())


def accuracy_in_results(directory):
    return results_in(directory)["accuracy"]


# Of trainers whose graphs have the same parts one is enough by default: a conversion to ONNX takes seconds
DIFFERENT = {"SMM", "CoCoOp", "MaPLe", "CLIPLoRA", "TipAdapterF"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in DIFFERENT else pytest.mark.slow) for name in OURS])
def test_run_and_onnx_agree(name, trained, digits, tmp_path, capsys):
    images, labels = digits
    model = load_prompted(trained(name), device="cpu")
    predictions = model.predict(images)
    assert 100.0 * int((predictions.labels == labels).sum()) / len(labels) == accuracy_in_results(trained(name))

    kept = read_predictions(trained(name))
    assert kept.predicted.tolist() == predictions.labels.tolist() and kept.label.tolist() == labels.tolist()
    torch.testing.assert_close(torch.from_numpy(kept.probabilities).float(), predictions.probabilities, atol=1e-3, rtol=1e-3)

    assert export([str(trained(name)), str(tmp_path / "graph"), "--format", "onnx"]) == 0
    assert "onnx: the same class as the model" in capsys.readouterr().out
    graph = load_prompted(tmp_path / "graph")
    for batch in (images[:1], images[:50]):
        expected, got = model.predict(batch), graph.predict(batch)
        assert torch.equal(got.labels, expected.labels)
        assert torch.allclose(got.probabilities, expected.probabilities, atol=1e-4)


@pytest.mark.parametrize("name", ["SMM", "CoCoOp"])
def test_torch_program_agrees(name, trained, digits, tmp_path):
    model = load_prompted(trained(name), device="cpu")
    assert export([str(trained(name)), str(tmp_path / "program"), "--format", "torch"]) == 0
    program = torch.export.load(tmp_path / "program" / "model.pt2").module()
    pixels = model.preprocess(digits[0][:7])
    with torch.no_grad():
        assert torch.allclose(program(pixels), model(pixels), atol=1e-3)


def test_bundles_in_another_place_and_process_without_network(trained, digits, tmp_path, repository, run_python):
    bundles = {}
    for name in OURS:
        results, kept = results_in(trained(name)), read_predictions(trained(name))
        assert results["flops"] > 10**6 and 100 * kept.right.mean() == pytest.approx(results["accuracy"]), name
        assert export([str(trained(name)), str(tmp_path / "first" / name)]) == 0
        bundles[name] = tmp_path / "second" / name
        shutil.move(tmp_path / "first" / name, bundles[name])
    images, labels = digits
    torch.save((torch.stack([torch.from_numpy(_rgb(image)) for image in images]), labels), tmp_path / "digits.pt")
    run = run_python("-c", ELSEWHERE, tmp_path / "digits.pt", *bundles.values(), env=_environment(repository))
    assert run.returncode == 0, run.stderr
    accuracies = json.loads(run.stdout)
    assert accuracies == {str(bundles[name]): accuracy_in_results(trained(name)) for name in OURS}


def _rgb(image):
    import numpy as np

    return np.asarray(image).transpose(2, 0, 1).copy()


def _environment(repository):
    import os

    return {**os.environ, "PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "1"}
