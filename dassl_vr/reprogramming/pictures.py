"""Turning prompts into pictures: tensors in, RGB tensors in [0, 1] out."""

import torch


def unnormalize(x, mean, std):
    """Normalized images (B, 3, H, W) as RGB in [0, 1]; what a prompt pushed outside is clipped."""
    mean = torch.as_tensor(mean, dtype=x.dtype, device=x.device).view(-1, 1, 1)
    std = torch.as_tensor(std, dtype=x.dtype, device=x.device).view(-1, 1, 1)
    return (x * std + mean).clamp(0, 1)


def signed_to_rgb(x, limit=None):
    """Signed values (..., H, W) as RGB (..., 3, H, W): blue below zero, white at zero, red above.

    Args:
        limit: the magnitude that gets the full colour; None = the largest in `x`.
    """
    limit = float(x.abs().max()) if limit is None else limit
    scaled = (x / max(limit, 1e-12)).clamp(-1, 1)
    red, blue = 1 + scaled.clamp(max=0), 1 - scaled.clamp(min=0)  # each fades on the other side of zero
    return torch.stack((red, torch.minimum(red, blue), blue), dim=-3)


def pattern_to_rgb(x):
    """A pattern (..., 3, H, W) as RGB around mid grey, each colour channel in its own colour, scaled to its largest value."""
    return 0.5 + 0.5 * x / x.abs().max().clamp(min=1e-12)


def masks_of(f_in, x):
    """The masks of an f_in, by colour where the colours differ.

    Args:
        f_in: an `InputPrompt`.
        x: (B, 3, S, S) normalized images.

    Returns:
        [(name, (B, S, S))], empty where there is no mask.
    """
    masks = f_in.masks(x)  # (B, 3, S, S)
    if masks is None:
        return []
    masks = masks.float()
    if torch.equal(masks[:, 0], masks[:, 1]) and torch.equal(masks[:, 0], masks[:, 2]):
        return [("mask", masks[:, 0])]
    return [(f"mask, {colour}", masks[:, channel]) for channel, colour in enumerate(("red", "green", "blue"))]
