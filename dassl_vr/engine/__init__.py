"""Trainers' base classes, checkpoints and the files of a run."""

from ..family.modeling import SimpleNet
from .build import TRAINER_REGISTRY, build_trainer, resolve_cfg
from .prompt_learning import PromptLearning, TextPromptLearning
from .trainer import SimpleTrainer, TrainerBase, TrainerX, TrainerXU
from .visual_reprogramming import VisualReprogramming

__all__ = [
    "TRAINER_REGISTRY",
    "PromptLearning",
    "SimpleNet",
    "SimpleTrainer",
    "TextPromptLearning",
    "TrainerBase",
    "TrainerX",
    "TrainerXU",
    "VisualReprogramming",
    "build_trainer",
    "resolve_cfg",
]
