"""A run is continued, tested and used on the backbone's weights that it was trained on, wherever their file is."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dassl_vr.backbones.tiny import WEIGHTS
from dassl_vr.cli.export import main as export
from dassl_vr.cli.predict import main as predict
from dassl_vr.cli.train import main
from dassl_vr.cli.visualize import main as visualize
from dassl_vr.deploy import load_prompted

KEY = "MODEL.BACKBONE.WEIGHTS"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two files of the same model: (those of the package, others)."""
    directory = tmp_path_factory.mktemp("weights")
    first, second = directory / "first.safetensors", directory / "second.safetensors"
    shutil.copy(WEIGHTS["vit"], first)
    save_file({name: 1.1 * tensor for name, tensor in load_file(first).items()}, second)
    return first, second


@pytest.fixture
def command(tiny_command):
    def make(out, *more):
        return tiny_command(out, *more, "VERBOSE", "False", trainer="LinearProbe", backbone="tiny_vit")

    return make


def refused(capsys, function, arguments):
    capsys.readouterr()
    assert function([str(word) for word in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "trained on a backbone whose weights have the SHA-256" in line and "WEIGHTS" in line.upper()


def test_a_finished_run(tmp_path, command, weights, capsys):
    used, run = tmp_path / "used.safetensors", tmp_path / "run"
    shutil.copy(weights[0], used)
    assert main(command(run, KEY, used)) == 0
    recorded = json.loads((run / "results.json").read_text())["weights_sha256"]
    assert recorded == load_prompted(run).details.backbone.weights_sha256

    used.rename(tmp_path / "moved.safetensors")  # the same weights elsewhere
    moved = [KEY, tmp_path / "moved.safetensors"]
    assert main(["--eval-only", "--model-dir", str(run), *map(str, moved)]) == 0
    capsys.readouterr()
    assert main(command(run, *moved)) == 0 and "finished already" in capsys.readouterr().out

    shutil.copy(weights[1], used)  # others under the old name
    image = tmp_path / "image.png"
    Image.new("RGB", (32, 32)).save(image)
    refused(capsys, main, ["--eval-only", "--model-dir", run])
    refused(capsys, predict, [run, image])
    refused(capsys, export, [run, tmp_path / "bundle"])
    refused(capsys, visualize, [run, "--out", tmp_path / "look"])
    refused(capsys, main, command(run, KEY, weights[1]))
    assert not (tmp_path / "bundle").exists() and not (tmp_path / "look").exists()

    results = json.loads((run / "results.json").read_text())
    results.pop("weights_sha256")  # of an older version: taken as it is
    (run / "results.json").write_text(json.dumps(results))
    assert main(["--eval-only", "--model-dir", str(run)]) == 0


def test_an_unfinished_run(tmp_path, command, weights, capsys, stopped_once_saved):
    used, run = tmp_path / "used.safetensors", tmp_path / "run"
    shutil.copy(weights[0], used)
    with stopped_once_saved():
        assert main(command(run, KEY, used)) == 130
    shutil.copy(weights[1], used)
    for other in (used, weights[1]):
        refused(capsys, main, command(run, "--resume", run, KEY, other))
    assert main(command(run, "--resume", run, KEY, weights[0])) == 0
    assert "epoch 2 is next" in capsys.readouterr().out


def test_a_random_backbone_is_that_of_its_seed(tmp_path, command, capsys):
    run = tmp_path / "run"
    assert main(command(run, "MODEL.BACKBONE.PRETRAINED", False)) == 0
    torch.manual_seed(123)
    assert main(["--eval-only", "--model-dir", str(run)]) == 0
    refused(capsys, main, ["--eval-only", "--model-dir", run, "--seed", "2"])
