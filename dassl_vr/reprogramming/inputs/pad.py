"""A pattern around a small image: Pad, AR, EVP."""

from collections.abc import Sequence

import torch
from torch import nn
from yacs.config import CfgNode

from .base import INPUT_REGISTRY, PixelPrompt


def centred_box(size: int, inner: int) -> tuple[int, int]:
    """(start, stop) along either axis of the centred square of side `inner` in an image of side `size`."""
    start = (size - inner) // 2
    return start, start + inner


@INPUT_REGISTRY.register(name="pad")
class Pad(PixelPrompt):
    """A pattern around a small image: `normalize(pad0(image) + sigmoid(delta) * M)`, M = 1 outside a centred square
    (ILM-VP, Chen et al. 2023).

    Args:
        size: side S of the images.
        inner: side of the centred square that holds the image, see `centred_box`.
        mean, std: the numbers, one a channel, that the images were normalized with.

    `forward` takes the padded and already normalized image: it leaves the square untouched and writes
    `(sigmoid(delta) - mean) / std` everywhere else, which is the same thing.

    Raises:
        ValueError: `inner` is not smaller than `size`, or `mean` or `std` are not three numbers.
    """

    transforms = ("vr_pad",)

    def __init__(self, size: int, inner: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__(size, mean, std)
        if not 1 <= inner < size:
            raise ValueError(f"inner is {inner}, expected 1 to {size - 1}: smaller than size = {size}")
        start, stop = centred_box(size, inner)
        mask = torch.ones(1, size, size, dtype=torch.bool)
        mask[:, start:stop, start:stop] = False
        self.inner = inner
        self.delta = nn.Parameter(torch.zeros(3, size, size))
        self.register_buffer("mask", mask, persistent=False)

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "Pad":
        return cls(size, options.PAD_SIDE, options.PIXEL_MEAN, options.PIXEL_STD)

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask.to(x.dtype).expand(len(x), 3, -1, -1)

    def pattern(self) -> torch.Tensor:
        return self.mask * self.delta

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """What `forward` adds to an image whose border is black: (B, 3, S, S)."""
        return (self.mask * torch.sigmoid(self.delta) / self.std).expand(len(x), -1, -1, -1)

    def captions(self) -> dict[str, str]:
        return {
            "mask": f"1 around the square of {self.inner} pixels that holds the image, 0 on it; the same for every image.",
            "pattern": "The learned numbers of the border, before the sigmoid that makes colours of them.",
            "change": "The learned border, which takes the place of the black one; the same for every image.",
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        border = self.normalized(torch.sigmoid(self.delta))  # (3, S, S)
        return torch.where(self.mask, border, x)


@INPUT_REGISTRY.register(name="ar")
class Ar(Pad):
    """`pad` as in AttrVR (Cai et al., ICLR 2025), which differs in the images: random resized crops of a side of 192."""


@INPUT_REGISTRY.register(name="evp")
class Evp(Pad):
    """`normalize(pad0(image) + M * delta)`, with steps of a fixed length: OPTIM.NAME normalized_sgd (EVP, Wu et al., TMLR 2024).

    The gradient's length counts the places under the image too, as in the published code, though nothing is added there.
    """

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return (self.mask * self.delta / self.std).expand(len(x), -1, -1, -1)

    def captions(self) -> dict[str, str]:
        own = {"pattern": "The learned border, as it is added.", "change": "The learned border, the same for every image."}
        return {**super().captions(), **own}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        under = self.delta - self.delta.detach()  # zeros with a gradient
        return x + torch.where(self.mask, self.delta, under) / self.std
