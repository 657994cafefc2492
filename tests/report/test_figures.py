"""Figures are drawn, and what they say of the models is true."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from dassl_vr.cli.report import main
from dassl_vr.engine.run_directory import read_results
from dassl_vr.plugins import load_plugins
from dassl_vr.report.analysis import features_before_and_after, load_run, loss_change, sample_batches, tsne
from dassl_vr.report.figures import loss_change_figure, patch_size_figure
from dassl_vr.report.runs import group_runs
from dassl_vr.reprogramming import greedy_assignment


def is_picture(path):
    """Whether a PNG shows something: several colours, on more than a speck."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return len(np.unique(pixels, axis=0)) > 20 and (pixels != pixels[0]).any(axis=1).mean() > 0.01


@pytest.fixture(scope="module")
def trainers(real_runs):
    load_plugins()
    return {name: load_run(directory) for name, directory in real_runs.items()}


@pytest.mark.parametrize("name", ["SMM", "VR"])
def test_load_run_is_the_trained_model(trainers, real_runs, name):
    results = read_results(real_runs[name])
    assert trainers[name].test() == results["accuracy"] and trainers[name].test("train") == results["accuracy_train"]


@pytest.mark.parametrize("name", ["SMM", "VR"])
@torch.no_grad()
def test_loss_change_sample_by_sample(trainers, name):
    trainer = trainers[name]
    size, dataset = 32, trainer.dm.train_loader_plain.dataset
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trainer.cfg.INPUT.PIXEL_MEAN, trainer.cfg.INPUT.PIXEL_STD))
    counts, plain_logits, prompted = torch.zeros(1000, 10), [], []
    trainer.set_model_mode("eval")
    for index, datum in enumerate(trainer.dm.dataset.train_x):
        image = datum.read().convert("RGB").resize((size, size), Image.BILINEAR)
        plain = (torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255 - mean) / std
        plain_logits.append(trainer.model.backbone.logits(plain[None]))
        counts[plain_logits[-1].argmax(), datum.label] += 1
        logits = trainer.model(dataset[index]["img"][None])
        prompted.append(F.cross_entropy(logits, torch.tensor([datum.label])))
    source = greedy_assignment(counts)
    plain = [F.cross_entropy(z[:, source], torch.tensor([d.label])) for z, d in zip(plain_logits, trainer.dm.dataset.train_x)]
    expected = torch.stack(prompted) - torch.stack(plain)
    found = loss_change(trainer)
    assert torch.allclose(found.change, expected, atol=1e-3)
    assert found.rises == int((found.change > 0).sum()) and 0 < found.rises < 30


def test_samples_are_the_same_for_every_method(trainers):
    smm, vr = (next(sample_batches(trainers[name], 7)) for name in ("SMM", "VR"))
    assert torch.equal(smm.labels, vr.labels) and torch.equal(smm.plain, vr.plain)
    assert torch.equal(smm.images, smm.plain) and not torch.equal(vr.images, vr.plain), "Pad shows the image small"
    before, after, labels = features_before_and_after(trainers["SMM"], 20)
    assert before.shape == after.shape and len(before) == len(labels) == 20 and not torch.allclose(before, after)
    assert np.isfinite(tsne(before)).all() and np.array_equal(tsne(before), tsne(before))
    assert tsne(before[:3]).shape == (3, 2), "a test set of three images"


@pytest.mark.parametrize("name", ["SMM", "VR"])
@torch.no_grad()
def test_features_are_outputs_for_training_images_before_the_mapping(trainers, name):
    trainer = trainers[name]
    items = [trainer.dm.train_loader_plain.dataset[index] for index in range(30)]
    before, after, labels = features_before_and_after(trainer, 5000)
    assert labels.tolist() == [item["label"] for item in items], "all thirty, fewer than asked for"
    trainer.set_model_mode("eval")
    for position in (0, 17, 29):
        backbone, item = trainer.model.backbone, items[position]
        assert torch.allclose(before[position], backbone.logits(item["img0"][None])[0], atol=1e-3)
        assert torch.allclose(after[position], backbone.logits(trainer.model.f_in(item["img"][None]))[0], atol=1e-3)
    some = features_before_and_after(trainer, 12)[1]
    assert len(some) == 12 and torch.equal(some, features_before_and_after(trainer, 12)[1])


def test_figures_of_real_runs(real_runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dassl_vr.report.figures.TSNE_SAMPLES", 25)
    assert main([*map(str, real_runs.values()), "--figures", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    made = {path.name for path in tmp_path.iterdir()}
    kinds = [f"{name}-{kind}" for name in ("SMM", "VR_pad") for kind in ("gallery", "features")]
    assert made == {f"digits-lite0-{kind}.png" for kind in ("curves", "loss_change", *kinds)}
    assert all(is_picture(path) for path in tmp_path.iterdir())
    assert err.count("wrote ") == len(made) and "warning" not in err
    row = next(line for line in out.splitlines() if "VR pad" in line and line.startswith("digits"))
    assert " 30 " in row, "training samples"


def test_patch_size_figure(make_run, tmp_path, monkeypatch, capsys):
    for patch_size, accuracy in ((4, 88.0), (8, 92.0), (16, 91.0)):
        for seed in (0, 1):
            make_run("SMM", seed=seed, tag=f"patch{patch_size}", patch_size=patch_size, accuracy=accuracy + seed)
    make_run("VR", method="full", seed=0, accuracy=84.0)
    make_run("SMM", seed=0, tag="demo", patch_size=8, accuracy=1.0)
    make_run("SMM", seed=0, tag="mapping-blm", mapping="blm", patch_size=8, accuracy=50.0)
    groups = [group for group in group_runs([tmp_path / "output"]) if group.tag != "demo"]
    figure = patch_size_figure(groups, "EuroSAT")
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["VR full", "SMM"]
    points = axes.containers[0].lines[0].get_xydata()
    assert points.tolist() == [[4, 88.5], [8, 92.5], [16, 91.5]]
    # Models that are not there are named, and the other figures drawn
    assert main([str(tmp_path / "output"), "--figures", str(tmp_path / "figures")]) == 0
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"EuroSAT-rn18-{kind}.png" for kind in ("patch_size", "curves")
    }
    assert all(is_picture(path) for path in (tmp_path / "figures").iterdir())
    assert "warning: no model of" in capsys.readouterr().err
    assert main([str(tmp_path / "output"), "--figures", str(tmp_path / "figures")]) == 2, "none is written over"
    assert "exists already" in capsys.readouterr().err


def test_no_figure_without_data(make_run, tmp_path):
    make_run("SMM", seed=0)
    assert patch_size_figure(group_runs([tmp_path / "output"]), "EuroSAT") is None
    assert loss_change_figure([[]], ["SMM"], "EuroSAT") is None


def test_missing_matplotlib_is_one_line(make_run, tmp_path, monkeypatch, capsys):
    make_run("SMM", seed=0)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([str(tmp_path / "output"), "--figures", str(tmp_path / "figures")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'dassl_vr[report]'" in error and error.count("\n") == 1
