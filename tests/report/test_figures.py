"""Figures are drawn, and what they say of the models is true."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from dassl_vr import load_prompted
from dassl_vr.cli.report import main
from dassl_vr.cli.train import main as train
from dassl_vr.engine.results import read_results
from dassl_vr.plugins import load_plugins
from dassl_vr.report.canvas import save
from dassl_vr.report.features import tsne
from dassl_vr.report.figures.galleries import gallery_figure
from dassl_vr.report.figures.patch_size import patch_size_figure
from dassl_vr.report.figures.sample_losses import loss_change_figure
from dassl_vr.report.look import image_figure, look_at
from dassl_vr.report.loss_change import BaselineCache, LossChange, loss_change, unprompted_losses
from dassl_vr.report.runs import group_runs
from dassl_vr.report.samples import data_of, spread
from dassl_vr.reprogramming import greedy_assignment
from dassl_vr.utils.errors import DataError


def is_picture(path):
    """Whether a PNG shows something: several colours, on more than a speck."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return len(np.unique(pixels, axis=0)) > 20 and (pixels != pixels[0]).any(axis=1).mean() > 0.01


@pytest.fixture(scope="module")
def runs(real_runs):
    """{trainer: (its model, the data it was trained on)}"""
    load_plugins()
    models = {name: load_prompted(directory) for name, directory in real_runs.items()}
    return {name: (model, data_of(model)) for name, model in models.items()}


@pytest.mark.parametrize("name", ["SMM", "VR"])
def test_the_data_of_a_run_are_those_it_was_trained_on(runs, real_runs, name):
    model, data = runs[name]
    results = read_results(real_runs[name])
    assert data.split_sha256 == results["split_sha256"]
    with torch.no_grad():
        hits = [(model.network(batch["img"]).argmax(dim=1) == batch["label"]) for batch in data.train_loader_plain]
    assert 100 * float(torch.cat(hits).float().mean()) == pytest.approx(results["accuracy_train"])


def test_data_with_other_classes_are_refused(real_runs):
    model = load_prompted(real_runs["SMM"])
    model.classnames[3] = "three"
    with pytest.raises(DataError, match="has other classes than the model"):
        data_of(model)


@pytest.mark.parametrize("name", ["SMM", "VR"])
@torch.no_grad()
def test_loss_change_sample_by_sample(runs, name):
    model, data = runs[name]
    size, dataset, cfg = 32, data.train_loader_plain.dataset, model.details.cfg
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
    counts, plain_logits, prompted = torch.zeros(len(model.details.backbone.source_classes), 10), [], []
    for index, datum in enumerate(data.dataset.train_x):
        image = datum.read().convert("RGB").resize((size, size), Image.BILINEAR)
        plain = (torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255 - mean) / std
        plain_logits.append(model.details.backbone.logits(plain[None]))
        counts[plain_logits[-1].argmax(), datum.label] += 1
        logits = model.network(dataset[index]["img"][None])
        prompted.append(F.cross_entropy(logits, torch.tensor([datum.label])))
    source = greedy_assignment(counts)
    plain = [F.cross_entropy(z[:, source], torch.tensor([d.label])) for z, d in zip(plain_logits, data.dataset.train_x)]
    expected = torch.stack(prompted) - torch.stack(plain)
    found = loss_change(model, data)
    assert torch.allclose(found.change, expected, atol=1e-3)
    assert found.rises == int((found.change > 0).sum()) and 0 < found.rises < 30


def test_the_unprompted_model_is_the_same_for_every_method(runs):
    (smm, data), (vr, of_vr) = runs["SMM"], runs["VR"]
    cache = BaselineCache()
    assert cache.get(smm, data) is cache.get(vr, of_vr) and torch.equal(unprompted_losses(vr, of_vr), cache.get(smm, data))


def test_tokens_are_no_part_of_the_unprompted_model(tmp_path, tiny_command):
    losses = {}
    for trainer in ("VPT", "VR"):
        run = tmp_path / trainer
        assert train(tiny_command(run, "INPUT.SIZE", "(64, 64)", trainer=trainer, backbone="tiny_clip")) == 0
        model = load_prompted(run)
        losses[trainer] = unprompted_losses(model, data_of(model))
    assert torch.equal(*losses.values())


