"""How an image goes to a model: in two stages, made of transforms that are registered by name.

A `Pipeline`'s `per_sample` takes one PIL image to uint8, in the loader's workers. Its `per_batch` takes whole batches of uint8 from
there to finished floats, on the device. Randomness of the second stage is a function of the samples' keys; that of the first comes
from the global generators, which the loader seeds for each sample.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from ..utils.registry import Registry
from .augment_rng import SampleKeys

# Where a transform acts. Within a stage transforms act in the order of their registration, as in the family, whatever
# the order of INPUT.TRANSFORMS.
RESIZE = "resize"  # PIL image -> PIL image, in place of the resize to INPUT.SIZE
IMAGE = "image"  # PIL image -> PIL image
PIXELS = "pixels"  # (batch of (B, C, H, W) uint8, keys) -> the same
VALUES = "values"  # (batch of (B, C, H, W) float32 from 0 to 1, keys) -> the same
STAGES = (RESIZE, IMAGE, PIXELS, VALUES)

TRANSFORM_REGISTRY = Registry("transform")


@dataclass(frozen=True)
class Transform:
    """An entry of `TRANSFORM_REGISTRY`.

    Args:
        stage: one of RESIZE, IMAGE, PIXELS, VALUES.
        build: `build(cfg, is_train)` -> the callable, or None where the transform does not apply.
        random: whether its result depends on chance. In RESIZE and IMAGE chance is python's, numpy's or torch's global
            generator; in PIXELS and VALUES only what `augment_rng` makes of the keys.
    """

    stage: str
    build: Callable
    random: bool = True


def register_transform(name: str, stage: str, random: bool = True) -> Callable:
    """Register the decorated `build(cfg, is_train)` as the transform `name`."""

    def decorate(build):
        TRANSFORM_REGISTRY.register(Transform(stage, build, random), name=name)
        return build

    return decorate


class Pipeline:
    """From a PIL image to what a model takes. Called on one image, it is an ordinary transform.

    Args:
        image_ops: [(name, callable on PIL images)].
        batch_ops: [(name, callable on (batch, keys))].
        deterministic: whether `per_sample` depends on the image alone, so that its result can be stored.
        repeatable: whether the finished image depends on the image alone, so that what a model makes of it can be stored.
    """

    def __init__(self, image_ops: Iterable, batch_ops: Iterable, deterministic: bool, repeatable: bool):
        self.image_ops = list(image_ops)
        self.batch_ops = list(batch_ops)
        self.deterministic = deterministic
        self.repeatable = repeatable

    def per_sample(self, img: Image.Image) -> torch.Tensor:
        """PIL image -> (3, h, w) uint8 tensor."""
        for _, op in self.image_ops:
            img = op(img)
        return F.pil_to_tensor(img)

    def per_batch(self, x: torch.Tensor, keys: SampleKeys) -> torch.Tensor:
        """(B, 3, h, w) uint8 -> (B, 3, H, W) float32 on the same device.

        Args:
            keys: `SampleKeys` of the B samples.
        """
        for _, op in self.batch_ops:
            x = op(x, keys)
        return x

    def __call__(self, img: Image.Image, keys: SampleKeys | None = None) -> torch.Tensor:
        """PIL image -> (3, H, W) float32; without keys, random numbers come from torch's global generator."""
        x = self.per_sample(img)[None]
        if keys is None:
            keys = SampleKeys(int(torch.randint(2**63 - 1, ())), 0, np.zeros(1, dtype=np.int64))
        return self.per_batch(x, keys)[0]

    def __repr__(self):
        return f"Pipeline({' | '.join(name for name, _ in (*self.image_ops, *self.batch_ops))})"
