"""Output side of visual reprogramming (f_out): from the logits of the source classes to those of the target classes.

Every mapping turns (B, source) into (B, target). Its state is buffers of fixed shape, so a checkpoint of the module
that holds it carries it. Mappings that are computed from data are driven in three steps::

    mapping.reset()
    for images, labels in loader:
        mapping.observe(backbone.logits(f_in(images)), labels)
    mapping.update()

and `mapping.refresh` says when: "never", "start" (once, before training) or "epoch" (before each epoch). On a mapping
that needs no data the three do nothing. `observe` never waits for the device; `update` does.

A new one is a class in any file that is imported, a plug-in's included:

    @MAPPING_REGISTRY.register(name="scaled")
    class Scaled(LabelMapping):
        def __init__(self, num_source: int, num_target: int):
            super().__init__(num_source, num_target)
            self.scale = nn.Parameter(torch.ones(num_target))

        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits[:, : self.num_target] * self.scale

`TRAINER.SMM.MAPPING scaled` uses it, under any trainer that has the key. `LabelMapping` says what may be added.
"""

import torch
from torch import nn
from yacs.config import CfgNode

from ..utils.registry import Registry
from .assignment import bayesian_weights, check_classes, greedy_assignment

MAPPING_REGISTRY = Registry("label mapping")

# What a mapping reads: the source classes of the backbone (on CLIP sentences: templates times the target classes), its features, or
# one sentence for each target class (CLIP)
LABELS, FEATURES, CLASSES = "labels", "features", "classes"


