"""SMM: a mask of its own for each image, times a shared pattern (Cai et al., ICML 2024)."""

import torch
from torch import nn
from yacs.config import CfgNode

from .. import pooled_block
from .base import INPUT_REGISTRY, InputPrompt

# Output channels of the mask generator's convolutions but the last, by number of layers
_GENERATOR_WIDTHS = {5: (8, 16, 32, 64), 6: (8, 16, 32, 64, 128)}


def patch_interpolate(mask: torch.Tensor, size: int, patch_size: int | None = None) -> torch.Tensor:
    """Patch-wise interpolation: copy each mask value over its square patch of pixels.

    No arithmetic touches the values. Pixels right of or below the last whole patch take the nearest mask value
    (SMM paper, section 3.3).

    Args:
        mask: (B, C, h, w).
        size: side S of the result in pixels.
        patch_size: side of a patch. None = `size // h`, which is the generator's own patch only if it divides `size`.

    Returns:
        (B, C, S, S)
    """
    batch, channels, height, width = mask.shape
    patch = size // max(height, 1) if patch_size is None else patch_size
    if min(height, width, patch) < 1:
        raise ValueError(f"mask is {height} x {width}, patch_size {patch}: expected at least 1 each for {size} pixels")
    across = -(-size // patch)  # patches that begin inside the image, the cut-off one at the border included
    mask = _extend(_extend(mask, 2, across), 3, across)  # (B, C, n, n), n * patch >= S
    # Rows first, then whole lines: the inner copies are then contiguous, and the gradient is a plain sum, which unlike
    # a scatter is deterministic on every device.
    lines = mask.unsqueeze(-1).expand(-1, -1, -1, -1, patch).reshape(batch, channels, across, 1, across * patch)
    lines = lines[..., :size]  # (B, C, n, 1, S)
    pixels = lines.expand(-1, -1, -1, patch, -1).reshape(batch, channels, across * patch, size)
    return pixels[:, :, :size]  # (B, C, S, S)


def _extend(mask, dim, length):
    """Cut `mask` to `length` along `dim`, or repeat its last entry up to it."""
    missing = length - mask.shape[dim]
    if missing <= 0:
        return mask.narrow(dim, 0, length)
    last = mask.narrow(dim, mask.shape[dim] - 1, 1)
    return torch.cat([mask] + [last] * missing, dim=dim)


class MaskGenerator(nn.Module):
    """The light-weight mask generator f_mask of SMM ("Sample-specific Masks for Visual Reprogramming-based Prompting",
    Cai et al. 2024, section 3.2).

    3x3 convolutions, each but the last followed by batch norm and ReLU; a 2x2 max pool stands after each of the first
    log2(patch_size) of them. (B, 3, S, S) -> (B, channels, S // patch_size, S // patch_size).

    Args:
        layers: 5 (26,499 parameters) or 6 (102,339 parameters).
        patch_size: pixels per side that share a mask value: 1, 2, 4, 8, 16, and 32 with six layers.
        channels: 3, or 1 = the mean over the penultimate layer's channels, without a last convolution.
        mask_init: "random" = the framework's initialization (the paper's); "ones" = the last convolution starts at
            weight 0 and bias 1, so that the first mask is 1 everywhere.
    """

    def __init__(self, layers=5, patch_size=8, channels=3, mask_init="random"):
        super().__init__()
        if layers not in _GENERATOR_WIDTHS:
            raise ValueError(f"layers is {layers}, expected 5 or 6")
        widths = _GENERATOR_WIDTHS[layers]
        patch_sizes = [2**pools for pools in range(len(widths) + 1)]
        if patch_size not in patch_sizes:
            hint = "; 32 needs layers=6" if patch_size == 32 else ""
            raise ValueError(
                f"patch_size is {patch_size}, expected one of {', '.join(map(str, patch_sizes))} with layers={layers}{hint}"
            )
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}, expected 3 (a mask per colour) or 1 (one mask for all colours)")
        if mask_init not in ("random", "ones"):
            raise ValueError(f"mask_init is '{mask_init}', expected 'random' or 'ones'")
        if mask_init == "ones" and channels == 1:
            raise ValueError("mask_init 'ones' needs channels=3: one channel has no last convolution to set to 1")
        self.patch_size = patch_size
        self.channels = channels
        pools = patch_sizes.index(patch_size)
        blocks = []
        for i, (width_in, width_out) in enumerate(zip((3, *widths), widths)):
            blocks += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out)]
            # ReLU and max pool give the same in either order; the pool first leaves a quarter to the other
            blocks += [nn.MaxPool2d(2), nn.ReLU(inplace=True)] if i < pools else [nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*blocks)
        self.last = nn.Conv2d(widths[-1], 3, 3, padding=1) if channels == 3 else None
        if mask_init == "ones":
            nn.init.zeros_(self.last.weight)
            nn.init.ones_(self.last.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) < self.patch_size:
            height, width = x.shape[-2:]
            raise ValueError(f"images are {height} x {width}, expected sides of at least patch_size = {self.patch_size}")
        hidden = self._hidden(x)  # (B, 64 or 128, S // p, S // p)
        mask = hidden.mean(dim=1, keepdim=True) if self.last is None else self.last(hidden)
        return mask.contiguous()

    def _hidden(self, x):
        layers = list(self.body)
        while layers:
            conv, norm, after, *_ = layers
            pools = isinstance(after, nn.MaxPool2d)
            block, layers = layers[: 3 + pools], layers[3 + pools :]
            if pools and pooled_block.applies(x, conv, norm):
                x = pooled_block.pooled_block(x, conv, norm)
            else:
                for layer in block:
                    x = layer(x)
        return x


