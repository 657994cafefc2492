"""SMM: a mask of its own for each image, times a shared pattern (Cai et al., ICML 2024)."""

import torch
from torch import nn
from yacs.config import CfgNode

from ...utils.threads import share_out
from .. import pooled_block
from ..pooled_passes import pieces
from ..upsampling import INTERPOLATIONS, patch_interpolate, upsample, upsampling_weights
from .base import INPUT_REGISTRY, InputPrompt

# Output channels of the mask generator's convolutions but the last, by number of layers, at width 1
_GENERATOR_WIDTHS = {5: (8, 16, 32, 64), 6: (8, 16, 32, 64, 128)}


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
        width: factor on the channels of all convolutions but the last. Five layers of 0.5, 1, 2, 4, 8 and 16 times the width have
            7,203, 26,499, 101,379, 396,291, 1,566,723 and 6,230,019 parameters (SMM paper, Table 11).

    Attributes:
        compiled_kernels: whether the blocks, and the gradient of mask times pattern, run as loops that Numba compiles, for float32
            on a CPU; equal up to rounding. See `compile_kernels`.

    Raises:
        ValueError: other values than these, or images smaller than a patch.
    """

    compiled_kernels = False

    def __init__(self, layers: int = 5, patch_size: int = 8, channels: int = 3, mask_init: str = "random", width: float = 1.0):
        super().__init__()
        if layers not in _GENERATOR_WIDTHS:
            raise ValueError(f"layers is {layers}, expected 5 or 6")
        widths = [wide * width for wide in _GENERATOR_WIDTHS[layers]]
        if not all(wide >= 1 and wide == int(wide) for wide in widths):
            channels_at_1 = ", ".join(map(str, _GENERATOR_WIDTHS[layers]))
            raise ValueError(
                f"width is {width}, expected a factor of {channels_at_1} that gives whole numbers, such as 0.5, 1 or 2"
            )
        widths = [int(wide) for wide in widths]
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
        """(B, 3, S, S) normalized images -> (B, channels, S // patch_size, S // patch_size) mask values."""
        if min(x.shape[-2:]) < self.patch_size:
            height, width = x.shape[-2:]
            raise ValueError(f"images are {height} x {width}, expected sides of at least patch_size = {self.patch_size}")
        hidden = self._hidden(x)  # (B, 64 or 128, S // p, S // p)
        mask = hidden.mean(dim=1, keepdim=True) if self.last is None else self.last(hidden)
        return mask.contiguous()

    def compile_kernels(self) -> None:
        """Set `compiled_kernels`. Training does, as `TRAIN.KERNELS` says.

        Raises:
            ImportError, RuntimeError: Numba is not installed, or cannot work here.
        """
        from .. import compiled_passes  # noqa: F401

        self.compiled_kernels = True

    def runs_compiled(self, x: torch.Tensor) -> bool:
        """Whether `compiled_kernels` applies to `x`."""
        return self.compiled_kernels and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()

    def _hidden(self, x):
        compiled = self.runs_compiled(x)
        layers = list(self.body)
        while layers:
            conv, norm, after, *_ = layers
            pools = isinstance(after, nn.MaxPool2d)
            block, layers = layers[: 3 + pools], layers[3 + pools :]
            if (pools or compiled) and pooled_block.applies(x, conv, norm):
                x = pooled_block.pooled_block(x, conv, norm, compiled, pools)
            else:
                for layer in block:
                    x = layer(x)
        return x


def _add_by_patch(x: torch.Tensor, values: torch.Tensor, pattern: torch.Tensor, patch: int, compiled: bool) -> torch.Tensor:
    """`x + up(values) * pattern` with the mask broadcast over its patches: no mask of the images' size is made, nor kept for the
    backward pass. x is (B, 3, S, S), values (B, 3 or 1, S // patch, S // patch), pattern (3, S, S)."""
    n = x.shape[-1] // patch
    tiled = x.reshape(-1, 3, n, patch, n, patch)
    values, pattern = values[:, :, :, None, :, None], pattern.view(3, n, patch, n, patch)  # values: (B, 3 or 1, n, 1, n, 1)
    if not values.dtype == pattern.dtype == x.dtype:
        return (tiled + values * pattern).view(x.shape)
    if not torch.is_grad_enabled():
        return torch.addcmul(tiled, values, pattern).view(x.shape)
    return _AddProduct.apply(tiled, values, pattern, compiled).view(x.shape)


class _AddProduct(torch.autograd.Function):
    """`x + values * pattern`, whose backward pass takes a few images at a time, which stay in a CPU's cache meanwhile."""

    @staticmethod
    def forward(ctx, x, values, pattern, compiled):
        ctx.save_for_backward(values, pattern)
        ctx.compiled = compiled  # and so in float32
        return torch.addcmul(x, values, pattern)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        values, pattern = ctx.saved_tensors
        needs_x, needs_values, needs_pattern, _ = ctx.needs_input_grad
        # A convolutional backbone gives it in channels_last order, in which the sums over patches would be slow
        grad = grad.contiguous()
        if ctx.compiled:
            from .. import kernels  # here: it needs Numba

            of_values, of_pattern = torch.empty_like(values), torch.empty_like(pattern)
            # (B, 3, S, S) and so on
            whole = [part.detach().flatten(-4, -3).flatten(-2, -1) for part in (grad, values, pattern, of_values, of_pattern)]
            share_out(kernels.patch_gradients, values.shape[2], *(part.numpy() for part in whole))
            return grad if needs_x else None, of_values, of_pattern, None
        of_values, of_pattern = [], torch.zeros_like(pattern) if needs_pattern else None
        for part, mask in pieces(grad, values):
            if needs_values:  # over rows first, whose pixels lie side by side
                lines = (part * pattern).sum(dim=3)  # (b, 3, n, n, patch)
                of_values.append(lines.sum(dim=-1) if mask.shape[1] == 3 else lines.sum(dim=(1, -1))[:, None])
            if needs_pattern:
                of_pattern += (part * mask).sum(dim=0)
        of_values = torch.cat(of_values).view(values.shape) if needs_values else None
        return grad if needs_x else None, of_values, of_pattern, None


@INPUT_REGISTRY.register(name="smm")
class SampleSpecificMask(InputPrompt):
    """SMM's input transformation: `x + up(f_mask(x)) * delta` on normalized images (SMM paper, section 3.1).

    Args:
        size: side S of the images.
        layers, patch_size, channels, mask_init, width: see `MaskGenerator`.
        pattern: False = the ablation "only f_mask", `x + up(f_mask(x))`; `delta` is then None.
        interpolation: `up`: "patch" copies each value over its patch (the paper's), "bilinear" and "bicubic" interpolate.

    Attributes:
        delta: (3, S, S) parameter, zeros at the start.
        generator: the `MaskGenerator`.

    Raises:
        ValueError: another `interpolation`, or what `MaskGenerator` does not take.
    """

    trainer = "SMM"
    ablation = {}
    # Another trainer that names this f_in may lack some of the keys
    _ARGUMENTS = {
        "LAYERS": "layers",
        "PATCH_SIZE": "patch_size",
        "MASK_INIT": "mask_init",
        "WIDTH": "width",
        "INTERPOLATION": "interpolation",
    }

    def __init__(
        self,
        size: int,
        layers: int = 5,
        patch_size: int = 8,
        channels: int = 3,
        *,
        pattern: bool = True,
        mask_init: str = "random",
        width: float = 1.0,
        interpolation: str = "patch",
    ) -> None:
        super().__init__()
        if size < patch_size:
            raise ValueError(f"size is {size}, expected at least patch_size = {patch_size}")
        self.size = size
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is '{interpolation}', expected one of {', '.join(INTERPOLATIONS)}")
        self.generator = MaskGenerator(layers, patch_size, channels, mask_init, width)
        weights = None if interpolation == "patch" else upsampling_weights(size // patch_size, size, interpolation)
        self.register_buffer("up", weights, persistent=False)  # (S, S // p)
        self.register_parameter("delta", nn.Parameter(torch.zeros(3, size, size)) if pattern else None)

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "SampleSpecificMask":
        arguments = {name: options[key] for key, name in cls._ARGUMENTS.items() if key in options}
        return cls(size, **arguments, **cls.ablation)

    def parts(self, options: CfgNode) -> dict[str, tuple[nn.Module, dict[str, object]]]:
        rates = {key: options[name] for key, name in (("LR", "MASK_LR"), ("GAMMA", "MASK_GAMMA")) if name in options}
        return {"mask_generator": (self.generator, rates)}

    def masks(self, x: torch.Tensor) -> torch.Tensor:
        """The mask of each image at full resolution: (B, 3, S, S) -> (B, 3, S, S)."""
        values = self.generator(x)  # (B, 3 or 1, S // p, S // p)
        if self.up is not None:
            return upsample(values, self.up).expand(-1, 3, -1, -1)
        return patch_interpolate(values, self.size, self.generator.patch_size).expand(-1, 3, -1, -1)

    def pattern(self) -> torch.Tensor | None:
        return self.delta

    @property
    def adds(self) -> str:
        return "mask" if self.delta is None else "mask x pattern"

    def captions(self) -> dict[str, str]:
        patch = self.generator.patch_size
        of = "one for all colours" if self.generator.channels == 1 else "one for each colour"
        return {
            "mask": f"What the small network makes of this image: {of}, a value for each {patch} x {patch} pixels.",
            "pattern": "Shared by all images; the mask of each decides how much of it is added where.",
            "change": "The mask itself: there is no pattern." if self.delta is None else "Mask times pattern.",
        }

    def added(self, x: torch.Tensor) -> torch.Tensor:
        masks = self.masks(x)
        return masks if self.delta is None else masks * self.delta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patch = self.generator.patch_size
        if self.delta is None or self.up is not None or self.size % patch:
            return x + self.added(x)
        return _add_by_patch(x, self.generator(x), self.delta, patch, self.generator.runs_compiled(x))


@INPUT_REGISTRY.register(name="single_channel")
class SingleChannelMask(SampleSpecificMask):
    """The ablation with one mask for the three colours (SMM paper, section 5)."""

    ablation = {"channels": 1}


@INPUT_REGISTRY.register(name="only_mask")
class OnlyMask(SampleSpecificMask):
    """The ablation without a pattern, `x + up(f_mask(x))` (SMM paper, section 5)."""

    ablation = {"pattern": False}
