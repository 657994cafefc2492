"""LoRA: low-rank adaptation of a vision transformer's attention (Hu et al., ICLR 2022)."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones import FrozenBackbone
from dassl_vr.config.ranges import DECAY, Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import VisualReprogramming, add_reprogramming_keys
from dassl_vr.prompting import TARGETS, AdaptedBackbone, LowRankUpdates, learned_inside
from dassl_vr.reprogramming import LabelMapping, PlainInput, ReprogrammedClassifier


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer; rank and targets are those of the SMM paper's comparison (appendix)."""
    node = add_reprogramming_keys(cfg, "LoRA")
    # The output side: a trained head, a label mapping, or text (CLIP), see TRAINER.SMM.MAPPING
    node.MAPPING = "head"
    # Rank of the update of each weight
    node.RANK = 6
    # The update is scaled with ALPHA / RANK
    node.ALPHA = 6.0
    # Weights that are updated in the attention of every block: q (query), k (key), v (value), o (output)
    node.TARGETS = "qv"
    # Share of the input of each update that is dropped at random in training
    node.DROPOUT = 0.0


@TRAINER_REGISTRY.register()
class LoRA(VisualReprogramming):
    """Low-rank updates of attention weights in every block of the image transformer, and a trained head."""

    backbone_kinds = ("vit", "clip")
    needs_tokens = True
    ranges = {"RANK": Range(1, 10**4), "ALPHA": Range(0, 10**6), "DROPOUT": DECAY}
    choices = {"TARGETS": TARGETS}

    @classmethod
    def build_input(cls, cfg: CN, size: int) -> PlainInput:
        return PlainInput()

    @classmethod
    def build_output(cls, cfg: CN, backbone: FrozenBackbone, classnames: Sequence[str]) -> tuple[nn.Module, LabelMapping]:
        options, blocks = cls.options_in(cfg), backbone.tokens.blocks
        updates = LowRankUpdates(blocks, options.RANK, options.ALPHA / options.RANK, options.TARGETS, options.DROPOUT)
        return super().build_output(cfg, AdaptedBackbone(backbone, updates), classnames)

    @classmethod
    def trained_parts(cls, cfg: CN, network: ReprogrammedClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"adapter": (nn.ModuleDict({"lora": learned_inside(network), "mapping": network.f_out}), cfg.OPTIM)}
