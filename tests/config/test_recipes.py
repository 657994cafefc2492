"""Every YAML that ships: read, merged, resolved, and its head says how to run it."""

import re
from pathlib import Path

import pytest
import yaml

from dassl_vr.config import get_cfg_default, merge_mapping, read_yaml, validate_cfg
from dassl_vr.data import DATASET_REGISTRY
from dassl_vr.engine import TRAINER_REGISTRY, build_trainer, resolve_cfg
from dassl_vr.plugins import load_plugins

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TRAINER_FILES = sorted((CONFIGS / "trainers").rglob("*.yaml"))
DATASET_FILES = sorted((CONFIGS / "datasets").rglob("*.yaml"))
PAPER_FILES = [p for p in TRAINER_FILES if re.match(r"(SMM|VR)/(rn|vit)", f"{p.parent.name}/{p.stem}") and "_robust" not in p.stem]
load_plugins()


def relative(path):
    return str(path.relative_to(CONFIGS))


def test_there_are_recipes_for_every_trainer():
    assert {path.parent.name for path in TRAINER_FILES} == set(TRAINER_REGISTRY.registered_names())
    assert DATASET_FILES


@pytest.mark.parametrize("path", TRAINER_FILES, ids=relative)
def test_trainer_recipe(path):
    cfg = get_cfg_default()
    merge_mapping(cfg, read_yaml(path), str(path))
    cfg.TRAINER.NAME, cfg.DATASET.NAME = path.parent.name, "digits"
    validate_cfg(cfg)
    resolve_cfg(cfg)
    assert min(cfg.INPUT.SIZE) > 0
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("bash scripts/" in line for line in head), "the head gives the command"
    assert any("ccuracy" in line for line in head), "the head says what accuracy to expect"


@pytest.mark.parametrize("path", TRAINER_FILES, ids=relative)
def test_trainer_recipe_loads_under_plain_yacs(path):
    get_cfg_default().merge_from_file(str(path))


@pytest.mark.parametrize("path", DATASET_FILES, ids=relative)
def test_dataset_recipe_names_a_registered_data_set_and_nothing_of_a_trainer(path):
    content = yaml.safe_load(path.read_text())
    assert set(content) == {"DATASET"}
    assert content["DATASET"]["NAME"] in DATASET_REGISTRY


@pytest.mark.parametrize("path", PAPER_FILES, ids=relative)
def test_the_papers_recipe(path):
    """Section 5 and its code: nothing dropped, no weight decay, Adam, the decay at epochs 100 and 144 of 200."""
    cfg = get_cfg_default()
    merge_mapping(cfg, read_yaml(path), str(path))
    pad = path.stem.endswith("_pad")
    assert cfg.OPTIM.WEIGHT_DECAY == 0 and cfg.OPTIM.LR == 0.01 and cfg.OPTIM.MAX_EPOCH == 200
    assert not cfg.DATALOADER.TRAIN_X.DROP_LAST
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 256
    assert cfg.INPUT.TRANSFORMS[0] == ("vr_pad" if pad else "vr_squash")
    if not pad:
        assert cfg.INPUT.MARGIN == 32
    assert ((384, 384) if path.stem.startswith("vit") else (224, 224)) == cfg.INPUT.SIZE


def command_line_cfg(*arguments):
    from dassl_vr.cli.train import build_parser, setup_cfg

    return setup_cfg(build_parser().parse_args([str(argument) for argument in arguments]))


@pytest.mark.parametrize("path", TRAINER_FILES, ids=relative)
def test_trainer_is_built_on_small_data(path, tmp_path):
    """At the recipe's own image size, with random weights."""
    cfg = command_line_cfg("--trainer", path.parent.name, "--config-file", path, "--seed", 0, "--output-dir", tmp_path / "run")
    merge_mapping(
        cfg,
        {"DATASET": {"NAME": "digits", "NUM_SHOTS": 1}, "MODEL": {"BACKBONE": {"PRETRAINED": False}}, "VERBOSE": False},
        "test",
    )
    validate_cfg(cfg)
    resolve_cfg(cfg)
    trainer = build_trainer(cfg)
    trained, frozen = trainer.count_parameters()
    if path.parent.name == "FullFT":
        assert 0 < frozen < trained  # the source classifier, or the text tower, is no part of it
    else:
        assert (0 if path.parent.name == "ZeroshotCLIP" else 1) <= trained < frozen
    assert next(iter(trainer.train_loader_x))["img"].shape[1:] == (3, *cfg.INPUT.SIZE)


@pytest.mark.parametrize("name", ["dtd", "oxfordpets"])
@pytest.mark.parametrize("path", [p for p in TRAINER_FILES if p.name.startswith("rn18")], ids=relative)
def test_batch_64_where_the_paper_has_it_whatever_the_recipe_says(path, name, tmp_path):
    cfg = command_line_cfg("--config-file", path, "DATASET.NAME", name)
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE > 64 and cfg.DATASET.BATCH_LIMIT == 64
    other = command_line_cfg("--config-file", path, "DATASET.NAME", "eurosat")
    assert other.DATASET.BATCH_LIMIT == 0


@pytest.mark.parametrize(("limit", "batch"), [(0, 32), (8, 8), (64, 32)])
def test_the_data_sets_limit_bounds_the_batch(limit, batch, tmp_path):
    from dassl_vr.data import DataManager

    more = ["SEED", 0, "VERBOSE", False, "DATASET.NUM_SHOTS", 4]
    recipe = CONFIGS / "trainers/SMM/lite0.yaml"
    cfg = command_line_cfg("--trainer", "SMM", "--config-file", recipe, "DATASET.NAME", "digits", *more)
    cfg.DATASET.BATCH_LIMIT = limit
    resolve_cfg(cfg)
    assert len(next(iter(DataManager(cfg).train_loader_x))["label"]) == batch
