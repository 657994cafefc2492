"""TaskRes: a residual on CLIP's text features ("Task Residual for Tuning Vision-Language Models", Yu et al., CVPR 2023).

    logit_c(v) = s v . normalize(t_c + ALPHA r_c)

v is the image's feature of unit length, t_c the sentence of class c as the text tower gives it (not of unit length: that sets the
size of ALPHA r), s CLIP's scale. The residual r (K x D) starts at zero and is all that is trained.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from dassl_vr.backbones.clip import ClipBackbone
from dassl_vr.config.ranges import Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import FeatureClassifier, FeatureLearning, add_feature_keys
from dassl_vr.prompting import fill_in


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    node = add_feature_keys(cfg, "TaskRes")
    # Factor of the residual; the paper takes 1 for OxfordFlowers
    node.ALPHA = 0.5


class ResidualHead(nn.Module):
    """Scaled cosines with text features that a learned residual is added to.

    Args:
        text: (K, D) features of the classes' sentences, of any length.
        alpha: factor of the residual.
        scale: factor of the cosines.
    """

    def __init__(self, text: torch.Tensor, alpha: float, scale: torch.Tensor | float):
        super().__init__()
        self.alpha = alpha
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("scale", torch.as_tensor(scale), persistent=False)
        self.residual = nn.Parameter(torch.zeros_like(text))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) of unit length -> (B, K) logits."""
        return self.scale * features @ F.normalize(self.text + self.alpha * self.residual, dim=-1).T


@TRAINER_REGISTRY.register()
class TaskRes(FeatureLearning):
    """A learned residual on the text features of a frozen CLIP, one vector per class."""

    ranges = {"VIEWS": Range(0), "ALPHA": Range(0)}

    @classmethod
    def build_network(cls, cfg: CN, backbone: ClipBackbone, classnames: Sequence[str]) -> FeatureClassifier:
        text = backbone.text_features([fill_in(cfg.DATASET.TEMPLATE, name) for name in classnames], unit=False)
        return FeatureClassifier(backbone, ResidualHead(text, cls.options_in(cfg).ALPHA, backbone.scale))

    @classmethod
    def trained_parts(cls, cfg: CN, network: FeatureClassifier) -> dict[str, tuple[nn.Module, CN]]:
        return {"residual": (network.head, cfg.OPTIM)}