def test_tsne_is_the_same_at_every_call():
    features = torch.randn(20, 60, generator=torch.Generator().manual_seed(1))
    assert np.isfinite(tsne(features)).all() and np.array_equal(tsne(features), tsne(features))
    assert tsne(features[:3]).shape == (3, 2), "a test set of three images"


def texts_cut_off(figure):
    """Headings, labels and entries of legends that do not lie wholly within a figure."""
    figure.canvas.draw()
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
    texts += [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    edges, texts = figure.bbox.padded(1), [text for text in texts if text.get_text().strip()]
    return [text.get_text() for text in texts if not all(map(edges.contains, *text.get_window_extent().corners().T))]


def test_no_text_of_a_gallery_is_cut_off(runs, monkeypatch):
    model, data = runs["SMM"]
    monkeypatch.setitem(model.details.cfg.DATASET, "NAME", "a data set of a long name")
    assert not texts_cut_off(gallery_figure(model, data, "title"))


def test_a_row_of_the_gallery_is_the_picture_of_an_image(runs):
    model, data = runs["VR"]
    figure = gallery_figure(model, data, "title")
    headings = [axes.get_title() for axes in figure.axes]
    columns = headings.index("after: classes of\ndigits") + 1
    charts = ["before:\nsource classes", "after: classes of\ndigits"]
    assert headings[:columns] == ["image", "input", "mask", "change", "result", *charts]
    assert not any(headings[columns:]) and len(figure.axes) == 5 * columns + 1, "five rows, and the scale of the masks"
    images, labels = spread(data.dataset.test, 5)
    look = look_at(model, images, [str(number) for number in range(5)], labels)
    for row, label in enumerate(labels.tolist()):
        alone = image_figure(look, row)
        for column in (0, 4):
            pictures = [axes.images[0].get_array() for axes in (figure.axes[row * columns + column], alone.axes[column])]
            assert np.array_equal(*pictures)
        truth = model.classnames[label]
        assert f"true: {truth}" in figure.axes[row * columns].get_ylabel() and f"true class: {truth}" in alone.get_suptitle()


def test_figures_of_real_runs(real_runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dassl_vr.report.figures.output_features.TSNE_SAMPLES", 25)
    monkeypatch.setattr(
        "dassl_vr.report.figures.save_figure", lambda figure, path: (cut_off.extend(texts_cut_off(figure)), save(figure, path))
    )
    cut_off = []
    assert main([*map(str, real_runs.values()), "--figures", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert not cut_off
    made = {path.name for path in tmp_path.iterdir()}
    kinds = ("confidence", "curves", "loss_change", "features", "gallery", "SMM-gallery", "VR_pad-gallery")
    assert made == {f"digits-tiny_vit-{kind}.png" for kind in kinds}
    assert [line.split()[2] for line in err.splitlines() if "is not drawn" in line] == ["4", "12"], "a line says what is missing"
    assert all(is_picture(path) for path in tmp_path.iterdir())
    assert err.count("wrote ") == len(made) and "warning" not in err
    row = [line for line in out.splitlines() if "VR pad" in line and line.startswith("digits")][-1]  # of the change of the loss
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


def test_long_names_stay_within_their_figures(make_run, tmp_path):
    for patch_size in (4, 8):
        make_run("SMM", seed=0, tag=f"patch{patch_size}", patch_size=patch_size)
    make_run("VR", method="full", seed=0)
    groups, task = group_runs([tmp_path / "output"]), "StanfordCars, timm:vit_base_patch16_224.orig_in21k, a-tag"
    change = LossChange(torch.linspace(-1, 1, 30))
    figures = [patch_size_figure(groups, task), loss_change_figure([[change]], [f"SMM, {'long ' * 5}(fine-tuning)"], task)]
    assert not [text for figure in figures for text in texts_cut_off(figure)]


def test_missing_matplotlib_is_one_line(make_run, tmp_path, monkeypatch, capsys):
    make_run("SMM", seed=0)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([str(tmp_path / "output"), "--figures", str(tmp_path / "figures")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'dassl_vr[report]'" in error and error.count("\n") == 1
