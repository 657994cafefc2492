"""The images that the small models are trained and tested on: real ones, grey, painted in colours and slightly moved."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from . import GROUND_COLOURS, OBJECT_COLOURS, SIZE

if TYPE_CHECKING:
    from dassl_vr.data.datasets import Datum

_OBJECT, _GROUND = (torch.tensor(list(colours.values()))[:, :, None, None] for colours in (OBJECT_COLOURS, GROUND_COLOURS))


class Grey(NamedTuple):
    """Grey images (N, 1, h, w), uint8, light object on dark ground; labels (N,), int64."""

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def of(cls, items: Sequence["Datum"], first_label: int = 0) -> "Grey":
        """The grey images of `Datum`s, their labels counted from `first_label`."""
        images = np.stack([np.asarray(item.read().convert("L")) for item in items])
        return cls(torch.from_numpy(images)[:, None], torch.tensor([item.label + first_label for item in items]))

    def draw(self, count: int, rng: torch.Generator) -> "Grey":
        """`count` of them at random."""
        chosen = torch.randint(len(self.labels), (count,), generator=rng)
        return Grey(self.images[chosen], self.labels[chosen])


class Painted(NamedTuple):
    """Images (N, 3, 64, 64), float32 from 0 to 1; labels and the numbers of object and ground colour, (N,) each."""

    images: torch.Tensor
    labels: torch.Tensor
    object_colours: torch.Tensor
    ground_colours: torch.Tensor


def paint(grey: Grey, rng: torch.Generator, jitter: bool = False) -> Painted:
    """Enlarge to 64 pixels and paint in two colours drawn from the generator `rng`; with `jitter`, move and turn a little."""
    count = len(grey.labels)
    x = F.interpolate(grey.images.float() / 255, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    if jitter:
        x = _move(x, rng)
    objects, grounds = (torch.randint(len(colours), (count,), generator=rng) for colours in (_OBJECT, _GROUND))
    x = _GROUND[grounds] + (_OBJECT[objects] - _GROUND[grounds]) * x
    return Painted(x, grey.labels, objects, grounds)


def _move(x, rng, degrees=8.0, zoom=0.1, shift=0.08):
    """Turn, zoom and shift each image by a random amount up to the given ones; what comes in from outside is dark."""
    angle, scale, right, down = (torch.rand(4, len(x), generator=rng) * 2 - 1) * torch.tensor(
        [math.radians(degrees), zoom, 2 * shift, 2 * shift]
    )[:, None]
    cos, sin = torch.cos(angle) * (1 + scale), torch.sin(angle) * (1 + scale)
    affine = torch.stack([torch.stack([cos, -sin, right], -1), torch.stack([sin, cos, down], -1)], -2)  # (N, 2, 3)
    return F.grid_sample(x, F.affine_grid(affine, list(x.shape), align_corners=False), align_corners=False)


def fashion_mnist(root: str | os.PathLike) -> tuple[Grey, Grey]:
    """(training, test) images of Fashion-MNIST in `root`, 60,000 and 10,000, as `Grey`. Raises `DataError` if it is absent."""
    from dassl_vr.config import get_cfg_default
    from dassl_vr.datasets.fashion_mnist import FashionMNIST

    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.VAL_PERCENT = str(root), 0.0
    data = FashionMNIST(cfg)
    return Grey.of(data.train_x), Grey.of(data.test)


def digits(first_label: int) -> tuple[Grey, Grey]:
    """(training, test) images of `digits` as `Grey`: the half of its training split that is for this, and its test split."""
    from dassl_vr.config import get_cfg_default
    from dassl_vr.datasets.digits import Digits, halves

    data = Digits(get_cfg_default())
    return Grey.of(halves(data.train_x)[0], first_label), Grey.of(data.test, first_label)
