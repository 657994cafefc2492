"""AutoVP: a pattern around an image whose size is learned."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode

from .base import INPUT_REGISTRY, PixelPrompt

SCALES = 0.1, 5.0  # smallest and largest


def scaled(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) images `scale` times as large around their centre, on the same canvas; black comes in from outside."""
    matrix = torch.cat([torch.eye(2, dtype=x.dtype, device=x.device) / scale, x.new_zeros(2, 1)], dim=1)  # (2, 3)
    grid = F.affine_grid(matrix.expand(x.shape[0], -1, -1), x.shape, align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


class Resize(nn.Module):
    """`scaled` by a learned scale."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            with torch.no_grad():
                self.scale.clamp_(*SCALES)
        return scaled(x, self.scale)


@INPUT_REGISTRY.register(name="autovp")
class LearnedScale(PixelPrompt):
    """`normalize(resize(pad0(image), scale) + squash(delta) * M)`, M = 1 outside the resized image; the scale and the pattern are
    trained (AutoVP, Tsao et al., ICLR 2024).

    Args:
        size: side S of the images.
        inner: side of the centred square that holds the image.
        mean, std: the numbers, one a channel, that the images were normalized with.
        scale: at the start, 0.1 to 5; 1 = the image as it is.
        border: "sigmoid" = of delta, AutoVP's for classifiers; "free" = delta itself, AutoVP's for CLIP.
    """

    transforms = ("vr_pad",)

    def __init__(
        self, size: int, inner: int, mean: Sequence[float], std: Sequence[float], scale: float = 1.0, border: str = "sigmoid"
    ):
        super().__init__(size, mean, std)
        if not SCALES[0] <= scale <= SCALES[1]:
            raise ValueError(f"SCALE is {scale}, expected {SCALES[0]} to {SCALES[1]}")
        if border not in ("sigmoid", "free"):
            raise ValueError(f"BORDER is '{border}', expected sigmoid or free")
        self.inner, self.border = inner, border
        self.delta = nn.Parameter(torch.zeros(3, size, size))
        self.resize = Resize(scale)

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # autovp: how much larger the image is at the start, 0.1 to 5
        node.SCALE = 1.0
        # autovp: learning rate of the scale; the pattern's is OPTIM.LR
        node.SCALE_LR = 0.001
        # autovp: what is around the image. Options: sigmoid (of the pattern), free (the pattern itself, the paper's on CLIP)
        node.BORDER = "sigmoid"

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "LearnedScale":
        return cls(size, options.PAD_SIDE, options.PIXEL_MEAN, options.PIXEL_STD, options.SCALE, options.BORDER)

    def parts(self, options: CfgNode) -> dict[str, tuple[nn.Module, dict[str, object]]]:
        return {"resize": (self.resize, {"LR": options.SCALE_LR})}

    def mask(self) -> torch.Tensor:
        """(S, S), 1 outside the resized image."""
        side = (self.inner * self.resize.scale.detach()).floor().clamp(max=self.size)
        start, stop = ((self.size - side) / 2).floor(), ((self.size + side) / 2).floor()
        place = torch.arange(self.size, device=side.device)
        inside = (place >= start) & (place < stop)
        return (~(inside[:, None] & inside)).to(self.delta.dtype)

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask().expand(len(x), 3, -1, -1)

    def pattern(self) -> torch.Tensor:
        return self.mask() * self.delta

    def captions(self) -> dict[str, str]:
        scale, squashed = float(self.resize.scale.detach()), self.border == "sigmoid"
        border = "the sigmoid of the pattern" if squashed else "the pattern"
        return {
            "mask": "1 outside of the scaled image, where the pattern is, 0 on it; the same for every image.",
            "pattern": f"The learned numbers of the border{', before the sigmoid' * squashed}.",
            "change": f"The reduced image is scaled by a learned factor, {scale:.2f} here; around it is {border}.",
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = torch.sigmoid(self.delta) if self.border == "sigmoid" else self.delta
        return self.normalized(self.resize(self.pixels(x)) + values * self.mask())
