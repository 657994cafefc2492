"""Accuracy of a batch."""

from collections.abc import Sequence

import torch


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Share of samples whose label is among the k highest scores, in percent.

    Args:
        output: (B, classes) scores, or a tuple whose first entry they are.
        target: (B,) labels.
        topk: the values of k; one above the number of classes counts them all.

    Returns:
        a list with a tensor of one number for each k.
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    best = output.topk(min(max(topk), output.shape[1]), dim=1).indices  # (B, k), best first
    hits = best == target.view(-1, 1)
    return [100.0 * hits[:, :k].sum().view(1) / len(target) for k in topk]
