"""What a prompt and a label mapping do, to be shown: tensors in, RGB tensors in [0, 1] out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .classifier import FeatureSource, ReprogrammedClassifier
from .inputs import InputPrompt


def unnormalize(x: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalized images (B, 3, H, W) as RGB in [0, 1]; what a prompt pushed outside is clipped."""
    mean = torch.as_tensor(mean, dtype=x.dtype, device=x.device).view(-1, 1, 1)
    std = torch.as_tensor(std, dtype=x.dtype, device=x.device).view(-1, 1, 1)
    return (x * std + mean).clamp(0, 1)


def signed_to_rgb(x: torch.Tensor, limit: float | None = None) -> torch.Tensor:
    """Signed values (..., H, W) as RGB (..., 3, H, W): blue below zero, white at zero, red above.

    Args:
        limit: the magnitude that gets the full colour; None = the largest in `x`.
    """
    limit = float(x.abs().max()) if limit is None else limit
    scaled = (x / max(limit, 1e-12)).clamp(-1, 1)
    red, blue = 1 + scaled.clamp(max=0), 1 - scaled.clamp(min=0)  # each fades on the other side of zero
    return torch.stack((red, torch.minimum(red, blue), blue), dim=-3)


def pattern_to_rgb(x: torch.Tensor) -> torch.Tensor:
    """A pattern (..., 3, H, W) as RGB around mid grey, each colour channel in its own colour, scaled to its largest value."""
    return 0.5 + 0.5 * x / x.abs().max().clamp(min=1e-12)


def is_plain_grey(picture: torch.Tensor) -> bool:
    """Whether `pattern_to_rgb` got zeros alone."""
    return bool((picture == 0.5).all())


def masks_of(f_in: InputPrompt, x: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The masks of an f_in, by colour where the colours differ.

    Args:
        x: (B, 3, S, S) normalized images.

    Returns:
        [(name, (B, S, S))], empty where there is no mask; several views side by side, (B, S, views * S).
    """
    masks = f_in.masks(x)
    if masks is None:
        return []
    masks = side_by_side(masks.float(), f_in.views)  # (B, 3, S, views * S)
    if torch.equal(masks[:, 0], masks[:, 1]) and torch.equal(masks[:, 0], masks[:, 2]):
        return [("mask", masks[:, 0])]
    return [(f"mask, {colour}", masks[:, channel]) for channel, colour in enumerate(("red", "green", "blue"))]


def pattern_of(f_in: InputPrompt) -> torch.Tensor | None:
    """The pattern of an f_in, (3, S, S), those of several views side by side, (3, S, views * S); None where there is none."""
    pattern = f_in.pattern()
    return pattern if pattern is None or f_in.views == 1 else side_by_side(pattern, f_in.views)[0]


def side_by_side(pictures: torch.Tensor, views: int) -> torch.Tensor:
    """(B * views, ..., S, S) -> (B, ..., S, views * S): the views of an image, which follow one another, as one picture."""
    return torch.cat(pictures.unflatten(0, (-1, views)).unbind(1), dim=-1)


@dataclass
class PromptPictures:
    """What an f_in does to B images: the pictures that TensorBoard, `visualize.py` and the report show of it.

    Several views of an image are one picture, side by side: S is `views` times as wide.

    Attributes:
        inputs, added, results: (B, 3, S, S) RGB; what is added is around mid grey.
        masks: [(name, (B, S, S))] real numbers, empty where there is no mask; `limit` is the largest magnitude of all, 1 without.
        pattern: (3, S, S) RGB around mid grey, or None where there is none.
    """

    inputs: torch.Tensor
    masks: list[tuple[str, torch.Tensor]]
    limit: float
    pattern: torch.Tensor | None
    added: torch.Tensor
    results: torch.Tensor


@torch.no_grad()
def prompt_pictures(f_in: InputPrompt, x: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> PromptPictures:
    """`PromptPictures` of (B, 3, S, S) images that were normalized with `mean` and `std`."""
    masks, pattern = masks_of(f_in, x), pattern_of(f_in)
    return PromptPictures(
        inputs=side_by_side(unnormalize(f_in.copies(x), mean, std), f_in.views),
        masks=masks,
        limit=max((float(mask.abs().max()) for _, mask in masks), default=1.0),
        pattern=None if pattern is None else pattern_to_rgb(pattern),
        added=side_by_side(pattern_to_rgb(f_in.added(x)), f_in.views),
        results=side_by_side(unnormalize(f_in(x), mean, std), f_in.views),
    )


def named_edges(network: torch.nn.Module, classnames: Sequence[str], each: int = 1) -> list[tuple[str, str, float]]:
    """[(target class, source class, share)] of a label mapping: for each target class the `each` source classes that weigh most,
    the strongest first. Empty for a network without a label mapping, and for one of features, which have no names."""
    if not isinstance(network, ReprogrammedClassifier) or isinstance(network.source, FeatureSource):
        return []
    sources = network.backbone.source_classes
    return [(classnames[target], sources[source], share) for target, source, share in network.f_out.edges(each)]
