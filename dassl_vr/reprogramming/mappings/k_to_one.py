"""AutoVP's maps: each target class reads the mean of several source classes of its own."""

from collections.abc import Sequence

import torch
from yacs.config import CfgNode

from ..assignment import check_classes, greedy_sets, most_similar_sets
from .base import MAPPING_REGISTRY, Words
from .chosen import Chosen, CountedChoice
from .of_words import OfWords


class KToOne(Chosen):
    """The mean of the logits in `source_index` (target, each); -1 = not known yet."""

    in_paper_table = False

    def __init__(self, num_source: int, num_target: int, each: int = 1):
        check_classes(num_source, num_target, each)
        super().__init__(num_source, num_target, (num_target, each))

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        # freq and semantic: source classes per target class (the paper tries 1, 5 and 10)
        node.SOURCES_EACH = 5

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "KToOne":
        return cls(num_source, num_target, options.SOURCES_EACH)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        chosen = logits.index_select(1, self.source_index.flatten())
        return chosen.unflatten(1, self.source_index.shape).mean(dim=-1)

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        share = 1 / self.source_index.shape[1]
        rows = self.source_index[:, :most].tolist()
        return [(target, source, share) for target, row in enumerate(rows) for source in row]


@MAPPING_REGISTRY.register(name="freq")
class FrequencyMap(CountedChoice, KToOne):
    """The mean of the source classes that a target class's images fall on most often, once before training (AutoVP)."""

    def update(self) -> None:
        self.source_index.copy_(greedy_sets(self._take_counts(), self.source_index.shape[1]))


@MAPPING_REGISTRY.register(name="semantic")
class SemanticMap(OfWords, KToOne):
    """The mean of the source classes whose names are most like the target class's, to a CLIP's text tower (AutoVP)."""

    compares_names = True

    def prepare(self, words: Words) -> None:
        super().prepare(words)
        targets, sources = (words.encode(plain(names)) for names in (words.classnames, words.source_classes))
        self.source_index.copy_(most_similar_sets(targets @ sources.T, self.source_index.shape[1]))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        self._check_prepared()
        return super().forward(logits)

    def _is_prepared(self):
        return bool((self.source_index >= 0).all())


def plain(names: Sequence[str]) -> list[str]:
    """Names with spaces for underscores."""
    return [name.replace("_", " ") for name in names]
