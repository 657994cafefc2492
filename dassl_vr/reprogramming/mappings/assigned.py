"""Each target class reads one source class of its own: Rlm, Flm, Ilm."""

import torch
from yacs.config import CfgNode

from ..assignment import check_classes, greedy_assignment
from .base import MAPPING_REGISTRY, LabelMapping
from .counted import Counted


class OneToOne(LabelMapping):
    """Each target class reads the logit of one source class of its own: `source_index` (target,), -1 = not known yet."""

    def __init__(self, num_source, num_target):
        check_classes(num_source, num_target)
        super().__init__(num_source, num_target)
        self.register_buffer("source_index", torch.full((num_target,), -1))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        index = state_dict.get(f"{prefix}source_index", self.source_index)
        if not bool(((index >= 0) & (index < self.num_source)).all() or (index == -1).all()):
            errors.append(f"'{prefix}source_index' names other source classes than the {self.num_source} there are")
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_select(1, self.source_index)

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return [(target, source, 1.0) for target, source in enumerate(self.source_index.tolist())]


@MAPPING_REGISTRY.register(name="rlm")
class Rlm(OneToOne):
    """Random label mapping: an injective map drawn once from `seed`."""

    def __init__(self, num_source, num_target, seed=0):
        super().__init__(num_source, num_target)
        generator = torch.Generator().manual_seed(seed)
        self.source_index.copy_(torch.randperm(num_source, generator=generator)[:num_target])

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "Rlm":
        return cls(num_source, num_target, options.SEED)


@MAPPING_REGISTRY.register(name="flm")
class Flm(Counted, OneToOne):
    """Frequent label mapping: the greedy assignment on the counts, once before training."""

    refresh = "start"

    def update(self) -> None:
        self.source_index.copy_(greedy_assignment(self._take_counts()))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        self._check_computed()
        return super().forward(logits)

    def _is_computed(self):
        return bool((self.source_index >= 0).all())


@MAPPING_REGISTRY.register(name="ilm")
class Ilm(Flm):
    """Iterative label mapping (Chen et al. 2023): the frequent one, anew before every epoch with the current f_in."""

    refresh = "epoch"
