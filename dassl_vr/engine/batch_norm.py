"""Batch norms that are trained, at a batch too small for statistics of its own."""

from collections.abc import Iterable

from torch import nn


def survive_single_images(models: Iterable[nn.Module]) -> None:
    """Have each batch norm in `models` use its running statistics where a training batch has one value per channel, as a last batch
    of one image can have, instead of raising an error. Says so once.
    """
    said = []

    def before(norm, inputs):
        x = inputs[0]
        if norm.training and norm.running_mean is not None and x.numel() == x.shape[1]:
            norm.training = False
            alone.add(norm)
            if not said:
                said.append(print("NOTE: a batch of one image has no statistics for batch norm, which uses its running ones there"))

    def after(norm, inputs, output):
        if norm in alone:
            alone.discard(norm)
            norm.training = True

    alone = set()
    norms = {part for model in models for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}
    for norm in norms:
        norm.register_forward_pre_hook(before)
        norm.register_forward_hook(after)
