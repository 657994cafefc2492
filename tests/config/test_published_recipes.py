"""What the recipes take from their sources, and where they do not."""

from pathlib import Path

import pytest

from dassl_vr.backbones import build_backbone
from dassl_vr.config import get_cfg_default, merge_mapping, read_yaml
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.plugins import load_plugins

TRAINERS = Path(__file__).resolve().parents[2] / "configs/trainers"
load_plugins()


def recipe(name, **dataset):
    """The configuration of `<trainer>/<recipe>`, on a data set with these facts."""
    cfg = get_cfg_default()
    merge_mapping(cfg, {"DATASET": dataset}, "facts")
    path = TRAINERS / f"{name}.yaml"
    merge_mapping(cfg, read_yaml(path), path)
    return cfg


def source_labels(name, *settings):
    """What stands as source labels for the classes `one` and `two` of a data set with a template of its own."""
    cfg = recipe(name, TEMPLATE="my {}.")
    cfg.merge_from_list(list(settings))
    clip = build_backbone("tiny_clip", verbose=False)
    source, _ = TRAINER_REGISTRY.get(name.split("/")[0]).build_output(cfg, clip, ["one", "two"])
    return source.source_classes


@pytest.mark.parametrize("path", sorted(TRAINERS.glob("*/*clip*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_the_family_trains_drops_the_last_partial_batch(path):
    """Zhou et al., Khattak et al.: Dassl's loader, `drop_last` in training; the others keep it."""
    family = path.parent.name in ("CoOp", "CoCoOp", "MaPLe", "VPT")
    assert family == recipe(f"{path.parent.name}/{path.stem}").DATALOADER.TRAIN_X.DROP_LAST


def test_templates_of_a_text_head():
    assert source_labels("SMM/tiny_clip") == ["my one.", "my two."]
    assert source_labels("VP/tiny_clip") == ["This is a photo of a one", "This is a photo of a two"]


def test_templates_of_label_mappings():
    """Class by class with the data set's own, as ever; template by template with the published ones, as in their code."""
    labels = source_labels("SMM/tiny_clip", "TRAINER.SMM.MAPPING", "ilm")
    assert len(labels) == 16 and labels[:2] == ["my one.", "itap of a one."] and labels[8] == "my two."
    labels = source_labels("SMM/tiny_clip", "TRAINER.SMM.MAPPING", "blm+", "TRAINER.SMM.TEMPLATES", "imagenet")
    assert len(labels) == 162
    assert labels[:3] == ["This is a photo of a one.", "This is a photo of a two.", "a bad photo of a one."]
