"""`python -m dassl_vr.report` on results that were written by hand."""

import csv
import io
import shutil

import pytest

from dassl_vr.report.__main__ import main
from dassl_vr.report.paper import paper_accuracy
from dassl_vr.report.runs import group_runs
from dassl_vr.report.tables import FORMATS, results_table


def table(directory):
    """The table as a list of {column: text}."""
    headers, rows = results_table(group_runs([directory]))
    return [dict(zip(headers, row, strict=True)) for row in rows]


def test_mean_deviation_paper_gap_and_missing_seeds(make_run, tmp_path):
    for seed, accuracy in ((0, 90.0), (1, 91.0), (2, 92.0)):
        make_run("SMM", seed=seed, accuracy=accuracy, accuracy_train=accuracy + 1.5)
    make_run("VR", method="full", seed=1, accuracy=85.0)
    shutil.copytree(make_run("VR", method="full", seed=2), tmp_path / "output/eurosat/VR-full/rn18/default/seed3")
    unfinished = tmp_path / "output/eurosat/VR-full/rn18/default/seed3"
    (unfinished / "results.json").unlink()
    (unfinished / "config.yaml").write_text("SEED: 3\n")
    smm, full = table(tmp_path / "output")
    assert smm["method"] == "SMM" and smm["accuracy %"] == "91.0 ± 1.0"
    assert (smm["paper"], smm["difference"]) == ("92.2 ± 0.2", "-1.2")
    assert (smm["train - test"], smm["missing seeds"], smm["seeds"]) == ("+1.5", "", "3")
    assert (smm["trained"], smm["% of backbone"], smm["train s"]) == ("150,528", "1.29", "61")
    assert smm["epochs"] == "200", "stands beside a number of the paper"
    assert full["method"] == "VR full" and full["paper"] == "84.3 ± 0.5"
    assert full["missing seeds"] == "0, seed3 unfinished"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"trainer": "SMM", "method": "single_channel"}, paper_accuracy("rn18", "eurosat", "single_channel")),
        ({"trainer": "SMM", "method": "only_mask"}, paper_accuracy("rn18", "eurosat", "only_mask")),
        ({"trainer": "VR", "method": "full"}, paper_accuracy("rn18", "eurosat", "full")),
        ({"trainer": "SMM", "patch_size": 8}, (92.2, 0.2)),
        ({"trainer": "SMM", "patch_size": 4}, None),
        ({"trainer": "SMM", "patch_size": 8, "layers": 6}, None),
        ({"trainer": "SMM", "patch_size": 16, "layers": 6}, None),
        ({"trainer": "SMM", "patch_size": 8, "backbone": "rn50"}, (92.0, 0.6)),
        ({"trainer": "SMM", "patch_size": 8, "layers": 6, "backbone": "rn50"}, None),
        ({"trainer": "SMM", "patch_size": 8, "layers": 6, "backbone": "vit_b32"}, (93.5, None)),
        ({"trainer": "SMM", "patch_size": 16, "layers": 6, "backbone": "vit_b32"}, None),
        ({"trainer": "SMM", "patch_size": 8, "layers": 5, "backbone": "vit_b32"}, None),
        ({"trainer": "SMM", "patch_size": 8, "method": "only_delta"}, None),
        ({"trainer": "VR", "method": "only_delta"}, None),
        ({"trainer": "SMM", "mapping": "blm"}, None),
        ({"trainer": "SMM", "shots": 16}, None),
        ({"trainer": "SMM", "dataset": "folder"}, None),
        ({"trainer": "CoOp"}, None),
    ],
)
def test_the_papers_number_stands_beside_the_papers_recipe_only(make_run, tmp_path, run, expected):
    make_run(seed=0, accuracy=90.0, **run)
    (row,) = table(tmp_path / "output")
    text = ""
    if expected:
        text = f"{expected[0]:.1f}" if expected[1] is None else f"{expected[0]:.1f} ± {expected[1]:.1f}"
    assert row.get("paper", "") == text and bool(row.get("difference")) == bool(expected)


def test_names_of_the_papers_data_sets():
    assert paper_accuracy("rn18", "OxfordFlowers", "smm") == paper_accuracy("resnet18", "flowers102", "smm") == (38.7, 0.7)
    assert paper_accuracy("rn50", "DescribableTextures", "pad") == paper_accuracy("rn50", "dtd", "pad") == (40.5, 0.5)
    assert paper_accuracy("vit_b32", "oxford_pets", "full") == (75.3, None)
    for name in ("CIFAR10", "CIFAR100", "SVHN", "GTSRB", "UCF101", "Food101", "SUN397", "EuroSAT", "OxfordPets"):
        assert paper_accuracy("rn18", name, "smm"), name


@pytest.mark.parametrize("style", FORMATS)
def test_formats(make_run, tmp_path, capsys, style):
    make_run("SMM", seed=0, accuracy=91.25)
    make_run("VR", method="narrow", seed=0, accuracy=80.5)
    assert main([str(tmp_path / "output"), "--format", style]) == 0
    text = capsys.readouterr().out
    starts = {"github": "| method", "latex": "\\begin{tabular}", "csv": "method,", "html": "<table>", "plain": "method"}
    assert text.startswith(starts[style])
    assert "91.2" in text and "80.5" in text and "VR narrow" in text
    if style == "csv":
        first, second = csv.DictReader(io.StringIO(text))
        assert (first["method"], first["accuracy %"], second["method"]) == ("SMM", "91.2", "VR narrow")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"split_sha256": "b" * 64}, "split_sha256 differs"),
        ({"precision": "bf16"}, "differ in their precision"),
        ({"versions": {"torch": "2.8"}}, "differ in their library versions"),
        ({"epochs": 100}, "differ in their epochs"),
    ],
)
def test_warnings(make_run, tmp_path, capsys, change, expected):
    make_run("SMM", seed=0)
    make_run("SMM", seed=1, **change)
    assert main([str(tmp_path / "output")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [] if expected is None else (len(lines) == 1 and lines[0].startswith("warning: ") and expected in lines[0])


def test_few_shots_differ_by_seed_but_not_by_method(make_run, tmp_path, capsys):
    make_run("SMM", seed=0, shots=16)
    make_run("SMM", seed=1, shots=16, split_sha256="b" * 64)
    assert main([str(tmp_path / "output")]) == 0 and capsys.readouterr().err == ""
    make_run("VR", method="full", seed=1, shots=16, split_sha256="c" * 64)
    assert main([str(tmp_path / "output")]) == 0 and "split_sha256 differs" in capsys.readouterr().err


def test_the_papers_vit_is_another_checkpoint(make_run, tmp_path, capsys):
    make_run("SMM", seed=0, backbone="vit_b32")
    assert main([str(tmp_path / "output")]) == 0
    assert "note: the paper's ViT-B/32 is the original checkpoint" in capsys.readouterr().err


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text("{")
    for directory, expected in (
        ("none", "no such directory"),
        ("empty", "no results.json below"),
        ("bad", "not the results of a run"),
    ):
        assert main([str(tmp_path / directory)]) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1
