"""ZeroshotCLIP: what a CLIP says without any training (Radford et al., ICML 2021)."""

from collections.abc import Sequence

from torch import nn
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import PromptLearning
from dassl_vr.prompting import ENSEMBLE, FixedClassifier, fill_in


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    cfg.TRAINER.ZEROSHOTCLIP = CN()
    # Options: template (the sentence DATASET.TEMPLATE), ensemble (its features averaged with those of seven general sentences)
    cfg.TRAINER.ZEROSHOTCLIP.METHOD = "template"


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptLearning):
    """Class names in templates, in front of a frozen CLIP; "training" only tests."""

    backbone_kinds = ("clip",)
    learns = False
    choices = {"METHOD": ("template", "ensemble")}
    variants = {method: {"METHOD": method} for method in choices["METHOD"]}

    @classmethod
    def takes_new_classes(cls, cfg: CN) -> bool:
        return True

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> FixedClassifier:
        templates = [cfg.DATASET.TEMPLATE]
        if cls.options_in(cfg).METHOD == "ensemble":
            templates += ENSEMBLE
        return FixedClassifier(backbone, [[fill_in(template, name) for template in templates] for name in classnames])

    @classmethod
    def trained_parts(cls, cfg: CN, network: FixedClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {}

    def train(self) -> None:
        self.max_epoch = self.start_epoch  # nothing to train
        super().train()
