"""`python -m dassl_vr.report` on results written for the test."""

import csv
import io
import json
import shutil

import pytest

from dassl_vr.cli.report import main
from dassl_vr.names import REPORT_FORMATS
from dassl_vr.report.runs import group_runs
from dassl_vr.report.tables import results_table


def table(directory, seeds=()):
    """The table as a list of {column: text}."""
    headers, rows = results_table(group_runs([directory]), seeds)
    return [dict(zip(headers, row, strict=True)) for row in rows]


def test_mean_deviation_paper_gap_and_missing_seeds(make_run, tmp_path):
    for seed, accuracy in ((0, 90.0), (1, 91.0), (2, 92.0)):
        make_run("SMM", seed=seed, accuracy=accuracy, accuracy_train=accuracy + 1.5)
    make_run("VR", method="full", seed=1, accuracy=85.0)
    shutil.copytree(make_run("VR", method="full", seed=2), tmp_path / "output/eurosat/VR-full/rn18/default/seed3")
    unfinished = tmp_path / "output/eurosat/VR-full/rn18/default/seed3"
    (unfinished / "results.json").unlink()
    (unfinished / "config.yaml").write_text("SEED: 3\n")
    assert [row["missing seeds"] for row in table(tmp_path / "output")] == ["", "seed3 unfinished"], "nobody asked for a seed 0"
    smm, full = table(tmp_path / "output", seeds=(0, 1, 2))
    assert smm["method"] == "SMM" and smm["accuracy %"] == "91.0 ± 1.0"
    assert (smm["paper"], smm["difference"]) == ("92.2 ± 0.2", "-1.2")
    assert (smm["train - test"], smm["missing seeds"], smm["seeds"]) == ("+1.5", "", "3")
    assert (smm["trained"], smm["% of backbone"], smm["train s"]) == ("150,528", "1.29", "61")
    assert smm["epochs"] == "200" and smm["backbone"] == "rn18" and smm["data"] == "EuroSAT", "also where all rows say the same"
    assert full["method"] == "VR full" and full["paper"] == "84.3 ± 0.5"
    assert full["missing seeds"] == "0, seed3 unfinished"


SIX_LAYERS, FIVE_LAYERS = {"TRAINER.SMM.LAYERS": 6}, {"TRAINER.SMM.LAYERS": 5}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"trainer": "SMM"}, "92.2 ± 0.2"),
        ({"trainer": "SMM", "method": "single_channel"}, "90.6 ± 0.5"),
        ({"trainer": "SMM", "method": "only_mask"}, "89.2 ± 0.9"),
        ({"trainer": "VR", "method": "full"}, "84.3 ± 0.5"),
        ({"trainer": "VR", "method": "pad"}, "85.2 ± 0.6"),
        ({"trainer": "SMM", "backbone": "rn50"}, "92.0 ± 0.6"),
        ({"trainer": "SMM", "backbone": "vit_b32"}, "93.5"),
        ({"trainer": "SMM", "mapping": "flm"}, "92.7"),
        ({"trainer": "SMM", "method": "only_delta"}, ""),
        ({"trainer": "VR", "method": "only_delta"}, ""),
        ({"trainer": "SMM", "dataset": "folder"}, ""),
        ({"trainer": "CoOp"}, ""),
    ],
)
def test_the_papers_number_stands_beside_the_papers_recipe(make_run, tmp_path, run, expected):
    make_run(seed=0, accuracy=90.0, **run)
    (row,) = table(tmp_path / "output")
    assert row.get("paper", "") == expected and bool(row.get("difference")) == bool(expected)
    assert not row.get("not as in the paper")


@pytest.mark.parametrize(
    ("run", "keys"),
    [
        ({"patch_size": 4}, "TRAINER.SMM.PATCH_SIZE"),
        ({"settings": SIX_LAYERS}, "TRAINER.SMM.LAYERS"),
        ({"backbone": "rn50", "settings": SIX_LAYERS}, "TRAINER.SMM.LAYERS"),
        ({"backbone": "vit_b32", "settings": FIVE_LAYERS}, "TRAINER.SMM.LAYERS"),
        ({"backbone": "vit_b32", "patch_size": 16}, "TRAINER.SMM.PATCH_SIZE"),
        ({"backbone": "vit_b32", "settings": {"TRAINER.SMM.MASK_LR": 0.01}}, "TRAINER.SMM.MASK_LR"),
        ({"mapping": "blm"}, "TRAINER.SMM.MAPPING"),
        ({"shots": 16}, "DATASET.NUM_SHOTS"),
        ({"epochs": 20}, "OPTIM.MAX_EPOCH"),
        ({"settings": {"DATALOADER.TRAIN_X.BATCH_SIZE": 64}}, "DATALOADER.TRAIN_X.BATCH_SIZE"),
        ({"dataset": "DescribableTextures", "settings": {"DATASET.BATCH_LIMIT": 0}}, "DATALOADER.TRAIN_X.BATCH_SIZE"),
        ({"settings": {"OPTIM.LR": 0.1, "OPTIM.STEPSIZE": "(10,)"}}, "OPTIM.LR, OPTIM.STEPSIZE"),
        ({"subsample_classes": "base"}, "DATASET.SUBSAMPLE_CLASSES"),
    ],
)
def test_a_run_of_another_setting_says_in_which_keys(make_run, tmp_path, run, keys):
    make_run("SMM", seed=0, accuracy=90.0, **run)
    (row,) = table(tmp_path / "output")
    assert row["not as in the paper"] == keys and not row.get("paper") and not row.get("difference")


