"""Which samples a process takes, batch by batch."""

import itertools

from torch.utils.data import Sampler as TorchSampler

from ..utils import distributed


class Part(list):
    """The indices of this process's part of a batch.

    Attributes:
        real: how many of them count: all, or none if the first sample of the batch stands in for an empty part.
    """

    real = 0


class BatchSampler(TorchSampler):
    """Lists of (epoch, index), one per batch. Arguments as for `BatchLoader`."""

    def __init__(self, sampler, batch_size, drop_last, in_step):
        self.sampler, self.batch_size, self.drop_last, self.in_step = sampler, batch_size, drop_last, in_step
        self.epoch = 0
        self.first = 0
        self._next = None

    def total(self) -> int:
        """The number of samples that all processes take together in an epoch."""
        number = len(self.sampler)
        return number - number % self.batch_size if self.drop_last else number

    def __len__(self):
        number = self.total()
        if not self.in_step:
            number = len(range(distributed.rank(), number, distributed.world_size()))
        return -(-number // self.batch_size)

    def parts(self) -> list[Part]:
        """The parts of the next iteration."""
        rank, world, size = distributed.rank(), distributed.world_size(), self.batch_size
        order = list(itertools.islice(self.sampler, self.total()))
        if not self.in_step:
            order = order[rank::world]
        self._next = []
        for start in range(self.first * size, len(order), size):
            batch = order[start : start + size]
            part = Part(batch[rank::world] if self.in_step else batch)
            part.real = len(part)
            self._next.append(part if part else Part(batch[:1]))
        self.first = 0
        return self._next

    def __iter__(self):
        epoch, parts = self.epoch, self._next
        return ([(epoch, index) for index in part] for part in parts)
