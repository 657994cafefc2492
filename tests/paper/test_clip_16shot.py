"""The protocol `clip-16shot`: its published numbers, that our recipes are their setting, and how the two stand side by side."""

import argparse
import json
import statistics

import pytest

from dassl_vr.cli.comparison import Comparison
from dassl_vr.config import to_yaml
from dassl_vr.paper import published_for
from dassl_vr.paper.clip_16shot import Clip16Shot
from dassl_vr.paper.table import tables_with_numbers
from dassl_vr.plugins import load_plugins
from dassl_vr.report.comparison import Compared, protocol_table, published_beside
from dassl_vr.report.runs import Group

load_plugins()
LABELS = {"VP": "vp", "VR ar": "ar", "VR attrvr": "attrvr", "VR rvp": "rvp", "VR dvp": "dvp", "CoOp": "coop"}
NAMES = [name.replace(" ", "-") for name in LABELS]


@pytest.fixture
def measured(tmp_path):
    """measured(backbone, {data set: accuracy}, ...) gives the methods of a comparison as if their runs had finished."""

    def make(backbone, accuracies, seeds=(1, 2, 3), settings=(), trainers=NAMES):
        args = argparse.Namespace(
            **{"datasets": list(accuracies), "dataset": "all", "backbone": backbone, "protocol": "clip-16shot", "shots": [16]},
            **{"seeds": list(seeds), "epochs": "recipe", "trainers": trainers, "recipes": [], "targets": [], "plugin": []},
            **{"output": str(tmp_path / "out"), "tag": "default", "format": "plain"},
        )
        comparison = Comparison(args, list(settings))
        for run in comparison.all_runs:
            accuracy = accuracies[run.output_dir.relative_to(args.output).parts[0]]
            _finish(run, accuracy)
        return comparison.compared()

    return make


def _finish(run, accuracy):
    cfg = run.cfg
    section = cfg.TRAINER[cfg.TRAINER.NAME.upper()]
    results = {
        **{"trainer": cfg.TRAINER.NAME, "method": section.get("METHOD", cfg.TRAINER.NAME.lower()), "dataset": cfg.DATASET.NAME},
        **{
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "mapping": section.get("MAPPING"),
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
        },
        **{"epochs": cfg.OPTIM.MAX_EPOCH, "accuracy": accuracy + cfg.SEED, "params_trainable": 1, "params_backbone": 10},
    }
    run.output_dir.mkdir(parents=True)
    (run.output_dir / "results.json").write_text(json.dumps(results))
    (run.output_dir / "config.yaml").write_text(to_yaml(cfg))


@pytest.mark.parametrize("backbone", Clip16Shot.backbones)
def test_our_recipes_are_the_published_setting(measured, backbone):
    for method in measured(backbone, {"dtd": 50.0}, seeds=[1]):
        number, keys = published_for(method.group("dtd"), "average")
        if method.name == "CoOp" and backbone != "clip_vit_b16":
            assert number is None
        else:
            remark = {**Clip16Shot.remarks, "dvp": "TRAINER.VR.VIEWS"}.get(LABELS[method.name])
            assert number.accuracy > 50 and keys == ([remark] if remark else []), method.name


def test_every_published_number_is_there():
    (table,) = (table for table in tables_with_numbers() if isinstance(table, Clip16Shot))
    assert len(table.published) == 135
    complete = {(backbone, label) for backbone, dataset, label, _ in table.published if dataset != "average"}
    for backbone, label in complete:
        numbers = [table.published[backbone, name.replace("_", ""), label, ""].accuracy for name in table.datasets]
        average = table.published[backbone, "average", label, ""].accuracy
        assert statistics.fmean(numbers) == pytest.approx(average, abs=0.06), "the paper's average, of rounded numbers"


@pytest.mark.parametrize(
    ("trainer", "method", "mapping", "backbone", "dataset", "expected"),
    [
        ("VR", "ar", "text", "clip_vit_b16", "DescribableTextures", 62.0),
        ("VR", "ar", "attrvr", "clip_vit_b16", "FGVCAircraft", 36.6),
        ("VP", "vp", "text", "clip_rn50", "RESISC45", 47.7),
        ("VR", "ar", "text", "clip_vit_b16", "ImageNet", None),
        ("SMM", "smm", "text", "clip_vit_b16", "EuroSAT", None),
    ],
)
def test_published_numbers(tmp_path, trainer, method, mapping, backbone, dataset, expected):
    group = Group(trainer, method, dataset, backbone, mapping, "16shots", {1: {}}, {1: tmp_path})
    (tmp_path / "config.yaml").write_text(f"TRAINER: {{{trainer}: {{MAPPING: {mapping}}}}}\n")
    number, _ = published_for(group)
    assert (number and number.accuracy) == expected


def test_ours_and_the_published_stand_side_by_side(measured):
    methods = measured("clip_vit_b16", {"dtd": 50.0, "eurosat": 70.0}, trainers=["VR-ar", "VR-dvp", "CoOp"])
    beside, notes = published_beside(methods, ["dtd", "eurosat"])
    assert beside["VR ar", "dtd"] == " (62.0)" and beside["VR ar", "eurosat"] == " (93.4)"
    assert beside["VR dvp", "dtd"] == " (65.5)" and ("CoOp", "dtd") not in beside
    assert beside["VR dvp", "eurosat"] == " (~94.1)", "which is of one pattern"
    assert notes[0] == "in brackets: the published number"
    assert "~ VR dvp: not as published: TRAINER.VR.VIEWS" in notes
    headers, rows = protocol_table(methods, "clip-16shot", ["dtd", "eurosat"], ["dtd %", "eurosat %"], beside)
    (row,) = (dict(zip(headers, row)) for row in rows if row[0] == "VR ar")
    assert row["dtd %"] == "52.0 ± 1.0 (62.0)" and row["average"].startswith("62.0 ± 1.0 (")


def test_an_average_says_of_how_many_data_sets_it_is(measured):
    columns = list(Clip16Shot.datasets)
    (method,) = measured("clip_vit_b16", {"dtd": 50.0, "eurosat": 70.0}, trainers=["VR-ar"])
    method = Compared(method.name, {**{column: {} for column in columns}, **method.results}, method.directories)
    beside, _ = published_beside([method], columns)
    headers, [row] = protocol_table([method], "clip-16shot", columns, columns, beside)
    assert dict(zip(headers, row))["average"] == "62.0 ± 1.0, 2 of 11 (77.7)", "the published average of the same two"


def test_another_setting_is_marked(measured):
    (method,) = measured("clip_vit_b16", {"dtd": 50.0}, settings=["OPTIM.LR", "1.0"], trainers=["VR-ar"])
    beside, notes = published_beside([method], ["dtd"])
    assert beside["VR ar", "dtd"] == " (~62.0)" and notes[1] == "~ VR ar: not as published: OPTIM.LR"


def test_the_average_of_all_is_the_published_one(measured):
    methods = measured("clip_rn101", dict.fromkeys(Clip16Shot.datasets, 50.0), seeds=[1], trainers=["VR-ar"])
    beside, _ = published_beside(methods, Clip16Shot.datasets)
    assert beside == {("VR ar", "average"): " (62.7)"}, "RN101 has averages only"
