"""Samplers of the Dassl family. The order each gives is a function of (seed, epoch) alone."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch.utils.data.sampler import Sampler
from yacs.config import CfgNode

from ..utils.errors import ConfigError
from ..utils.registry import Registry
from .augment_rng import derive_seed
from .datasets import Datum

SAMPLER_REGISTRY = Registry("sampler")


class EpochSampler(Sampler):
    """Base: subclasses define `_order(rng) -> list of indices` from a generator seeded for the current epoch."""

    def __init__(self, data_source, seed=0):
        self.data_source = data_source
        self.seed = seed
        self.epoch = 0
        self._cache = None  # (epoch, order)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iterations give."""
        self.epoch = epoch

    def order(self) -> Sequence[int]:
        """The indices of the current epoch, in order."""
        if self._cache is None or self._cache[0] != self.epoch:
            rng = random.Random(derive_seed("sampler", self.seed, self.epoch))
            self._cache = (self.epoch, self._order(rng))
        return self._cache[1]

    def _order(self, rng):
        raise NotImplementedError

    def __iter__(self):
        return iter(self.order())

    def __len__(self):
        return len(self.order())


@SAMPLER_REGISTRY.register()
class SequentialSampler(EpochSampler):
    """All samples, in their order."""

    def _order(self, rng):
        return range(len(self.data_source))


@SAMPLER_REGISTRY.register()
class RandomSampler(EpochSampler):
    """All samples, shuffled."""

    def _order(self, rng):
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        return torch.randperm(len(self.data_source), generator=generator).tolist()

    def __len__(self):
        return len(self.data_source)


class _DomainSampler(EpochSampler):
    """Batches made of equally many images of each of `n_domain` domains; ends when a domain has too few left."""

    def __init__(self, data_source, batch_size, n_domain=0, seed=0):
        super().__init__(data_source, seed)
        self.indices = _group(data_source, "domain")
        self.domains = sorted(self.indices)
        self.n_domain = n_domain if n_domain and n_domain > 0 else len(self.domains)
        self.batch_size = batch_size
        self.n_img_per_domain = batch_size // self.n_domain
        if self.n_domain > len(self.domains):
            raise ConfigError(f"DATALOADER N_DOMAIN is {self.n_domain}, but the data holds {len(self.domains)} domain(s); lower it")
        if batch_size % self.n_domain:
            raise ConfigError(
                f"batch size {batch_size} is not a multiple of {self.n_domain} domains; change BATCH_SIZE or N_DOMAIN"
            )
        smallest = min(self.domains, key=lambda d: len(self.indices[d]))
        if len(self.indices[smallest]) < self.n_img_per_domain:
            raise ConfigError(
                f"domain {smallest} has {len(self.indices[smallest])} image(s), fewer than the {self.n_img_per_domain} "
                "that a batch takes of each domain; lower BATCH_SIZE"
            )

    def _choose(self, rng):
        raise NotImplementedError

    def _order(self, rng):
        left = {domain: rng.sample(self.indices[domain], len(self.indices[domain])) for domain in self.domains}
        order = []
        while True:
            chosen = self._choose(rng)
            for domain in chosen:
                order += [left[domain].pop() for _ in range(self.n_img_per_domain)]
            if any(len(left[domain]) < self.n_img_per_domain for domain in chosen):
                return order


@SAMPLER_REGISTRY.register()
class RandomDomainSampler(_DomainSampler):
    """Each batch holds equally many images of `n_domain` domains drawn at random."""

    def _choose(self, rng):
        return rng.sample(self.domains, self.n_domain)


@SAMPLER_REGISTRY.register()
class SeqDomainSampler(_DomainSampler):
    """Each batch holds equally many images of every domain, the domains in order."""

    def _choose(self, rng):
        return self.domains


@SAMPLER_REGISTRY.register()
class RandomClassSampler(EpochSampler):
    """Each batch holds `n_ins` images of each of `batch_size // n_ins` classes drawn at random."""

    def __init__(self, data_source, batch_size, n_ins, seed=0):
        super().__init__(data_source, seed)
        self.indices = _group(data_source, "label")
        self.n_ins = n_ins
        self.batch_size = batch_size
        self.ncls_per_batch = batch_size // n_ins
        if not 1 <= self.ncls_per_batch <= len(self.indices):
            raise ConfigError(
                f"RandomClassSampler: batch size {batch_size} with {n_ins} images per class asks for "
                f"{self.ncls_per_batch} classes per batch, the data has {len(self.indices)}; change BATCH_SIZE or N_INS"
            )

    def _order(self, rng):
        chunks = {}  # label -> groups of n_ins images
        for label, indices in self.indices.items():
            if len(indices) < self.n_ins:
                chunks[label] = [rng.choices(indices, k=self.n_ins)]
            else:
                shuffled = rng.sample(indices, len(indices))
                last = len(shuffled) - self.n_ins
                chunks[label] = [shuffled[i : i + self.n_ins] for i in range(0, last + 1, self.n_ins)]
        available, order = list(chunks), []
        while len(available) >= self.ncls_per_batch:
            for label in rng.sample(available, self.ncls_per_batch):
                order += chunks[label].pop()
                if not chunks[label]:
                    available.remove(label)
        return order


def _group(data_source, attribute):
    groups = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return dict(groups)


def class_balanced_order(items: Sequence[Datum]) -> list[int]:
    """The positions in `items`, such that any first n are spread over the classes: an image of each, then a second one of each, ...

    Drawn with a fixed seed and a generator of its own.
    """
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    seen, turns = Counter(), {}
    for position in order:
        turns[position] = seen[items[position].label]
        seen[items[position].label] += 1
    return sorted(order, key=turns.get)  # stable: within a turn the classes stay in random order


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
    stream: int = 0,
) -> Sampler:
    """A sampler by name.

    Args:
        sampler_type: RandomSampler, SequentialSampler, RandomDomainSampler, SeqDomainSampler or RandomClassSampler.
        cfg: gives the seed; without it, torch's initial seed is taken.
        stream: tells apart loaders of the same seed, so that labelled and unlabelled images come in different orders.

    Raises:
        ConfigError: the name is unknown, or the data cannot fill a batch as asked.
    """
    cls = SAMPLER_REGISTRY.get(sampler_type)
    seed = derive_seed(torch.initial_seed() if cfg is None else cfg.SEED, stream)
    if issubclass(cls, SeqDomainSampler):
        return cls(data_source, batch_size, seed=seed)
    if issubclass(cls, _DomainSampler):
        return cls(data_source, batch_size, n_domain, seed=seed)
    if issubclass(cls, RandomClassSampler):
        return cls(data_source, batch_size, n_ins, seed=seed)
    return cls(data_source, seed=seed)
