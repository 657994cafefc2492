"""What the walks over everything registered share: tiny runs on random images, with random weights and without files."""

import copy
import functools
from pathlib import Path

import numpy as np
import torch

from dassl_vr import build_cfg
from dassl_vr.backbones import build_backbone
from dassl_vr.data import ArrayDatum
from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.data.datasets.split import Splits
from dassl_vr.engine import TRAINER_REGISTRY, build_trainer, evaluation_pass
from dassl_vr.engine import trainer as engine
from dassl_vr.engine.models import RegisteredModels
from dassl_vr.methods import prompt_learning, words
from dassl_vr.plugins import load_plugins
from dassl_vr.runs import settle

load_plugins()
REPOSITORY = Path(__file__).resolve().parents[2]
BACKBONES = {"cnn": "timm:test_resnet", "vit": "tiny_vit", "clip": "tiny_clip"}
SIDE = 32
SETTINGS = {
    "DATASET.NAME": "digits", "SEED": 1, "VERBOSE": False, "OUTPUT_DIR": "nowhere", "INPUT.SIZE": (SIDE, SIDE),
    "MODEL.BACKBONE.PRETRAINED": False, "TRAIN.END_FIGURES": False, "TEST.TRAIN_GAP": False, "TEST.VAL_CURVE": False,
}  # fmt: skip
TRAINERS = [
    (name, kind)
    for name in TRAINER_REGISTRY.registered_names()
    for kind in getattr(TRAINER_REGISTRY.get(name), "backbone_kinds", ())
]
AUGMENTED = ("vr_squash", "vr_crop", "vr_flip", "cutout", "normalize")


def images(number):
    draw = np.random.default_rng(0)
    return [ArrayDatum(draw.integers(0, 256, (8, 8), np.uint8), f"{n}", n % 10, 0, str(n % 10)) for n in range(number)]


@functools.cache
def pretrained(kind):
    with torch.random.fork_rng(devices=[]):
        return build_backbone(BACKBONES[kind], pretrained=False, size=SIDE, verbose=False, checksum=True, check_side=False)


def known_backbone(cfg, precision="fp32", frozen=True):
    """In the place of `backbone_from_cfg`."""
    backbone = copy.deepcopy(pretrained(next(kind for kind, name in BACKBONES.items() if name == cfg.MODEL.BACKBONE.NAME)))
    backbone.requires_grad_(not frozen)
    backbone.frozen = frozen
    return backbone


def without_files(monkeypatch, number):
    """Runs that follow read and write no files, and have `number` images each for training, validation and test."""
    monkeypatch.setattr("dassl_vr.trainers.promptsrc.varied_templates", lambda: ["a photo of a {}.", "a {}."])  # of sixty
    monkeypatch.setattr(prompt_learning, "backbone_from_cfg", known_backbone)
    monkeypatch.setattr(words, "build_backbone", lambda name, verbose: copy.deepcopy(pretrained("clip")))
    monkeypatch.setattr(engine, "save_resume_file", lambda *args: None)
    monkeypatch.setattr(evaluation_pass, "write_predictions", lambda *args: None)
    monkeypatch.setattr(RegisteredModels, "save_model", lambda *args, **options: None)
    monkeypatch.setattr(engine.SimpleTrainer, "begin_tensorboard", lambda *args: None)
    monkeypatch.setattr(
        DATASET_REGISTRY.get("digits"), "load", lambda self, cfg: Splits(images(number), images(number), images(number))
    )


def built(trainer, kind, settings, transforms=("normalize",), **options):
    """A trainer that is ready to train.

    Args:
        settings: {KEY: value} of the configuration.
        options: of `TRAINER.<NAME>`.
    """
    named = {"TRAINER.NAME": trainer, "MODEL.BACKBONE.NAME": BACKBONES[kind], "INPUT.TRANSFORMS": transforms}
    keys = {f"TRAINER.{trainer.upper()}.{key}": value for key, value in options.items()}
    recipe = REPOSITORY / f"configs/trainers/{trainer}/{BACKBONES[kind]}.yaml"
    cfg = build_cfg([recipe] if recipe.is_file() else [], {**SETTINGS, **named, **keys, **settings})
    settle(cfg)
    torch.manual_seed(1)
    return build_trainer(cfg)
