"""ACAVP: the image is moved, its colours are changed, and a frame is added."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from .base import INPUT_REGISTRY, PixelPrompt


class AffineColour(nn.Module):
    """(B, 3, S, S) pixels from 0 to 1, moved by an affine map and with their colours mixed; the identity at the start."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.eye(2, 3))
        self.colour = nn.Parameter(torch.eye(3))
        self.shift = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.theta.expand(pixels.shape[0], -1, -1), pixels.shape, align_corners=False)
        moved = F.grid_sample(pixels, grid, align_corners=False)  # black comes in from outside
        return torch.einsum("dc,bchw->bdhw", self.colour, moved) + self.shift


@INPUT_REGISTRY.register(name="acavp")
class AffineColourFrame(PixelPrompt):
    """`normalize(colour @ warp(image, theta) + shift) + M * delta`, M = 1 on a frame (ACAVP, Enomoto 2025).

    The paper gives the three steps. That theta is a whole affine matrix, colour a whole 3 x 3 matrix, and both start as the
    identity, is our reading.

    Args:
        size: side S of the images.
        width: width of the frame in pixels.
        mean, std: the numbers, one a channel, that the images were normalized with.
    """

    own_recipe = True

    def __init__(self, size: int, width: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__(size, mean, std)
        if width < 1:
            raise ValueError(f"the frame is {width} pixels wide, expected at least 1")
        mask = torch.ones(1, size, size)
        if 2 * width < size:
            mask[:, width:-width, width:-width] = 0
        self.transform = AffineColour()
        self.delta = nn.Parameter(torch.zeros(3, size, size))
        self.register_buffer("mask", mask, persistent=False)

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # acavp: width of the frame in pixels at a side of 224, scaled to other sides
        node.FRAME = 30
        # acavp: learning rate of the affine map and the colours; the frame's is OPTIM.LR
        node.TRANSFORM_LR = 0.001

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "AffineColourFrame":
        width = max(min(1, options.FRAME), round(options.FRAME * size / 224))
        return cls(size, width, options.PIXEL_MEAN, options.PIXEL_STD)

    def parts(self, options: CfgNode) -> dict[str, tuple[nn.Module, dict[str, object]]]:
        return {"transform": (self.transform, {"LR": options.TRANSFORM_LR})}

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask.expand(len(x), 3, -1, -1)

    def pattern(self) -> torch.Tensor:
        return self.mask * self.delta

    def captions(self) -> dict[str, str]:
        return {
            "mask": "1 on the frame, where the pattern is added, 0 inside; the same for every image.",
            "pattern": "The frame that is added to every image alike.",
            "change": "The image is moved by a learned affine map, its colours are mixed, and the frame is added.",
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalized(self.transform(self.pixels(x))) + self.mask * self.delta
