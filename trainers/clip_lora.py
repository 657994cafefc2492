"""CLIPLoRA: low-rank few-shot adaptation of a CLIP (Zanella and Ben Ayed, CVPR Workshops 2024)."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import DECAY, Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import PromptLearning
from dassl_vr.prompting import TARGETS, LowRankClassifier, fill_in


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer; the defaults are the published ones."""
    node = cfg.TRAINER.CLIPLORA = CN()
    # Rank of the update of each weight
    node.RANK = 2
    # The update is scaled with ALPHA / sqrt(RANK), as in the published code
    node.ALPHA = 1.0
    # Weights that are updated in the attention of every block of both towers: q (query), k (key), v (value), o (output)
    node.TARGETS = "qkv"
    # Share of the input of each update that is dropped at random in training
    node.DROPOUT = 0.25
    # The sentence about a class, {} for its name; "" = DATASET.TEMPLATE. The published code has one for all data sets
    node.TEMPLATE = "a photo of a {}."


@TRAINER_REGISTRY.register()
class CLIPLoRA(PromptLearning):
    """Low-rank updates of attention weights in every block of both towers of a CLIP, in front of its text head."""

    backbone_kinds = ("clip",)
    needs_tokens = needs_text_tokens = True
    ranges = {"RANK": Range(1, 10**4), "ALPHA": Range(0, 10**6), "DROPOUT": DECAY}
    choices = {"TARGETS": TARGETS}

    @classmethod
    def takes_new_classes(cls, cfg: CN) -> bool:
        return True

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> LowRankClassifier:
        options = cls.options_in(cfg)
        sentences = [fill_in(options.TEMPLATE or cfg.DATASET.TEMPLATE, name) for name in classnames]
        scale = options.ALPHA / options.RANK**0.5
        return LowRankClassifier(backbone, sentences, options.RANK, scale, options.TARGETS, options.DROPOUT)

    @classmethod
    def trained_parts(cls, cfg: CN, network: LowRankClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"adapter": (nn.ModuleDict({"text": network.text, "image": network.image}), cfg.OPTIM)}
