"""Several patterns, each around an image of its own: DVP."""

import torch
from torch import nn
from yacs.config import CfgNode

from .base import INPUT_REGISTRY
from .pad import Pad, centred_box


class SeveralBorders(Pad):
    """Base: `pad` with several borders, each in a view of its own.

    A subclass sets `views` and, broadcast to (views, 3, S, S), `delta` and `mask`.
    """

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        return self._of_each(self.mask.to(x.dtype), x)

    def pattern(self) -> torch.Tensor:
        patterns = self.mask * self.delta  # (views, 3, S, S)
        return patterns[0] if self.views == 1 else patterns

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return self._of_each(self.mask * torch.sigmoid(self.delta) / self.std, x)

    def captions(self) -> dict[str, str]:
        return {
            "mask": "Where each of the views has a border of its own; the same for every image.",
            "pattern": "The learned numbers of each border, before the sigmoid that makes colours of them.",
            "change": "The learned border of each view, the same for every image.",
        }

    def _of_each(self, pictures, x):
        """What each view has, for each image."""
        return pictures.expand(len(x), self.views, 3, -1, -1).flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        border = self.normalized(torch.sigmoid(self.delta))
        return torch.where(self.mask, border, x[:, None]).flatten(0, 1)  # (B, views, 3, S, S) -> (B * views, 3, S, S)


@INPUT_REGISTRY.register(name="dvp")
class Decoupled(SeveralBorders):
    """Several patterns, each as in `ar` and each a view of its own: a pass through the backbone for each (DVP, Cai et al., ICML
    2025).

    With MAPPING dvp, attrvr or rvp each view is compared with sentences of its own, see VIEWS_BY.

    Args:
        size, inner, mean, std: see `Pad`.
        views: number of patterns.
    """

    def __init__(self, size, inner, mean, std, views=3):
        if views < 1:
            raise ValueError(f"VIEWS is {views}, expected 1 or more")
        super().__init__(size, inner, mean, std)
        self.views = views
        self.delta = nn.Parameter(torch.zeros(views, 3, size, size))

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # dvp: number of patterns, each in a view of the image of its own
        node.VIEWS = 3

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "Decoupled":
        return cls(size, options.PAD_SIDE, options.PIXEL_MEAN, options.PIXEL_STD, options.VIEWS)


@INPUT_REGISTRY.register(name="dvp_lite")
class FourSides(SeveralBorders):
    """The border of `ar` in four views with a side of it each, above, below, left, right: as many parameters as `ar` (DVPlite, Cai
    et al., ICML 2025).

    The corners belong to the sides above and below.
    """

    views = 4

    def __init__(self, size, inner, mean, std):
        super().__init__(size, inner, mean, std)
        start, stop = centred_box(size, inner)
        sides = torch.zeros(self.views, 1, size, size, dtype=torch.bool)
        sides[0, :, :start] = sides[1, :, stop:] = True
        sides[2, :, start:stop, :start] = sides[3, :, start:stop, stop:] = True
        self.register_buffer("mask", sides, persistent=False)