def test_without_its_configuration_a_run_is_of_no_setting(make_run, tmp_path):
    (make_run("SMM", seed=0) / "config.yaml").unlink()
    (row,) = table(tmp_path / "output")
    assert "more" in row["not as in the paper"] and not row.get("paper")


@pytest.mark.parametrize("style", REPORT_FORMATS)
def test_formats(make_run, tmp_path, capsys, style):
    make_run("SMM", seed=0, accuracy=91.25)
    make_run("VR", method="narrow", seed=0, accuracy=80.5)
    assert main([str(tmp_path / "output"), "--format", style]) == 0
    text = capsys.readouterr().out
    starts = {"github": "| data", "latex": "\\begin{tabular}", "csv": "data,", "html": "<!doctype html>", "plain": "data"}
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


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("trainer", 5),
        ("trainer", ["SMM"]),
        ("method", None),
        ("dataset", {}),
        ("mapping", 3),
        ("seed", "0"),
        ("seed", [0]),
        ("seed", True),
        ("shots", None),
        ("shots", "all"),
        ("epochs", -1),
        ("epochs", 10**400),
        ("accuracy", "90"),
        ("accuracy", float("nan")),
        ("accuracy", float("inf")),
        ("accuracy", -1.0),
        ("accuracy", 1e200),
        ("macro_f1", [88.0]),
        ("accuracy_train", "x"),
        ("params_trainable", "150,528"),
        ("params_trainable", 1.5),
        ("params_backbone", None),
        ("seconds_train", float("nan")),
        ("seconds_train", 1e308),
        ("peak_memory_bytes", "1 GB"),
        ("subsample_classes", []),
        ("split_sha256", {}),
        ("versions", ["torch"]),
        ("history", 5),
        ("history", [5]),
        ("history", [{"epoch": 1, "loss": "low"}]),
        ("history", [{"epoch": 1, "loss": float("inf")}]),
        ("classnames", "cat"),
        ("classnames", [1, 2]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_results_of_another_kind_name_file_and_entry(make_run, tmp_path, capsys, entry, value):
    directory = make_run("SMM", seed=0)
    results = json.loads((directory / "results.json").read_text())
    (directory / "results.json").write_text(json.dumps({**results, entry: value}))
    assert main([str(tmp_path / "output")]) == 2
    error = capsys.readouterr().err
    assert f"{directory / 'results.json'}: not the results of a run: entry '{entry}" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b'"x"', b"null", b"\xff\xfe", b"[" * 10**5, b'{"seed": ' + b"9" * 5000 + b"}"]
)
def test_files_that_are_no_results(make_run, tmp_path, capsys, content):
    (make_run("SMM", seed=0) / "results.json").write_bytes(content)
    assert main([str(tmp_path / "output")]) == 2
    error = capsys.readouterr().err
    assert "results.json: not the results of a run" in error and error.count("\n") == 1


def test_results_of_before_some_entries_were_there(make_run, tmp_path, capsys):
    directory = make_run("SMM", seed=0)
    results = json.loads((directory / "results.json").read_text())
    for name in (
        "macro_f1",
        "accuracy_train",
        "seconds_train",
        "peak_memory_bytes",
        "precision",
        "split_sha256",
        "versions",
        "history",
    ):
        del results[name]
    (directory / "results.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(results).encode())
    assert main([str(tmp_path / "output")]) == 0 and "90.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "config", ["TRAINER: 5", "TRAINER: {SMM: [1]}", "TRAINER: {SMM: {PATCH_SIZE: x}}", "TRAINER: {SMM: {PATCH_SIZE: 0}}"]
)
def test_a_configuration_of_another_kind(make_run, tmp_path, capsys, config):
    (make_run("SMM", seed=0) / "config.yaml").write_text(config)
    assert main([str(tmp_path / "output")]) == 2
    error = capsys.readouterr().err
    assert "config.yaml: not the configuration of a run: entry 'TRAINER" in error and error.count("\n") == 1


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


def test_names_in_tables_are_harmless(make_run, tmp_path, capsys):
    make_run("SMM", seed=0, accuracy=91.25, dataset="=cmd|x", backbone="<b>a|b")
    make_run("SMM", seed=0, accuracy=80.0, dataset="\x1b[2Jdata", backbone="rn18")
    texts = {}
    for style in REPORT_FORMATS:
        assert main([str(tmp_path / "output"), "--format", style]) == 0
        texts[style] = capsys.readouterr().out
        assert "\x1b" not in texts[style]
    assert "'=cmd|x" in {row["data"] for row in csv.DictReader(io.StringIO(texts["csv"]))}
    assert all(line.count("|") == texts["github"].split("\n")[0].count("|") for line in texts["github"].strip().split("\n"))
    assert "<b>" not in texts["html"] and "<b>" not in texts["github"]
