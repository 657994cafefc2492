"""Batches, finished and on the device."""

import weakref
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate
from torch.utils.data import Dataset as TorchDataset

from ..utils import distributed
from ..utils.errors import DataError, UserError
from ..utils.images import UnreadableImageError, once, print_warning, remarks_to
from ..utils.signals import shield_worker
from .augment_rng import derive_seed, seeded_generators
from .batches import KEEP, BatchSampler

if TYPE_CHECKING:
    from .store import ImageStores


class BatchLoader:
    """Iterates over dictionaries of finished batches on the device.

    The pictures and their order depend on seed and epoch alone: not on the number of workers, nor on what else draws
    random numbers; nor does iterating move any global generator. Where several processes share a run, each gives its part.

    Args:
        dataset: a `DatasetWrapper` or a replacement for it.
        sampler: gives the indices of an epoch, for all processes.
        batch_size: of all processes together if `in_step`, else of each.
        last_of_one: what becomes of a last batch of one sample: "keep", "merge" (it joins the batch before) or "drop".
        in_step: each process takes its part of every batch, so that all give equally many (for training), in place of its
            part of the samples.
        persistent: keep the workers from one epoch to the next.
        pin_memory: have batches in page-locked memory, from where a GPU takes them while the CPU continues.
        stream: see `SampleKeys`.
        stores: `ImageStores` to take the images from where that is possible.
        skip_bad: leave out images that cannot be read, instead of raising `DataError`.
        skipped: {path: why} that images left out are added to.
        name: of these images, for messages.
        listener: for remarks on images, see `remarks_to`.

    Attributes:
        real: how many samples of the batch given last count. Less than its length only if there was nothing for this process in
            a batch of the others: then it is 0, and the batch holds a stand-in, because all processes have to take the step.
        position: the number of the next batch of this epoch.
        epoch: the one that `set_epoch` chose.
    """

    def __init__(
        self,
        dataset: TorchDataset,
        sampler: Sampler,
        batch_size: int,
        device: str | torch.device = "cpu",
        drop_last: bool = False,
        num_workers: int = 0,
        persistent: bool = False,
        pin_memory: bool = False,
        seed: int = 0,
        stream: int = 0,
        stores: "ImageStores | None" = None,
        skip_bad: bool = False,
        skipped: dict[str, str] | None = None,
        in_step: bool = False,
        last_of_one: str = KEEP,
        name: str = "",
        listener: Callable | None = None,
    ):
        self.dataset = dataset
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last, self.last_of_one = drop_last, last_of_one
        self.num_workers = num_workers
        self.device = torch.device(device)
        self.pin_memory = pin_memory
        self.skip_bad = skip_bad
        self.skipped = {} if skipped is None else skipped
        self.name = name
        self.listener = listener or once()
        self._stores = stores
        self._two_steps = getattr(dataset, "works_in_two_steps", False)
        if self._two_steps:
            dataset.stream = stream
        self.real = self.position = 0
        self._stand_in = None  # the first sample of the last batch
        self._keys = BatchSampler(sampler, batch_size, drop_last, in_step, last_of_one)
        self._loader = DataLoader(
            _Items(dataset, self._two_steps, seed, stream),
            batch_sampler=self._keys,
            num_workers=num_workers,
            persistent_workers=persistent and num_workers > 0,
            pin_memory=pin_memory,
            collate_fn=_collate,
            worker_init_fn=shield_worker,
            generator=torch.Generator(),  # for the workers' base seed, else drawn from the global one
        )
        # Keeps torch's loader out of cycles that this object may be in (a trainer's, a traceback's): collected as part
        # of one, its queues would close before its workers are told to stop, and torch would wait 5 seconds for each.
        weakref.finalize(self, _let_go, self._loader).atexit = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and augmentation the next iterations give."""
        self._keys.epoch = epoch
        for part in (self.sampler, self.dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def start_at(self, batch: int) -> None:
        """Have the next iteration leave out the batches before number `batch`, without reading them."""
        self._keys.first = batch

    @property
    def epoch(self) -> int:
        return self._keys.epoch

    @property
    def num_samples(self) -> int:
        """How many samples all processes take together in an epoch."""
        return self._keys.total()

    def __len__(self):
        return len(self._keys)

    def __iter__(self):
        stores = self._open_stores()
        first, parts = self._keys.first, self._keys.parts()
        reason, given = "", False
        batches = zip(self._batches_of(stores, parts) if stores else self._loaded_batches(), parts)
        for self.position, ((batch, failures, remarks), part) in enumerate(batches, start=first + 1):
            for entry in remarks:
                self.listener(entry)
            if failures and not self.skip_bad:
                error = failures[0].error
                raise error.in_a_run() if isinstance(error, UnreadableImageError) else error
            reason = reason or (str(failures[0].error) if failures else "")
            self._note_skipped({failure.impath: str(failure.error) for failure in failures})
            self.real = part.real - len(failures) if part.real else 0
            if batch is None and self._keys.in_step and distributed.is_parallel():
                batch = self._stand_in
                if batch is None:
                    raise DataError("a process can read none of its images of the first batch; repair them, or use fewer processes")
            if batch is None:
                continue
            self._stand_in = _first_sample(batch) if self._keys.in_step else None
            index = batch["index"].numpy() if self._two_steps else None  # here: on the device one would have to wait for it
            batch, given = _to_device(batch, self.device), True
            yield self.dataset.finish(batch, index) if self._two_steps else batch

        if reason and not given and first == 0 and not distributed.is_parallel():
            what = f"none of the {len(self.dataset)} {self.name} images can be read"
            raise DataError(f"{what}, for example {reason}; put readable ones in their place")

    def _open_stores(self):
        """{name: store} of all pictures in a batch, or None if they have to be decoded."""
        views = self.dataset.stored_views() if self._stores and self._two_steps else None
        if not views:
            return None
        stores = {name: self._stores.get(self.dataset.data_source, pipeline) for name, pipeline in views.items()}
        return stores if all(stores.values()) else None

    def _batches_of(self, stores, parts):
        """(batch, failures, remarks) gathered in this process: copying takes less time than talking to workers would."""
        bad = {index: UnreadableImageError(why) for store in stores.values() for index, why in store.bad.items()}
        for part in parts:
            good = [index for index in part if index not in bad]
            failures = [_Failure(bad[index], self.dataset.data_source[index].impath) for index in part if index in bad]
            index = np.array(good, dtype=np.int64)
            yield self.dataset.stored_items(index, stores, self.pin_memory) if good else None, failures, []

    def _loaded_batches(self):
        try:
            yield from self._loader
        except (OSError, EOFError) as error:
            if not self.num_workers or str(error).startswith("Caught"):  # by torch, in a worker that lives
                raise
            raise RuntimeError("a DataLoader worker ended in the middle of a batch") from error  # as torch tells it elsewhere

    def _note_skipped(self, reasons):
        for path in reasons.keys() - self.skipped.keys():
            print_warning(f"left out: {reasons[path]}")
            self.skipped[path] = reasons[path]


def _let_go(loader):
    """Nothing to do: being called drops the last reference to the loader."""


class _Failure:
    """An error on its way from a worker: torch would wrap it in a traceback of many lines."""

    def __init__(self, error, impath):
        self.error, self.impath = error, impath


class _Items(TorchDataset):
    """The wrapper's items by (epoch, index), because persistent workers would otherwise stay in their first epoch."""

    def __init__(self, dataset, two_steps, seed, stream):
        self.dataset, self.two_steps, self.seed, self.stream = dataset, two_steps, seed, stream

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        epoch, index = key
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        remarks = []  # this may be another process than the one that tells them
        with remarks_to(remarks.append):
            return self._item(epoch, index), remarks

    def _item(self, epoch, index):
        try:
            if self.two_steps:
                return self.dataset.read_item(index)
            with seeded_generators(derive_seed("item", self.seed, epoch, index, self.stream)):
                return self.dataset[index]
        except UserError as error:
            items = getattr(self.dataset, "data_source", None)  # a replacement for a wrapper may have none
            return _Failure(error, items[index].impath if items else f"index {index}")


def _first_sample(value):
    """The first sample of a collated batch, as a batch."""
    if isinstance(value, dict):
        return {key: _first_sample(entry) for key, entry in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
        return [_first_sample(entry) for entry in value]
    return value[:1]


def _collate(entries):
    """(batch of those that could be read, None if there are none; list of `_Failure`; remarks)."""
    items, remarks = zip(*entries, strict=True)
    failures = [item for item in items if isinstance(item, _Failure)]
    items = [item for item in items if not isinstance(item, _Failure)]
    return (default_collate(items) if items else None), failures, list(chain.from_iterable(remarks))


def _to_device(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _to_device(entry, device) for key, entry in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
        return [_to_device(entry, device) for entry in value]
    return value