class LabelMapping(nn.Module):
    """Base of all mappings: (B, num_source) logits -> (B, num_target) logits.

    A subclass defines `forward`; all the rest has a default. Its parameters are trained with `cfg.OPTIM`'s optimizer.

    Attributes:
        refresh: when the mapping is computed from data: "never", "start" (once, before training) or "epoch" (before each). By
            default "epoch" where the class, or a base of it, defines `observe`, else "never".
        reads: LABELS, FEATURES or CLASSES, or another name in `SOURCE_REGISTRY`.
        takes_new_classes: what was trained on some classes works on others: nothing in it belongs to the classes.
    """

    refresh = "never"
    reads = LABELS
    takes_new_classes = False

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "observe" in vars(cls) and "refresh" not in vars(cls):
            cls.refresh = "epoch"

    def __init__(self, num_source, num_target):
        super().__init__()
        self.num_source = num_source
        self.num_target = num_target

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "LabelMapping":
        """The mapping that `options` describe: by default `cls(num_source, num_target)`.

        Args:
            options: keys of the trainer (`TRAINER.<NAME>`), and SEED of the run.

        Raises:
            ValueError: for options or numbers of classes that cannot be.
        """
        return cls(num_source, num_target)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def reset(self) -> None:
        """Begin a new pass over the training samples."""

    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in source logits (B, source) and target labels (B,) of a batch."""

    def forget(self) -> None:
        """Give up a pass that was begun."""

    def update(self) -> None:
        """Compute the mapping from what was observed since `reset`."""

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


class _OneToOne(LabelMapping):
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


class _Counted(LabelMapping):
    """Adds the statistic `counts` (source, target): number of samples of a target class by their arg-max source class.

    `counts` lives from `reset` to `update` and is no part of the state; None in between.

    Raises:
        RuntimeError: the mapping is used before it was computed.
    """

    counts_dtype = torch.int64

    def __init__(self, num_source, num_target):
        super().__init__(num_source, num_target)
        self.register_buffer("counts", None, persistent=False)
        self.computed = False

    def _check_computed(self):
        if not self.computed:
            raise RuntimeError(
                f"{type(self).__name__} was not computed from data yet: call reset(), observe(logits, labels) for each batch of the"
                " training samples, then update(); or load the state of one that was"
            )

    def _is_computed(self):
        """Whether the state comes from data; waits for the device."""
        raise NotImplementedError

    def _load_from_state_dict(self, *arguments, **options):
        super()._load_from_state_dict(*arguments, **options)
        self.computed = self._is_computed()

    def reset(self) -> None:
        device = next(self.buffers()).device
        self.counts = torch.zeros(self.num_source, self.num_target, dtype=self.counts_dtype, device=device)

    def forget(self) -> None:
        self.counts = None

    @torch.no_grad()
    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        if self.counts is None:
            raise RuntimeError("observe() before reset()")
        cells = logits.argmax(dim=1) * self.num_target + labels  # (B,)
        self.counts.view(-1).scatter_add_(0, cells, torch.ones_like(cells))

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


@MAPPING_REGISTRY.register(name="rlm")
class Rlm(_OneToOne):
    """Random label mapping: an injective map drawn once from `seed`."""

    def __init__(self, num_source, num_target, seed=0):
        super().__init__(num_source, num_target)
        generator = torch.Generator().manual_seed(seed)
        self.source_index.copy_(torch.randperm(num_source, generator=generator)[:num_target])

    @classmethod
    def from_cfg(cls, options: CfgNode, num_source: int, num_target: int) -> "Rlm":
        return cls(num_source, num_target, options.SEED)


@MAPPING_REGISTRY.register(name="flm")
class Flm(_Counted, _OneToOne):
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


@MAPPING_REGISTRY.register(name="blm")
class Blm(_Counted):
    """Bayesian-guided label mapping (Cai et al. 2024): target logits = source logits @ weights, see `bayesian_weights`."""

    refresh = "epoch"

    def __init__(self, num_source, num_target, smoothing=1.0):
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
        return _largest_shares(self.weights.T, most)

    def _is_computed(self):
        return bool(self.weights.any())


@MAPPING_REGISTRY.register(name="blm+")
class BlmPlus(Blm):
    """Blm+ (Cai et al. 2024): as `Blm`, with the counts replaced by sums of the top-k source probabilities,
    k = 15 % of the number of target classes, at least 1."""

    counts_dtype = torch.float64

    def __init__(self, num_source, num_target, smoothing=1.0):
        super().__init__(num_source, num_target, smoothing)
        self.top_k = max(1, 15 * num_target // 100)

    @torch.no_grad()
    def observe(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        if self.counts is None:
            raise RuntimeError("observe() before reset()")
        values, indices = logits.double().softmax(dim=1).topk(self.top_k, dim=1)  # (B, k)
        kept = torch.zeros_like(logits, dtype=torch.float64).scatter_(1, indices, values)  # (B, source)
        classes = torch.nn.functional.one_hot(labels, self.num_target).double()  # (B, target)
        # A product, because a scatter of real numbers adds in any order on a GPU
        self.counts.addmm_(kept.T, classes)


@MAPPING_REGISTRY.register(name="linear")
class LinearMapping(LabelMapping):
    """A trainable fully connected layer on the source logits (AutoVP, Tsao et al. 2024)."""

    def __init__(self, num_source, num_target):
        super().__init__(num_source, num_target)
        self.linear = nn.Linear(num_source, num_target)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return self.linear(logits)

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return _largest_shares(self.linear.weight, most)


@MAPPING_REGISTRY.register(name="head")
class HeadMapping(LinearMapping):
    """A trainable fully connected layer on the backbone's features, in place of its classifier."""

    reads = FEATURES

    def edges(self, most: int = 1) -> list[tuple[int, int, float]]:
        return []  # features have no names


@MAPPING_REGISTRY.register(name="text")
class TextMapping(LabelMapping):
    """The identity: the source labels are the target classes already, as text features of their names (CLIP)."""

    reads = CLASSES
    takes_new_classes = True

    def __init__(self, num_source, num_target):
        if num_source != num_target:
            raise ValueError(f"{num_source} source classes for {num_target} target classes: expected as many")
        super().__init__(num_source, num_target)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


def _largest_shares(weights, most):
    """`LabelMapping.edges` of weights (target, source), of which those below zero do not count."""
    shares = weights.detach().float().clamp(min=0).cpu()
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-12)
    values, sources = (part[:, :most].tolist() for part in shares.sort(dim=1, descending=True, stable=True))
    return [(target, *pair) for target, row in enumerate(zip(sources, values)) for pair in zip(*row)]
