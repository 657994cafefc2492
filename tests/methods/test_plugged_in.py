"""An f_in and an f_out in plug-in files do all that a shipped one does."""

import json
import sys

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dassl_vr import load_prompted
from dassl_vr.cli.compare import main as compare
from dassl_vr.cli.export import main as export
from dassl_vr.cli.predict import main as predict
from dassl_vr.cli.report import main as report
from dassl_vr.cli.train import main as train
from dassl_vr.cli.visualize import main as visualize
from dassl_vr.config import get_cfg_default
from dassl_vr.engine import trainer as engine
from dassl_vr.reprogramming import INPUT_REGISTRY, MAPPING_REGISTRY

PLUGINS = {"affine": ("METHOD", "affine"), "soft": ("MAPPING", "soft"), "counted": ("MAPPING", "means")}


@pytest.fixture(autouse=True)
def registries_as_they_were():
    """A plug-in is there only for the test that asks for it."""
    tables = [vars(registry)[name] for registry in (INPUT_REGISTRY, MAPPING_REGISTRY) for name in ("_objects", "_canonical")]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before):
        table.clear()
        table.update(old)
    for name in PLUGINS:
        sys.modules.pop(f"dassl_vr_plugin_{name}", None)


@pytest.mark.parametrize("name", PLUGINS)
def test_from_training_to_every_command(repository, tiny_command, tmp_path, monkeypatch, capsys, name):
    plugin = ["--plugin", str(repository / f"tests/plugins/{name}.py")]
    key, value = PLUGINS[name]
    run, whole = tmp_path / "runs" / "cut", tmp_path / "runs" / "whole"
    settings = [*plugin, f"TRAINER.VR.{key}", value]
    assert train(tiny_command(whole, *settings, trainer="VR", backbone="tiny_vit")) == 0

    # Interrupted after each epoch and resumed, it is the same run
    save = engine.save_resume_file
    monkeypatch.setattr(engine, "save_resume_file", lambda *args: (save(*args), (_ for _ in ()).throw(KeyboardInterrupt)))
    for _ in range(2):
        assert train(tiny_command(run, "--resume", run, *settings, trainer="VR", backbone="tiny_vit")) == 130
    monkeypatch.setattr(engine, "save_resume_file", save)
    assert train(tiny_command(run, "--resume", run, *settings, trainer="VR", backbone="tiny_vit")) == 0
    one, other = (load_prompted(path, plugins=plugin[1:]) for path in (whole, run))
    pixels = torch.randint(0, 256, (4, *one.pixel_shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.logits_of(pixels), other.logits_of(pixels))
    if name == "affine":
        assert not torch.equal(one.network.f_in.theta, torch.eye(2, 3))
    if name == "soft":
        assert one.network.f_out.weights.std() > 0 and one.details.results["mapping"] == "soft"

    picture, answers = tmp_path / "picture.png", {}
    Image.fromarray((load_digits().images[0] * 15).astype("uint8")).resize((64, 64)).save(picture)
    bundle, graph = tmp_path / "bundle", tmp_path / "graph"
    assert export([str(whole), str(bundle), *plugin]) == 0
    assert export([str(whole), str(graph), "--format", "onnx", *plugin]) == 0
    for place in (whole, bundle, graph):
        capsys.readouterr()
        assert predict([str(place), str(picture), "--json", *plugin]) == 0
        answers[place] = json.loads(capsys.readouterr().out)["predictions"][0]["classes"][0]
    assert {answer["class"] for answer in answers.values()} == {answers[whole]["class"]}
    for answer in answers.values():
        assert answer["probability"] == pytest.approx(answers[whole]["probability"], abs=1e-4)
    assert visualize([str(whole), "--out", str(tmp_path / "page"), "--number", "2", "--features", "0", *plugin]) == 0
    assert (tmp_path / "page" / "index.html").is_file()
    figures = ["--figures", str(tmp_path / "figures")] if name == "affine" else []
    assert report([str(whole), *figures, *plugin]) == 0
    assert (f"VR {value}" if name == "affine" else "VR full") in capsys.readouterr().out


def test_an_f_in_of_a_plugin_is_compared(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    plugin = str(repository / "tests/plugins/affine.py")
    words = ["digits", "tiny_vit", "--trainers", "VR", "--output", str(tmp_path), "--plugin", plugin]
    assert compare([*words, "--dry-run"]) == 0
    assert "VR-affine" in capsys.readouterr().out
    short = ["OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "2", "TRAIN.END_FIGURES", "False"]
    words[3] = "VR-affine"
    assert compare([*words, "--epochs", "1", "--shots", "2", "--", *short[4:]]) == 0
    assert "VR affine" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["METHOD", "MAPPING"])
def test_an_unknown_name_lists_those_registered(tiny_command, tmp_path, capsys, key):
    assert train(tiny_command(tmp_path / "run", f"TRAINER.VR.{key}", "colours", trainer="VR")) == 2
    line = capsys.readouterr().err
    assert f"TRAINER.VR.{key} is 'colours'" in line and ("narrow" if key == "METHOD" else "blm+") in line


def test_keys_are_those_of_before():
    assert {"METHOD", "MAPPING", "MAPPING_ON", "MAPPING_PASS"} <= set(get_cfg_default().TRAINER.VR)


def test_a_module_that_fixes_the_batch_is_named_at_export(repository, tiny_command, tmp_path, capsys):
    source = (repository / "tests/plugins/affine.py").read_text()
    source = source.replace("x.shape[0], -1", "len(x), -1").replace('"affine"', '"fixed"')
    plugin = tmp_path / "fixed.py"
    plugin.write_text(source)
    run, out = tmp_path / "run", tmp_path / "graph"
    settings = ["--plugin", str(plugin), "TRAINER.VR.METHOD", "fixed", "OPTIM.MAX_EPOCH", "1"]
    assert train(tiny_command(run, *settings, trainer="VR", backbone="tiny_vit")) == 0
    capsys.readouterr()
    assert export([str(run), str(out), "--format", "onnx", "--plugin", str(plugin)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "x.shape[0]" in line and not out.exists()
