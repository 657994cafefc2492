"""CoCoOp: conditional context optimization (Zhou et al., CVPR 2022)."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import TOKENS
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import TextPromptLearning
from dassl_vr.prompting import ConditionalClassifier, ContextPrompts


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer, under the names of the published code."""
    cfg.TRAINER.COCOOP = CN()
    # Number of context vectors; CTX_INIT sets it where it is given
    cfg.TRAINER.COCOOP.N_CTX = 16
    # Words to start from ("" = random)
    cfg.TRAINER.COCOOP.CTX_INIT = "a photo of a"


@TRAINER_REGISTRY.register()
class CoCoOp(TextPromptLearning):
    """CoOp's context, shifted for each image by a small net that sees the image's features."""

    ranges = {"N_CTX": TOKENS}

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> ConditionalClassifier:
        options = cls.options_in(cfg)
        count = None if options.CTX_INIT else options.N_CTX
        return ConditionalClassifier(backbone, ContextPrompts(backbone, classnames, count, options.CTX_INIT))

    @classmethod
    def trained_parts(cls, cfg: CN, network: ConditionalClassifier) -> dict[str, tuple[nn.Module, CN]]:
        learner = nn.ModuleDict({"prompts": network.prompts, "meta_net": network.meta_net})
        return {"prompt_learner": (learner, cfg.OPTIM)}
