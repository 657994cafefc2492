"""CoOp: context optimization (Zhou et al., IJCV 2022)."""

from collections.abc import Sequence

from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import TOKENS
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import TextPromptLearning
from dassl_vr.prompting import ContextPrompts, TextPromptedClassifier


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer, under the names of the published code."""
    add_context_keys(cfg, "CoOp")


def add_context_keys(cfg: CN, trainer: str) -> CN:
    """Add the keys of the context of `trainer`, whose base is `CoOp`, with their defaults; returns its node."""
    node = cfg.TRAINER[trainer.upper()] = CN()
    # Number of context vectors; CTX_INIT sets it where it is given
    node.N_CTX = 16
    # Class-specific context
    node.CSC = False
    # Words to start from, such as "a photo of a" ("" = random)
    node.CTX_INIT = ""
    # Options: end, middle, front
    node.CLASS_TOKEN_POSITION = "end"
    return node


@TRAINER_REGISTRY.register()
class CoOp(TextPromptLearning):
    """Context vectors before the class's name, learned in front of the frozen text tower."""

    ranges = {"N_CTX": TOKENS}
    choices = {"CLASS_TOKEN_POSITION": ("end", "middle", "front")}

    @classmethod
    def takes_new_classes(cls, cfg: CN) -> bool:
        return not cls.options_in(cfg).CSC

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> TextPromptedClassifier:
        options = cls.options_in(cfg)
        count = None if options.CTX_INIT else options.N_CTX
        prompts = ContextPrompts(backbone, classnames, count, options.CTX_INIT, options.CSC, options.CLASS_TOKEN_POSITION)
        return TextPromptedClassifier(backbone, prompts)
