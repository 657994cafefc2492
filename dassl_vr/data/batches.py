"""Which samples a process takes, batch by batch."""

import itertools

from torch.utils.data import Sampler as TorchSampler

from ..utils import distributed

KEEP, MERGE, DROP = "keep", "merge", "drop"  # what becomes of a last batch of one sample


class Part(list):
    """The indices of this process's part of a batch.

    Attributes:
        real: how many of them count: all, or none if the first sample of the batch stands in for an empty part.
    """

    real = 0


class BatchSampler(TorchSampler):
    """Lists of (epoch, index), one per batch. Arguments as for `BatchLoader`."""

    def __init__(self, sampler, batch_size, drop_last, in_step, last_of_one=KEEP):
        self.sampler, self.batch_size, self.drop_last, self.in_step = sampler, batch_size, drop_last, in_step
        self.last_of_one = last_of_one
        self.epoch = 0
        self.first = 0
        self._next = None

    def total(self) -> int:
        """The number of samples that all processes take together in an epoch."""
        number = len(self.sampler)
        if self.drop_last:
            return number - number % self.batch_size
        return number - (self.last_of_one == DROP and self._leaves_one(number))

    def _leaves_one(self, number):
        """Whether batches of `number` samples end with one that has a single sample, after others that have more."""
        return number > self.batch_size and number % self.batch_size == 1

    def __len__(self):
        number = self.total()
        if not self.in_step:
            number = len(range(distributed.rank(), number, distributed.world_size()))
        return len(self._ends(number))

    def _ends(self, number):
        """Where each batch of `number` samples ends; it begins where the one before it ends."""
        ends = [*range(self.batch_size, number, self.batch_size), number] if number else []
        if self.last_of_one == MERGE and self._leaves_one(number):
            del ends[-2]
        return ends

    def parts(self) -> list[Part]:
        """The parts of the next iteration."""
        rank, world = distributed.rank(), distributed.world_size()
        order = list(itertools.islice(self.sampler, self.total()))
        if not self.in_step:
            order = order[rank::world]
        self._next = []
        ends = self._ends(len(order))
        for start, end in list(zip([0, *ends], ends))[self.first :]:
            batch = order[start:end]
            part = Part(batch[rank::world] if self.in_step else batch)
            part.real = len(part)
            self._next.append(part if part else Part(batch[:1]))
        self.first = 0
        return self._next

    def __iter__(self):
        epoch, parts = self.epoch, self._next
        return ([(epoch, index) for index in part] for part in parts)
