"""Each target class reads one source class of its own: Rlm, Flm, Ilm."""

import torch
from yacs.config import CfgNode

from ..assignment import check_classes, greedy_assignment
from .base import MAPPING_REGISTRY
from .chosen import Chosen, CountedChoice


class OneToOne(Chosen):
    """Each target class reads the logit of one source class of its own: `source_index` (target,), -1 = not known yet."""

    def __init__(self, num_source, num_target):
        check_classes(num_source, num_target)
        super().__init__(num_source, num_target, (num_target,))

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
class Flm(CountedChoice, OneToOne):
    """Frequent label mapping: the greedy assignment on the counts, once before training."""

    def update(self) -> None:
        self.source_index.copy_(greedy_assignment(self._take_counts()))


@MAPPING_REGISTRY.register(name="ilm")
class Ilm(Flm):
    """Iterative label mapping (Chen et al. 2023): the frequent one, anew before every epoch with the current f_in."""

    refresh = "epoch"
