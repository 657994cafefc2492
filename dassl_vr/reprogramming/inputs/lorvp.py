"""LoR-VP: a pattern of low rank over the whole image."""

from collections.abc import Sequence

import torch
from torch import nn
from yacs.config import CfgNode

from .base import INPUT_REGISTRY, PixelPrompt


@INPUT_REGISTRY.register(name="lorvp")
class LowRank(PixelPrompt):
    """`normalize(image + left @ right)`, a product of two narrow matrices per colour (LoR-VP, Jin et al., ICLR 2025).

    Args:
        size: side S of the images.
        mean, std: the numbers, one a channel, that the images were normalized with.
        rank: of the pattern, 1 to S; at S it can be any pattern.

    Attributes:
        left: (3, S, rank) parameter, zeros at the start.
        right: (3, rank, S) parameter, N(0, 0.01) at the start (standard deviation).
    """

    own_recipe = True

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float], rank: int = 4):
        super().__init__(size, mean, std)
        if not 1 <= rank <= size:
            raise ValueError(f"RANK is {rank}, expected 1 to {size}, the side of the images")
        self.left = nn.Parameter(torch.zeros(3, size, rank))
        self.right = nn.Parameter(torch.randn(3, rank, size) * 0.01)

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # lorvp: rank of the pattern
        node.RANK = 4

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "LowRank":
        return cls(size, options.PIXEL_MEAN, options.PIXEL_STD, options.RANK)

    def pattern(self) -> torch.Tensor:
        return self.left @ self.right / self.std

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return self.pattern().expand(len(x), -1, -1, -1)

    def captions(self) -> dict[str, str]:
        return {
            "pattern": f"A product of two narrow matrices for each colour, of rank {self.left.shape[2]}.",
            "change": "The pattern itself, the same for every image.",
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pattern()
