"""What mappings share in which each target class reads source classes chosen for it."""

import torch

from .base import LabelMapping
from .counted import Counted


class Chosen(LabelMapping):
    """Each target class reads the source classes in `source_index` (target, ...); -1 = not known yet.

    Args:
        shape: of `source_index`.
    """

    def __init__(self, num_source: int, num_target: int, shape: tuple[int, ...]):
        super().__init__(num_source, num_target)
        self.register_buffer("source_index", torch.full(shape, -1))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        index = state_dict.get(f"{prefix}source_index", self.source_index)
        if not bool(((index >= 0) & (index < self.num_source)).all() or (index == -1).all()):
            errors.append(f"'{prefix}source_index' names other source classes than the {self.num_source} there are")
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


class CountedChoice(Counted):
    """The choice is made from counts, once before training; a base in front of one with a `source_index`."""

    refresh = "start"

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        self._check_computed()
        return super().forward(logits)

    def _is_computed(self):
        return bool((self.source_index >= 0).all())
