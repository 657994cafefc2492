"""A trained linear layer on the source logits, or on the features."""

import torch
from torch import nn

from .base import FEATURES, MAPPING_REGISTRY, LabelMapping, largest_shares


@MAPPING_REGISTRY.register(name="linear")
class LinearMapping(LabelMapping):
    """A trained fully connected layer on the source logits, (B, source) -> (B, target) (AutoVP, Tsao et al. 2024)."""

    def __init__(self, num_source: int, num_target: int):
        super().__init__(num_source, num_target)
        self.linear = nn.Linear(num_source, num_target)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return self.linear(logits)

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return largest_shares(self.linear.weight, most)


@MAPPING_REGISTRY.register(name="head")
class HeadMapping(LinearMapping):
    """A trained fully connected layer on the backbone's features, (B, D) -> (B, target), in place of its classifier."""

    reads = FEATURES

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return []  # features have no names
