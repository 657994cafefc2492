"""What a trainer knows in words, for label mappings that are made of names and sentences."""

from collections.abc import Sequence
from functools import partial

import torch

from ..backbones import build_backbone
from ..data.descriptions import descriptions_of
from ..prompting import class_prompts
from ..reprogramming.classifier import inner_backbone
from ..reprogramming.mappings import Words
from .prompt_learning import PromptLearning


def words_of(trainer: PromptLearning) -> Words:
    """The names and sentences of a trainer whose model is built; nothing is read or computed before it is asked for."""
    classnames, options = trainer.dm.dataset.classnames, trainer.options
    descriptions = partial(descriptions_of, trainer.cfg, options.get("DESCRIPTIONS", ()), classnames, options.get("SENTENCES", 0))
    prompts = class_prompts(options.get("TEMPLATES", ""), trainer.cfg.DATASET.TEMPLATE, classnames)
    return Words(classnames, trainer.model.backbone.source_classes, partial(_encode, trainer), descriptions, prompts)


def _encode(trainer: PromptLearning, sentences: Sequence[str]) -> torch.Tensor:
    backbone = inner_backbone(trainer.model)
    if backbone.kind != "clip":
        backbone = build_backbone(trainer.options.NAMES_BY, verbose=False).to(trainer.device)
    return backbone.text_features(sentences)
