"""A backbone with something learned inside its image transformer."""

from collections.abc import Sequence

import torch
from torch import nn


class AdaptedBackbone(nn.Module):
    """A backbone with something learned inside its image transformer; in all else it is the backbone.

    `kind`, `source_classes`, `out_features` and CLIP's `scale` are the backbone's.

    Args:
        backbone: a `FrozenBackbone` with `tokens`.
        learned: a module with `inside(layout)`, the context in which it takes effect: `VisualTokens`, `LowRankUpdates`.
    """

    def __init__(self, backbone: nn.Module, learned: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.learned = learned

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, source)"""
        with self.learned.inside(self.backbone.tokens):
            return self.backbone.logits(x)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> (B, D)"""
        with self.learned.inside(self.backbone.tokens):
            return self.backbone.features(x)

    @property
    def kind(self) -> str:
        return self.backbone.kind

    @property
    def source_classes(self) -> list[str]:
        return self.backbone.source_classes

    @property
    def out_features(self) -> int:
        return self.backbone.out_features

    @property
    def scale(self) -> torch.Tensor:
        return self.backbone.scale

    def text_features(self, sentences: Sequence[str]) -> torch.Tensor:
        """N sentences -> (N, D) of unit length, of a CLIP's text tower."""
        return self.backbone.text_features(sentences)


def learned_inside(network: nn.Module) -> nn.Module:
    """What is learned inside the only `AdaptedBackbone` of `network`."""
    (adapted,) = (module for module in network.modules() if isinstance(module, AdaptedBackbone))
    return adapted.learned
