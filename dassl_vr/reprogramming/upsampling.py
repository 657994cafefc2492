"""From a mask value per patch to one per pixel: the `up` of SMM."""

import torch
from torch.nn import functional as F

# How the mask becomes as large as the image, and how many of its values each pixel is computed from: its patch's, the nearest
# 2 x 2, the nearest 4 x 4
INTERPOLATIONS = {"patch": 1, "bilinear": 4, "bicubic": 16}


def pixel_accesses(size: int, interpolation: str = "patch", channels: int = 3) -> int:
    """Mask values that are read to give one image of side `size` its mask: channels * size^2 * values per pixel.

    At 224 pixels and three channels: patch 150,528, bilinear 602,112, bicubic 2,408,448. It counts the definition; an
    implementation may share reads among pixels (SMM paper, Table 5).

    Raises:
        ValueError: an interpolation that is not in `INTERPOLATIONS`.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is '{interpolation}', expected one of {', '.join(INTERPOLATIONS)}")
    return channels * size**2 * INTERPOLATIONS[interpolation]


def upsampling_weights(count: int, size: int, interpolation: str) -> torch.Tensor:
    """(size, count): what each of `count` values along a side contributes to each of `size` pixels, "bilinear" or "bicubic".

    The values stand at the centres of `count` equal parts of the side. Rows sum to 1.
    """
    values = torch.eye(count).view(1, count, count, 1)  # one channel per value
    return F.interpolate(values, size=(size, 1), mode=interpolation, align_corners=False)[0, :, :, 0].T.contiguous()


def upsample(mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B, C, h, h) and the (S, h) of `upsampling_weights` -> (B, C, S, S): as `F.interpolate`, but for rounding.

    As two products of matrices, whose gradient is deterministic on every device.
    """
    return weights @ mask @ weights.T


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

    Raises:
        ValueError: an empty mask, or one with more values along a side than the result has pixels.
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
