"""VPT: visual prompt tuning (Jia et al., ECCV 2022), on supervised vision transformers and on CLIP's."""

import math
from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones import FrozenBackbone
from dassl_vr.config.ranges import TOKENS
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import VisualReprogramming, add_reprogramming_keys
from dassl_vr.prompting import AdaptedBackbone, VisualTokens, learned_inside
from dassl_vr.reprogramming import HeadMapping, LabelMapping, PlainInput, ReprogrammedClassifier


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    node = add_reprogramming_keys(cfg, "VPT")
    # The output side: a trained head (the paper's), a label mapping, or text (CLIP), see TRAINER.SMM.MAPPING
    node.MAPPING = "head"
    # Start of a trained head. Options: default (torch's), published (weights of variance 2 / classes, biases of -log 99)
    node.HEAD_INIT = "default"
    # Options: shallow (tokens at the input), deep (fresh tokens in every block)
    node.METHOD = "deep"
    # Tokens per block
    node.N_CTX = 10


@TRAINER_REGISTRY.register()
class VPT(VisualReprogramming):
    """Learned tokens beside those of the patches.

    On a supervised transformer they follow the class token and start uniform, as in the paper; on a CLIP at the end of the
    sequence, from N(0, 0.02), as the CLIP family has it.
    """

    backbone_kinds = ("vit", "clip")
    needs_tokens = True
    ranges = {"N_CTX": TOKENS}
    choices = {"METHOD": ("shallow", "deep"), "HEAD_INIT": ("default", "published")}
    variants = {method: {"METHOD": method} for method in choices["METHOD"]}

    @classmethod
    def build_input(cls, cfg: CN, size: int) -> PlainInput:
        return PlainInput()

    @classmethod
    def build_output(cls, cfg: CN, backbone: FrozenBackbone, classnames: Sequence[str]) -> tuple[nn.Module, LabelMapping]:
        options, layout, clip = cls.options_in(cfg), backbone.tokens, backbone.kind == "clip"
        depth = len(layout.blocks) if options.METHOD == "deep" else 1
        tokens = VisualTokens(layout, options.N_CTX, depth, init="normal" if clip else "uniform", at_end=clip)
        source, f_out = super().build_output(cfg, AdaptedBackbone(backbone, tokens), classnames)
        if isinstance(f_out, HeadMapping) and options.HEAD_INIT == "published":
            nn.init.kaiming_normal_(f_out.linear.weight, mode="fan_out")
            nn.init.constant_(f_out.linear.bias, -math.log(99))  # a probability of 0.01 under a sigmoid
        return source, f_out

    @classmethod
    def trained_parts(cls, cfg: CN, network: ReprogrammedClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"prompt": (nn.ModuleDict({"tokens": learned_inside(network), "mapping": network.f_out}), cfg.OPTIM)}
