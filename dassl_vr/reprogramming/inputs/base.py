"""What every f_in has."""

from collections.abc import Sequence

import torch
from torch import nn
from yacs.config import CfgNode

from ...utils.registry import Registry

INPUT_REGISTRY = Registry("f_in")


class InputPrompt(nn.Module):
    """Base of all f_in: (B, 3, S, S) normalized images -> the same with a prompt in them.

    One that makes several views of an image gives (B * views, 3, S, S), the views of an image one after another. The f_out then
    reads what the backbone says of all views of an image, side by side (`SeveralViews`).

    A subclass defines `forward`; all the rest has a default. Its parameters are trained with `cfg.OPTIM`'s optimizer, but for
    the parts that `parts` names. Buffers that are saved are to be changed in place.

    Attributes:
        transforms: transforms that INPUT.TRANSFORMS must hold for it, of those that no f_in without them may have (`vr_pad`).
        trainer: the trainer that shows it in a comparison of methods.
        own_recipe: its rates are not those of the watermarks, so that it is compared only where a recipe of its own says them; so
            are those with `transforms`.
        changes_nothing: forward(x) is x.
        views: versions of an image that `forward` gives, each of which goes through the backbone.
        adds: what `added` is, as the heading of a picture.
    """

    transforms = ()
    trainer = "VR"
    own_recipe = False
    changes_nothing = False
    views = 1
    adds = "change"

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Add the keys that `from_cfg` and `parts` read to the node of a trainer that takes any f_in; none by default."""

    @classmethod
    def from_cfg(cls, options: CfgNode, size: int) -> "InputPrompt":
        """The module for images of side `size` that `options` describe: by default `cls(size)`.

        Args:
            options: keys of the trainer (`TRAINER.<NAME>`), and what is known of the images: PIXEL_MEAN and PIXEL_STD (three
                numbers each), PAD_SIDE (side in pixels of the small image that `vr_pad` centres).

        Raises:
            ValueError: for options that cannot be.
        """
        return cls(size)

    def parts(self, options: CfgNode) -> dict[str, tuple[nn.Module, dict[str, object]]]:
        """{name: (submodule, {key of `cfg.OPTIM`: value})} of the submodules that are trained with settings of their own, each
        saved under its name; none by default."""
        return {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> the same with the prompt in them, (B * views, 3, S, S)."""
        raise NotImplementedError

    def masks(self, x: torch.Tensor) -> torch.Tensor | None:
        """What multiplies the pattern at each pixel of these images, (B * views, 3, S, S), to be shown; None where there is no
        mask."""
        return None

    def pattern(self) -> torch.Tensor | None:
        """What is learned as an image of its own, (3, S, S), of several views (views, 3, S, S), to be shown; None where there is no
        such image."""
        return None

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """What `forward` adds to these images, (B * views, 3, S, S)."""
        return self(x) - self.copies(x)

    def captions(self) -> dict[str, str]:
        """What its pictures show, a sentence each: "mask", "pattern", "change" (result minus input). For those that are left out,
        what is true of any f_in is said."""
        return {}

    def copies(self, x: torch.Tensor) -> torch.Tensor:
        """The views of these images as they would be without a prompt, (B * views, 3, S, S)."""
        return x if self.views == 1 else x.repeat_interleave(self.views, dim=0)


class PixelPrompt(InputPrompt):
    """Base of those that work before the normalization: on pixels from 0 to 1.

    Args:
        size: side S of the images.
        mean, std: the numbers, one a channel, that the images were normalized with.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        for name, numbers in (("mean", mean), ("std", std)):
            if len(numbers) != 3:
                raise ValueError(f"{name} has {len(numbers)} numbers, expected three, one per colour channel")
        self.size = size
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def pixels(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalized images -> the same from 0 to 1, up to rounding."""
        return x * self.std + self.mean

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """The reverse of `pixels`, also of one image."""
        return (pixels - self.mean) / self.std


class PlainInput(InputPrompt):
    """No prompt: (B, 3, S, S) images as they are, for methods that learn elsewhere."""

    changes_nothing = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
