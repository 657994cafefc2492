"""Blm and Blm+: target logits as weighted sums of source logits, the weights computed from counts."""

import torch

from ...utils.devices import in_double
from ..assignment import bayesian_weights, check_classes
from .base import MAPPING_REGISTRY, largest_shares
from .counted import Counted


@MAPPING_REGISTRY.register(name="blm")
class Blm(Counted):
    """Bayesian-guided label mapping (Cai et al. 2024): target logits = source logits @ weights, see `bayesian_weights`.

    Used as `Ilm`.

    Args:
        smoothing: the lambda of the paper, 0 or more.

    Raises:
        ValueError: there are more target than source classes, or `smoothing` is below 0.
        RuntimeError: as of `Ilm`.
    """

    refresh = "epoch"

    def __init__(self, num_source: int, num_target: int, smoothing: float = 1.0):
        check_classes(num_source, num_target)
        if smoothing < 0:
            raise ValueError(f"smoothing is {smoothing}, expected 0 or more")
        super().__init__(num_source, num_target)
        self.smoothing = smoothing
        self.register_buffer("weights", torch.zeros(num_source, num_target))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        self._check_computed()
        return logits @ self.weights  # (B, source) @ (source, target)

    def update(self) -> None:
        self.weights.copy_(bayesian_weights(self._take_counts(), self.smoothing))

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return largest_shares(self.weights.T, most)

    def _is_computed(self):
        return bool(self.weights.any())


@MAPPING_REGISTRY.register(name="blm+")
class BlmPlus(Blm):
    """Blm+ (Cai et al. 2024): as `Blm`, with the counts replaced by sums of the top-k source probabilities,
    k = 15 % of the number of target classes, at least 1.

    Raises:
        ValueError, RuntimeError: as `Blm`.
    """

    counts_dtype = torch.float64

    def __init__(self, num_source: int, num_target: int, smoothing: float = 1.0):
        super().__init__(num_source, num_target, smoothing)
        self.top_k = max(1, 15 * num_target // 100)

    @torch.no_grad()
    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        if self.counts is None:
            raise RuntimeError("observe() before reset()")
        probabilities = in_double(logits).softmax(dim=1)
        values, indices = probabilities.topk(self.top_k, dim=1)  # (B, k)
        kept = torch.zeros_like(probabilities).scatter_(1, indices, values)  # (B, source)
        classes = torch.nn.functional.one_hot(labels.to(kept.device), self.num_target).double()  # (B, target)
        # A product, because a scatter of real numbers adds in any order on a GPU
        self.counts.addmm_(kept.T, classes)
