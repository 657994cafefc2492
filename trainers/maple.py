"""MaPLe: multi-modal prompt learning (Khattak et al., CVPR 2023)."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import TOKENS
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import PromptLearning
from dassl_vr.prompting import ContextPrompts, MultimodalClassifier


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer, under the names of the published code."""
    cfg.TRAINER.MAPLE = CN()
    # Text tokens per block, and as many visual ones
    cfg.TRAINER.MAPLE.N_CTX = 2
    # Words whose first N_CTX tokens the prompt starts from; the others stay words ("" = random)
    cfg.TRAINER.MAPLE.CTX_INIT = "a photo of a"
    # Blocks with tokens of their own, in both towers
    cfg.TRAINER.MAPLE.PROMPT_DEPTH = 9


@TRAINER_REGISTRY.register()
class MaPLe(PromptLearning):
    """Text tokens in the first blocks of the text tower, coupled to visual tokens in the image tower."""

    backbone_kinds = ("clip",)
    needs_tokens = needs_text_tokens = True
    ranges = {"N_CTX": TOKENS, "PROMPT_DEPTH": TOKENS}

    @classmethod
    def takes_new_classes(cls, cfg: CN) -> bool:
        return True

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> MultimodalClassifier:
        options = cls.options_in(cfg)
        prompts = ContextPrompts(backbone, classnames, options.N_CTX, options.CTX_INIT)
        return MultimodalClassifier(backbone, prompts, options.PROMPT_DEPTH)

    @classmethod
    def trained_parts(cls, cfg: CN, network: MultimodalClassifier) -> dict[str, tuple[nn.Module, CN]]:
        learner = nn.ModuleDict({"prompts": network.prompts, "couplings": network.couplings})
        learner.register_parameter("deep_text", network.deep_text)
        return {"prompt_learner": (learner, cfg.OPTIM)}