@INPUT_REGISTRY.register(name="smm")
class SampleSpecificMask(InputPrompt):
    """SMM's input transformation: `x + up(f_mask(x)) * delta` on normalized images (SMM paper, section 3.1).

    Args:
        size: side S of the images.
        layers, patch_size, channels, mask_init: see `MaskGenerator`.
        pattern: False = the ablation "only f_mask", `x + up(f_mask(x))`; `delta` is then None.

    Attributes:
        delta: (3, S, S) parameter, zeros at the start.
        generator: the `MaskGenerator`.
    """

    trainer = "SMM"
    ablation = {}
    _DEFAULTS = {"LAYERS": 5, "PATCH_SIZE": 8, "MASK_INIT": "random"}  # under a trainer without these keys

    def __init__(self, size, layers=5, patch_size=8, channels=3, *, pattern=True, mask_init="random"):
        super().__init__()
        if size < patch_size:
            raise ValueError(f"size is {size}, expected at least patch_size = {patch_size}")
        self.size = size
        self.generator = MaskGenerator(layers, patch_size, channels, mask_init)
        self.register_parameter("delta", nn.Parameter(torch.zeros(3, size, size)) if pattern else None)

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "SampleSpecificMask":
        layers, patch_size, init = (options.get(key, default) for key, default in cls._DEFAULTS.items())
        return cls(size, layers, patch_size, mask_init=init, **cls.ablation)

    def parts(self, options: CfgNode) -> dict[str, tuple[nn.Module, dict[str, object]]]:
        rates = {key: options[name] for key, name in (("LR", "MASK_LR"), ("GAMMA", "MASK_GAMMA")) if name in options}
        return {"mask_generator": (self.generator, rates)}

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        """The mask of each image at full resolution: (B, 3, S, S) -> (B, 3, S, S)."""
        values = self.generator(x)  # (B, 3 or 1, S // p, S // p)
        return patch_interpolate(values, self.size, self.generator.patch_size).expand(-1, 3, -1, -1)

    def pattern(self) -> torch.Tensor | None:
        return self.delta

    def added(self, x: torch.Tensor) -> torch.Tensor:
        masks = self.masks(x)
        return masks if self.delta is None else masks * self.delta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patch = self.generator.patch_size
        if self.delta is None or self.size % patch:
            return x + self.added(x)
        # The same product with the mask broadcast over its patches: no mask of the images' size is made, nor kept
        # for the backward pass.
        n = self.size // patch
        values = self.generator(x)[:, :, :, None, :, None]  # (B, 3 or 1, n, 1, n, 1)
        pattern = self.delta.view(3, n, patch, n, patch)
        prompted = (x.reshape(-1, 3, n, patch, n, patch) + values * pattern).view(-1, 3, self.size, self.size)
        if prompted.requires_grad:
            # A convolutional backbone gives the gradient in channels_last order, in which the sums over patches would be slow
            prompted.register_hook(torch.Tensor.contiguous)
        return prompted


@INPUT_REGISTRY.register(name="single_channel")
class SingleChannelMask(SampleSpecificMask):
    """The ablation with one mask for the three colours (SMM paper, section 5)."""

    ablation = {"channels": 1}


@INPUT_REGISTRY.register(name="only_mask")
class OnlyMask(SampleSpecificMask):
    """The ablation without a pattern, `x + up(f_mask(x))` (SMM paper, section 5)."""

    ablation = {"pattern": False}
