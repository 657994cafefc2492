"""What the f_outs share that count on which source classes the training images fall."""

import torch

from ...utils import devices
from .base import FromData


class Counted(FromData):
    """Adds the statistic `counts` (source, target): number of samples of a target class by their arg-max source class, or by those
    that a subclass names in `sources`.

    `counts` lives from `reset` to `update` and is no part of the state; None in between.
    """

    computed_by = "reset(), observe(logits, labels) for each batch of the training samples, then update()"
    counts_dtype = torch.int64

    def __init__(self, num_source: int, num_target: int, *more: object):
        super().__init__(num_source, num_target, *more)
        self.register_buffer("counts", None, persistent=False)

    def reset(self) -> None:
        device = next(self.buffers()).device
        if self.counts_dtype.is_floating_point and not devices.has_float64(device):
            device = devices.CPU
        self.counts = torch.zeros(self.num_source, self.num_target, dtype=self.counts_dtype, device=device)

    def forget(self) -> None:
        self.counts = None

    @torch.no_grad()
    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        if self.counts is None:
            raise RuntimeError("observe() before reset()")
        sources = self.sources(logits, labels)  # (B, k)
        cells = (sources * self.num_target + labels[:, None]).flatten()
        self.counts.view(-1).scatter_add_(0, cells, torch.ones_like(cells))

    def sources(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, k) source classes that each sample counts for, none twice."""
        return logits.argmax(dim=1, keepdim=True)

    @property
    def observed(self) -> dict[str, torch.Tensor]:
        return {} if self.counts is None else {"counts": self.counts}

    def load_observed(self, state: dict[str, torch.Tensor]) -> None:
        if "counts" in state:
            self.reset()
            counts = state["counts"]
            if not isinstance(counts, torch.Tensor) or (counts.shape, counts.dtype) != (self.counts.shape, self.counts.dtype):
                raise ValueError(f"its counts are not those of {self.num_source} source and {self.num_target} target classes")
            if not bool((counts >= 0).all()):
                raise ValueError("it has counts below 0")
            self.counts.copy_(counts)

    def _take_counts(self):
        if self.counts is None:
            raise RuntimeError("update() before reset()")
        counts, self.counts, self.computed = self.counts, None, True
        return counts
