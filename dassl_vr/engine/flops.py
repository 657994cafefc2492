"""What a prediction costs in arithmetic."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..backbones.class_token import whole_blocks
from ..utils.text import one_line

if TYPE_CHECKING:
    from .trainer import SimpleTrainer


def flops_per_image(forward: Callable[[torch.Tensor], object], size: tuple[int, int], device: torch.device | str = "cpu") -> int:
    """Floating-point operations of the forward pass of one more image: convolutions and matrix products, where a multiplication
    with its addition counts two, as `torch.utils.flop_counter` counts them.

    It is the difference between two images and one. What is computed once however many images there are, such as the features of
    learned sentences, does not count: a deployed model knows it.

    Args:
        forward: (B, 3, H, W) -> anything; in evaluation mode.
        size: (H, W)
    """
    with _layer_by_layer():
        one, two = (_flops(forward, torch.zeros(number, 3, *size, device=device)) for number in (1, 2))
    return two - one


def _flops(forward, images):
    with FlopCounterMode(display=False) as counter:
        forward(images)
    return counter.get_total_flops()


@contextlib.contextmanager
def _layer_by_layer() -> Iterator[None]:
    """Without what torch, or we, compute in one step in place of the layers as they are defined: the counter cannot look inside,
    and of a faster form of the same function it may see other numbers."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # With gradients the mask generator's blocks work layer by layer (`reprogramming.pooled_block.applies`)
        stance = torch.compiler.set_stance("force_eager")
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), stance, whole_blocks():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def flops_of(trainer: "SimpleTrainer") -> int | None:
    """`flops_per_image` of a trainer's model as it is now; None, and a line, where its input is not an image."""
    trainer.set_model_mode("eval")
    try:
        return flops_per_image(trainer.model_inference, tuple(trainer.cfg.INPUT.SIZE), trainer.device)
    except Exception as error:  # of a trainer of the family that takes something else
        print(one_line(f"FLOPs are not counted ({type(error).__name__}: {error}); nothing else is affected"))
        return None
