"""The figures of the paper: what is in them, and what is said where one cannot be drawn."""

import pytest
import torch

from dassl_vr import load_prompted
from dassl_vr.cli.report import main
from dassl_vr.cli.train import main as train
from dassl_vr.report.features import neighbours_accuracy, scatter_figure
from dassl_vr.report.figures import FIGURES
from dassl_vr.report.figures.base import MissingError, Task, TrainedRun
from dassl_vr.report.figures.galleries import equalized
from dassl_vr.report.loss_change import BaselineCache, loss_change
from dassl_vr.report.runs import group_runs
from dassl_vr.report.samples import data_of


def epochs(offset, *, val=False, test=True):
    return [
        {"epoch": n, "loss": 1.0 / n, "acc": offset + n, **({"val_accuracy": 40.0 + n} if val else {})}
        | ({"test_accuracy": 50.0 + offset + n} if test else {})
        for n in (1, 2, 3)
    ]


def drawn(name, groups):
    return dict(FIGURES.get(name)(Task(groups)).draw())


def test_neighbours_say_how_well_classes_are_separated():
    features = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [0.15]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])  # the last lies among the others
    # each of the first three has two of its own and the stray and two of the far class: counted one by one
    near = [sorted((abs(float(a - b)), j) for j, b in enumerate(features) if i != j)[:5] for i, a in enumerate(features)]
    votes = [[int(labels[j]) for _, j in row] for row in near]
    expected = 100 * sum((row.count(1) > row.count(0)) == bool(label) for row, label in zip(votes, labels)) / 7
    assert neighbours_accuracy(features, labels) == pytest.approx(expected)
    apart = torch.cat([torch.randn(20, 3), torch.randn(20, 3) + 100])
    assert neighbours_accuracy(apart, torch.arange(40) // 20) == 100


def test_each_panel_of_features_has_its_measure():
    generator = torch.Generator().manual_seed(0)
    panels = {f"method {number}": torch.randn(24, 5, generator=generator) for number in range(4)}
    figure = scatter_figure(panels, torch.arange(24) % 3, ["a", "b", "c"], "task")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [title.split("\n")[0] for title in titles] == list(panels)
    assert all("5-nearest-neighbour accuracy" in title and title.endswith(" %") for title in titles)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_equalized_pictures_use_the_whole_scale():
    faint = 0.5 + 0.02 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    spread = equalized(faint)
    assert spread.shape == faint.shape and float(spread.max() - spread.min()) > 0.9


def test_training_and_test_accuracy_with_and_without_smm(make_run, tmp_path):
    make_run("SMM", seed=0, history=epochs(0))
    make_run("SMM", seed=1, history=epochs(4))
    make_run("VR", method="full", seed=0, history=epochs(10))
    make_run("VR", method="pad", seed=0, history=epochs(10, test=False))
    figure = drawn("train_and_test", group_runs([tmp_path / "output"]))["train_and_test"]
    left, right = figure.axes
    assert [line.get_linestyle() for line in right.lines] == ["-", "--"], "no curve of the run without one"
    assert right.lines[0].get_xydata().tolist() == [[1, 53], [2, 54], [3, 55]], "the mean over seeds"
    assert left.lines[1].get_ydata().tolist() == [11, 12, 13]
    assert "selects nothing" in right.get_ylabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SMM", "VR full"]


def test_validation_is_a_panel_where_it_was_noted(make_run, tmp_path):
    make_run("SMM", seed=0, history=epochs(0, val=True))
    make_run("VR", method="full", seed=0, history=epochs(10))
    figure = drawn("curves", group_runs([tmp_path / "output"]))["curves"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 1]
    assert figure.axes[2].lines[0].get_ydata().tolist() == [41, 42, 43] and "validation" in figure.axes[2].get_ylabel()


def test_variants_are_in_the_order_of_their_numbers(make_run, tmp_path):
    for patch_size in (1, 2, 4, 8, 16, 32):
        make_run("SMM", seed=0, tag=f"patch{patch_size}", patch_size=patch_size)
    figure = drawn("curves", group_runs([tmp_path / "output"]))["curves"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [f"SMM, patch{patch_size}" for patch_size in (1, 2, 4, 8, 16, 32)]


def test_a_line_says_what_is_missing_for_each_figure(make_run, tmp_path, capsys):
    make_run("SMM", seed=0)
    assert main([str(tmp_path / "output"), "--figures", str(tmp_path / "figures")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "not drawn" in line]
    missing = ["1", "2", "4", "5", "6", "12", "13"]
    assert [line.split()[2] for line in lines] == missing and all("EuroSAT, rn18: it needs" in line for line in lines)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["EuroSAT-rn18-curves.png"]


def test_no_model_is_missed_in_silence(make_run, tmp_path):
    make_run("SMM", seed=0)
    task = Task(group_runs([tmp_path / "output"]))
    for name in ("confidence", "loss_change", "patch_size", "methods_gallery", "features", "train_and_test", "gallery"):
        with pytest.raises(MissingError, match="it needs"):
            list(FIGURES.get(name)(task).draw())


def test_equalize_belongs_to_figures(make_run, tmp_path, capsys):
    make_run("SMM", seed=0)
    assert main([str(tmp_path / "output"), "--equalize"]) == 2
    assert "add --figures" in capsys.readouterr().err


def test_a_fine_tuned_model_is_compared_with_the_pre_trained_one(real_runs, tmp_path, tiny_command):
    run = tmp_path / "output" / "FullFT" / "seed1"
    assert train(tiny_command(run, "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "True", trainer="FullFT")) == 0
    tuned, prompted = load_prompted(run), load_prompted(real_runs["SMM"])
    cache, data = BaselineCache(), data_of(tuned)
    baseline = cache.get(prompted, data_of(prompted))
    assert cache.get(tuned, data) is baseline, "the same images, the same classes of the backbone"
    change = loss_change(tuned, data, baseline)
    task = Task(group_runs([tmp_path / "output"]))
    figure = FIGURES.get("loss_change")(task)
    figure.look(TrainedRun(task.groups[0], task.names[0], 1, 0, tuned, data, prompts=False))
    assert torch.allclose(task.changes["FullFT"][0].change, change.change, atol=1e-3)
    (picture,) = dict(figure.draw()).values()
    assert picture.legends[0].get_texts()[0].get_text().startswith("FullFT (fine-tuning): rises for")
    features = FIGURES.get("features")(task)
    features.look(TrainedRun(task.groups[0], task.names[0], 1, 0, tuned, data, prompts=False))
    features.look(TrainedRun(task.groups[0], "SMM", 1, 0, prompted, data_of(prompted), prompts=True))
    (picture,) = dict(features.draw()).values()
    headings = [axes.get_title().split("\n")[0] for axes in picture.axes if axes.get_title()]
    assert headings == ["without the prompt", "without the prompt: what a head reads", "FullFT (fine-tuning)", "SMM"]
