"""What every f_out has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from yacs.config import CfgNode

from ...utils.registry import Registry

MAPPING_REGISTRY = Registry("label mapping")

# What a mapping reads: the source classes of the backbone (on CLIP sentences: templates times the target classes), its features,
# one sentence for each target class (CLIP), or the image features that a CLIP compares with sentences, of the length of its scale
LABELS, FEATURES, CLASSES, EMBEDDING = "labels", "features", "classes", "embedding"


@dataclass(frozen=True)
class Words:
    """What is known in words, for mappings that are made of it.

    Attributes:
        classnames: of the target classes.
        source_classes: names of the logits that the mapping reads.
        encode: N sentences -> (N, D) text features of unit length.
        descriptions: gives lists of sentences about each target class, a list for each bank: [bank][class][sentence].
        prompts: a sentence for each target class, as MAPPING text has it.
    """

    classnames: Sequence[str]
    source_classes: Sequence[str]
    encode: Callable[[Sequence[str]], torch.Tensor]
    descriptions: Callable[[], list[list[list[str]]]]
    prompts: Sequence[str] = ()


class LabelMapping(nn.Module):
    """Base of all mappings: (B, num_source) logits -> (B, num_target) logits.

    A subclass defines `forward`; all the rest has a default. Its parameters are trained with `cfg.OPTIM`'s optimizer.

    Attributes:
        refresh: when the mapping is computed from data: "never", "start" (once, before training), "epoch" (before each) or "ends"
            (before the first epoch and after the last, see `solve`). By default "epoch" where the class, or a base of it, defines
            `observe`, "ends" where it defines `solve`, else "never".
        reads: LABELS, FEATURES, CLASSES or EMBEDDING, or another name in `SOURCE_REGISTRY`.
        in_paper_table: the SMM paper's table of mappings (`reproduce.sh mapping`) has it, if it reads LABELS.
        takes_new_classes: what was trained on some classes works on others: nothing in it belongs to the classes.
        compares_names: `prepare` encodes names; where the backbone is no CLIP, the text tower of `TRAINER.<NAME>.NAMES_BY` does.
    """

    refresh = "never"
    reads = LABELS
    in_paper_table = True
    takes_new_classes = False
    compares_names = False

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for method, refresh in (("observe", "epoch"), ("solve", "ends")):
            if method in vars(cls) and "refresh" not in vars(cls):
                cls.refresh = refresh

    def __init__(self, num_source: int, num_target: int):
        super().__init__()
        self.num_source = num_source
        self.num_target = num_target

    @staticmethod
    def add_keys(node: CfgNode) -> None:
        """Add the keys that `from_cfg` reads to the node of a trainer that takes any f_out; none by default."""

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "LabelMapping":
        """The mapping that `options` describe: by default `cls(num_source, num_target)`.

        Args:
            options: keys of the trainer (`TRAINER.<NAME>`), and what is known besides: SEED of the run, VIEWS that the f_in makes
                of an image (`num_source` counts the logits of all of them).

        Raises:
            ValueError: for options or numbers of classes that cannot be.
        """
        return cls(num_source, num_target)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, num_source) logits of the source classes -> (B, num_target) logits of the target classes."""
        raise NotImplementedError

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of target classes and of what each may be made of, by default the source logits: rows and columns of its matrix,
        where it has one."""
        return self.num_target, self.num_source

    def optim(self, options: CfgNode) -> dict[str, object]:
        """{key of `cfg.OPTIM`: value} where it is trained with settings of its own, and then saved under the name `mapping`."""
        return {}

    def prepare(self, words: Words) -> None:
        """Called once before training, also of a run that is resumed, but not where a trained mapping is loaded."""

    def reset(self) -> None:
        """Begin a new pass over the training samples."""

    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in source logits (B, source) and target labels (B,) of a batch."""

    def forget(self) -> None:
        """Give up a pass that was begun."""

    def update(self) -> None:
        """Compute the mapping from what was observed since `reset`."""

    def solve(self, logits: torch.Tensor, labels: torch.Tensor, trained: bool) -> None:
        """Compute the mapping from all training samples at once, where `refresh` is "ends".

        Args:
            logits: (N, source) of the images as they are tested, without augmentation, in evaluation mode.
            labels: (N,) target labels.
            trained: False before the first epoch, True after the last. Called once more with the same where a run was
                interrupted.
        """

    @property
    def observed(self) -> dict[str, torch.Tensor]:
        """{name: tensor} of what `observe` took in since `reset`; empty where nothing is gathered, and after `update`.

        Several processes of a run each observe their part; the tensors of all are added up before `update`.
        """
        return {}

    def load_observed(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from what `observed` gave, if `state` holds it. Raises `ValueError` for anything else under that name."""

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        """[(target index, source index, share in 0 .. 1)], strongest first for each target class, `most` of each at the most, to
        show the mapping; [] where there is nothing to show."""
        return []

    def extra_repr(self) -> str:
        return f"{self.num_source} -> {self.num_target}"


class FromData(LabelMapping):
    """A mapping that is nothing before it was computed from data, or the state of one that was is loaded.

    Attributes:
        computed_by: the calls that compute it, for the message.

    Raises:
        RuntimeError: it is used before.
    """

    computed_by = ""
    computed = False

    def _check_computed(self):
        if not self.computed:
            raise RuntimeError(
                f"{type(self).__name__} was not computed from data yet: call {self.computed_by}; or load the state of one that was"
            )

    def _is_computed(self):
        """Whether the state comes from data; waits for the device."""
        raise NotImplementedError

    def _load_from_state_dict(self, *arguments, **options):
        super()._load_from_state_dict(*arguments, **options)
        self.computed = self._is_computed()


def largest_shares(weights: torch.Tensor, most: int) -> list[tuple[int, int, float]]:
    """`LabelMapping.edges` of weights (target, source), of which those below zero do not count."""
    shares = weights.detach().float().clamp(min=0).cpu()
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-12)
    values, sources = (part[:, :most].tolist() for part in shares.sort(dim=1, descending=True, stable=True))
    return [(target, *pair) for target, row in enumerate(zip(sources, values)) for pair in zip(*row)]
