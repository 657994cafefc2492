"""Shared watermarks: a pattern that is added to all images alike."""

import torch
from torch import nn
from yacs.config import CfgNode

from .base import INPUT_REGISTRY, InputPrompt

# Share of the side that the frame of a shared watermark takes on each edge (SMM paper, section 5: 28, 56, 112 of 224)
FRAMES = {"narrow": 8, "medium": 4, "full": 2}


def frame_width(size: int, frame: str) -> int:
    """Pixels of the frame called `frame` at side S = `size`: "narrow" S/8, "medium" S/4, "full" S/2 (rounded up).

    Raises:
        ValueError: another name.
    """
    if frame not in FRAMES:
        raise ValueError(f"frame is '{frame}', expected one of {', '.join(FRAMES)}")
    return (size + 1) // 2 if frame == "full" else max(1, size // FRAMES[frame])


class Watermark(InputPrompt):
    """A pattern shared by all images: `x + M * delta` on normalized images, M = 1 on a frame (SMM paper, section 5).

    Args:
        size: side S of the images.
        width: width of the frame in pixels, see `frame_width`; None or half the side and more = the whole image.
        init: start of the pattern, "zeros" or "normal" = N(0, 1), that of VP (Bahng et al. 2022).

    Raises:
        ValueError: another `init`, or a `width` outside of 1 to `size`.
    """

    def __init__(self, size: int, width: int | None = None, init: str = "zeros"):
        super().__init__()
        if init not in ("zeros", "normal"):
            raise ValueError(f"init is '{init}', expected 'zeros' or 'normal'")
        if width is not None and not 1 <= width <= size:
            raise ValueError(f"width is {width}, expected 1 to {size} pixels, or None for the whole image")
        mask = torch.ones(1, size, size)
        if width is not None and 2 * width < size:
            mask[:, width:-width, width:-width] = 0
        self.size = size
        self.delta = nn.Parameter((torch.zeros if init == "zeros" else torch.randn)(3, size, size))
        self.register_buffer("mask", mask, persistent=False)  # follows from the arguments

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask.expand(len(x), 3, -1, -1)

    def pattern(self) -> torch.Tensor:
        return self.mask * self.delta

    def added(self, x: torch.Tensor) -> torch.Tensor:
        return self.pattern().expand(len(x), -1, -1, -1)

    def captions(self) -> dict[str, str]:
        width = int(self.mask[0, self.size // 2].cpu().argmin())  # 0 where there is no hole in it
        mask = f"1 on a frame of {width} pixels, 0 inside" if width else "The pattern covers the whole image"
        return {
            "mask": f"{mask}; the same for every image.",
            "pattern": "What is added to every image alike.",
            "change": "The pattern itself, the same for every image.",
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mask * self.delta


class _FramedWatermark(Watermark):
    frame = ""

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "_FramedWatermark":
        return cls(size, frame_width(size, cls.frame))


@INPUT_REGISTRY.register(name="narrow")
class NarrowWatermark(_FramedWatermark):
    """A pattern on a frame as wide as an eighth of the side: `x + M * delta` (SMM paper, section 5)."""

    frame = "narrow"


@INPUT_REGISTRY.register(name="medium")
class MediumWatermark(_FramedWatermark):
    """A pattern on a frame as wide as a quarter of the side: `x + M * delta` (SMM paper, section 5)."""

    frame = "medium"


@INPUT_REGISTRY.register(name="full")
class FullWatermark(_FramedWatermark):
    """A pattern on the whole image, `x + delta` (SMM paper, section 5)."""

    frame = "full"
