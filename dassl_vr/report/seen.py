"""What enters the backbone, whatever the method: recorded while the model runs, and made into pictures on one scale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from ..deploy import PromptedModel
from ..reprogramming import InputPrompt
from ..reprogramming.pictures import PromptPictures, masks_of, pattern_of, pattern_to_rgb, side_by_side, unnormalize


@contextlib.contextmanager
def recorded(backbone: nn.Module) -> Iterator[list[torch.Tensor]]:
    """In the block, what a `FrozenBackbone` is given, (B, 3, S, S) each, is appended to the list; the same images once."""
    seen = []

    def recorder(method):
        def run(x):
            if not any(x is other or (x.shape == other.shape and torch.equal(x, other)) for other in seen):
                seen.append(x)
            return method(x)

        return run

    for name in ("logits", "features"):
        setattr(backbone, name, recorder(getattr(backbone, name)))  # of this object, in front of the class's
    try:
        yield seen
    finally:
        for name in ("logits", "features"):
            delattr(backbone, name)


def input_prompt_of(model: PromptedModel) -> InputPrompt | None:
    """The f_in of a model; None where it has none that changes anything."""
    f_in = getattr(model.network, "f_in", None)
    return f_in if isinstance(f_in, InputPrompt) and not f_in.changes_nothing else None


@torch.no_grad()
def run_and_record(model: PromptedModel, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """((N, K) logits, what the backbone saw of each image) for (N, 3, S, S) normalized images, batch by batch.

    What it saw is (N * views, 3, S, S), the views of an image one after another; several passes of one image are views.
    """
    backbone, logits, seen = model.details.backbone, [], []
    for part in x.split(model.batch_size):
        with recorded(backbone) as given:
            logits.append(model.network(part).float())
        seen.append(_views(given, part).cpu())
    return torch.cat(logits), torch.cat(seen)


def _views(given, x):
    fitting = [images for images in given if images.dim() == 4 and images.shape[1] == 3 and len(images) % len(x) == 0]
    if not fitting:  # the network has a way around the backbone
        return x
    sized = [images if images.shape == x.shape else F.interpolate(images, x.shape[-2:]) for images in fitting]
    return torch.cat([images.unflatten(0, (len(x), -1)) for images in sized], dim=1).flatten(0, 1)


@torch.no_grad()
def pictures_of(model: PromptedModel, x: torch.Tensor, seen: torch.Tensor) -> PromptPictures | None:
    """What a model does to its images; None where the backbone sees them as they are.

    Masks have one scale for all images, and so has what is added: the result minus the input.

    Args:
        x: (N, 3, S, S) normalized images as the prompt gets them.
        seen: (N * views, 3, S, S), see `run_and_record`.
    """
    f_in, views = input_prompt_of(model), len(seen) // len(x)
    copies = x.cpu().repeat_interleave(views, dim=0)
    if f_in is None and torch.equal(copies, seen):
        return None
    masks = [] if f_in is None else _joined([masks_of(f_in, part) for part in x.split(model.batch_size)])
    pattern = None if f_in is None else pattern_of(f_in)
    cfg = model.details.cfg
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    return PromptPictures(
        inputs=side_by_side(unnormalize(copies, mean, std), views),
        masks=masks,
        limit=max((float(mask.abs().max()) for _, mask in masks), default=1.0),
        pattern=None if pattern is None else pattern_to_rgb(pattern.cpu()),
        added=side_by_side(pattern_to_rgb(seen - copies), views),
        results=side_by_side(unnormalize(seen, mean, std), views),
    )


def _joined(parts):
    """[(name, (B, S, S))] of several batches as one; where one batch has a mask per colour, all have."""
    names = max((tuple(name for name, _ in part) for part in parts), key=len)
    wide = [part * len(names) if len(part) == 1 else part for part in parts]
    return [(name, torch.cat([part[place][1].cpu() for part in wide])) for place, name in enumerate(names)]
