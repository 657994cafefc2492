"""Trainers' base classes, checkpoints and the files of a run."""

from .build import TRAINER_REGISTRY, build_trainer, resolve_cfg
from .trainer import SimpleTrainer, TrainerBase, TrainerX, TrainerXU

__all__ = [
    "TRAINER_REGISTRY",
    "SimpleTrainer",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
    "build_trainer",
    "resolve_cfg",
]
