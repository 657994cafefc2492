"""From a configuration to loaders whose batches are finished and on the device."""

import functools
import weakref
from itertools import chain

import numpy as np
import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from ..utils import distributed
from ..utils.errors import DataError, UserError
from ..utils.images import UnreadableImageError, once, remarks_to
from .augment_rng import SampleKeys, derive_seed, seeded_generators
from .batches import BatchSampler, heed_the_parent_alone
from .datasets import build_dataset, split_sha256
from .samplers import build_sampler
from .store import ImageStores, cpu_cores, read_item_image
from .transforms import Pipeline, build_transform, plain_pipeline

# One stream of random draws for each purpose, so that images of the same index are shuffled and augmented independently: the
# labelled and the unlabelled ones, and the pass for the label mapping, which is not to see the views that the epoch trains on
STREAM_X, STREAM_U, STREAM_MAPPING = 0, 1, 2


class DatasetWrapper(TorchDataset):
    """Images of a list of `Datum` with their transforms.

    An item holds `img` (3, H, W) float32 (a list of K with DATALOADER.K_TRANSFORMS = K > 1 in training), `label`,
    `domain`, `impath` and `index`; `img2`, `img3`, ... for further transforms; `img0`, without augmentation, if
    RETURN_IMG0.

    The loader does the same in two steps: `read_item` in its workers, `finish` on the whole batch on the device. A
    subclass that overrides `__getitem__` or `_transform_image` is asked for finished items instead.

    Args:
        data_source: list of `Datum`.
        transform: a `Pipeline` or any callable on PIL images, or a list of them; None leaves PIL images.
        is_train: whether K_TRANSFORMS applies.
    """

    def __init__(self, cfg, data_source, transform=None, is_train=False):
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        self.to_tensor = plain_pipeline(cfg, normalize="normalize" in cfg.INPUT.TRANSFORMS)
        self.epoch = 0
        self.stream = STREAM_X
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"cannot transform an image {self.k_tfm} times (K_TRANSFORMS) without a transform")
        transforms = transform if isinstance(transform, (list, tuple)) else [transform]
        self._views = {f"img{number}" if number > 1 else "img": tfm for number, tfm in enumerate(transforms, start=1)}

    def __len__(self):
        return len(self.data_source)

    def set_epoch(self, epoch):
        """Choose the epoch that augmentation belongs to."""
        self.epoch = epoch

    @property
    def works_in_two_steps(self):
        """Whether `read_item` and `finish` may stand in for `__getitem__`."""
        cls = type(self)
        return cls.__getitem__ is DatasetWrapper.__getitem__ and cls._transform_image is DatasetWrapper._transform_image

    def stored_views(self):
        """{name: pipeline} of all pictures in an item, if an image store can stand in for `read_item`; else None."""
        views = {**self._views, **({"img0": self.to_tensor} if self.return_img0 else {})}
        storable = all(isinstance(tfm, Pipeline) and tfm.deterministic for tfm in views.values())
        return views if self.works_in_two_steps and storable else None

    def stored_items(self, index, stores, pin=False):
        """The collated `read_item`s of these indices.

        Args:
            index: (B,) whole numbers.
            stores: {name: `ImageStore`} for `stored_views`.
        """
        data = [self.data_source[idx] for idx in index]
        batch = {
            "label": torch.tensor([datum.label for datum in data]),
            "domain": torch.tensor([datum.domain for datum in data]),
            "impath": [datum.impath for datum in data],
            "index": torch.as_tensor(index),
        }
        for name, store in stores.items():
            images = store.gather(index, pin)
            batch[name] = [images] * self.k_tfm if self.k_tfm > 1 and name != "img0" else images
        return batch

    def __getitem__(self, idx):
        if self.works_in_two_steps:
            return self._finish(self.read_item(idx), np.array([idx]), lambda op, x, keys: op(x[None], keys)[0])
        item, img0 = self._read(idx)
        with seeded_generators(self._item_seed(idx)):
            for name, tfm in self._views.items():
                item[name] = img0 if tfm is None else self._transform_image(tfm, img0)
        if self.return_img0:
            item["img0"] = self.to_tensor(img0)
        return item

    def _transform_image(self, tfm, img0):
        """`img0` transformed, or the list of its K versions, with chance from the global generators."""
        images = [tfm(img0) for _ in range(self.k_tfm)]
        return images if len(images) > 1 else images[0]

    def read_item(self, idx):
        """The item with images as `Pipeline.per_sample` leaves them (finished where a transform is no `Pipeline`)."""
        item, img0 = self._read(idx)
        for number, (name, tfm) in enumerate(self._views.items()):
            if tfm is None:
                item[name] = img0
                continue
            transform = tfm.per_sample if isinstance(tfm, Pipeline) else tfm
            if getattr(tfm, "deterministic", False):
                images = [transform(img0)] * self.k_tfm
            else:
                with seeded_generators(self._item_seed(idx, number)):
                    images = [transform(img0) for _ in range(self.k_tfm)]
            item[name] = images if len(images) > 1 else images[0]
        if self.return_img0:
            item["img0"] = self.to_tensor.per_sample(img0)
        return item

    def finish(self, batch):
        """Complete a batch of collated `read_item`s in place, on the device that its images lie on, and return it."""
        return self._finish(batch, batch["index"].cpu().numpy(), lambda op, x, keys: op(x, keys))

    def _finish(self, batch, index, apply):
        for number, (name, tfm) in enumerate(self._views.items()):
            if isinstance(tfm, Pipeline):
                images = batch[name] if isinstance(batch[name], list) else [batch[name]]
                images = [apply(tfm.per_batch, x, self._keys(index, number * self.k_tfm + k)) for k, x in enumerate(images)]
                batch[name] = images if len(images) > 1 else images[0]
        if self.return_img0:
            batch["img0"] = apply(self.to_tensor.per_batch, batch["img0"], self._keys(index, 0))
        return batch

    def _read(self, idx):
        """(item without images, PIL image)."""
        datum = self.data_source[idx]
        item = {"label": datum.label, "domain": datum.domain, "impath": datum.impath, "index": idx}
        return item, read_item_image(datum)

    def _keys(self, index, repetition):
        return SampleKeys(self.cfg.SEED, self.epoch, index, repetition, self.stream)

    def _item_seed(self, idx, view=0):
        return derive_seed("item", self.cfg.SEED, self.epoch, int(idx), view, self.stream)


class BatchLoader:
    """Iterates over dictionaries of finished batches on the device.

    The pictures and their order depend on seed and epoch alone: not on the number of workers, nor on what else draws
    random numbers; nor does iterating move any global generator. Where several processes share a run, each gives its part.

    Args:
        dataset: a `DatasetWrapper` or what stands in for it.
        sampler: gives the indices of an epoch, for all processes.
        batch_size: of all processes together if `in_step`, else of each.
        in_step: each process takes its part of every batch, so that all give equally many (for training), in place of its
            part of the samples.
        persistent: keep the workers from one epoch to the next.
        pin_memory: have batches in page-locked memory, from where a GPU takes them while the CPU goes on.
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
    """

    def __init__(
        self,
        dataset,
        sampler,
        batch_size,
        device="cpu",
        drop_last=False,
        num_workers=0,
        persistent=False,
        pin_memory=False,
        seed=0,
        stream=0,
        stores=None,
        skip_bad=False,
        skipped=None,
        in_step=False,
        name="",
        listener=None,
    ):
        self.dataset = dataset
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.device = torch.device(device)
        self.pin_memory = pin_memory
        self.skip_bad = skip_bad
        self.skipped = {} if skipped is None else skipped
        self.name = name
        self.listener = listener or once(_warn)
        self._stores = stores
        self._two_steps = getattr(dataset, "works_in_two_steps", False)
        if self._two_steps:
            dataset.stream = stream
        self.real = self.position = 0
        self._stand_in = None  # the first sample of the last batch
        self._keys = BatchSampler(sampler, batch_size, drop_last, in_step)
        self._loader = DataLoader(
            _Items(dataset, self._two_steps, seed, stream),
            batch_sampler=self._keys,
            num_workers=num_workers,
            persistent_workers=persistent and num_workers > 0,
            pin_memory=pin_memory,
            collate_fn=_collate,
            worker_init_fn=heed_the_parent_alone,
            generator=torch.Generator(),  # for the workers' base seed, else drawn from the global one
        )
        # Keeps torch's loader out of cycles that this object may be in (a trainer's, a traceback's): collected as part
        # of one, its queues would close before its workers are told to stop, and torch would wait 5 seconds for each.
        weakref.finalize(self, _let_go, self._loader).atexit = False

    def set_epoch(self, epoch):
        """Choose the epoch whose order and augmentation the next iterations give."""
        self._keys.epoch = epoch
        for part in (self.sampler, self.dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def start_at(self, batch):
        """Have the next iteration leave out the batches before number `batch`, without reading them."""
        self._keys.first = batch

    @property
    def epoch(self):
        return self._keys.epoch

    @property
    def num_samples(self):
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
                    raise DataError("a process can read none of its images of the first batch; mend them, or use fewer processes")
            if batch is None:
                continue
            self._stand_in = _first_sample(batch) if self._keys.in_step else None
            batch, given = _to_device(batch, self.device), True
            yield self.dataset.finish(batch) if self._two_steps else batch

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
            raise RuntimeError("a DataLoader worker broke off in the middle of a batch") from error  # as torch tells it elsewhere

    def _note_skipped(self, reasons):
        for path in reasons.keys() - self.skipped.keys():
            _warn(f"left out: {reasons[path]}")
            self.skipped[path] = reasons[path]


def _warn(line):
    print(f"WARNING: {line}")


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
            items = getattr(self.dataset, "data_source", None)  # what stands in for a wrapper may have none
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


def resolve_num_workers(num_workers, data_source):
    """DATALOADER.NUM_WORKERS, where -1 means: none for images in memory, else one a core, 4 at most."""
    if num_workers >= 0:
        return num_workers
    if getattr(data_source[0], "in_memory", False):
        return 0
    return min(4, cpu_cores())


class DataManager:
    """The data set of a configuration and its loaders.

    Args:
        custom_tfm_train, custom_tfm_test: callables (or lists of them) in place of what INPUT.TRANSFORMS describes.
        dataset_wrapper: a class in place of `DatasetWrapper`.
        device: where batches go.

    Attributes:
        dataset, train_loader_x, train_loader_u, val_loader, test_loader (the second and third may be None),
        num_classes, num_source_domains, lab2cname, split_sha256; made when asked for: train_loader_all,
        train_loader_plain. skipped_images: {path: why} of images left out so far.

    Raises:
        DataError: the data set is missing, or has no images for training or testing.
    """

    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None, device="cpu"):
        self.cfg = cfg
        self.device = torch.device(device)
        self.dataset = build_dataset(cfg)
        self.tfm_train = build_transform(cfg, is_train=True) if custom_tfm_train is None else custom_tfm_train
        self.tfm_test = build_transform(cfg, is_train=False) if custom_tfm_test is None else custom_tfm_test
        self._wrapper = dataset_wrapper or DatasetWrapper
        self._epoch = 0
        self.skipped_images = {}
        self._listener = once(_warn)
        self._stores = ImageStores(cfg, str(self.dataset.dataset_dir or ""), type(self.dataset).__name__, self._listener)

        train_x, train_u = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TRAIN_U
        self.train_loader_x = self._train_loader(self.dataset.train_x, "training", train_x, STREAM_X)
        self.train_loader_u = None
        if self.dataset.train_u:
            settings = train_x if train_u.SAME_AS_X else train_u
            self.train_loader_u = self._train_loader(self.dataset.train_u, "unlabelled", settings, STREAM_U)
        self.val_loader = self._test_loader(self.dataset.val, "validation") if self.dataset.val else None
        self.test_loader = self._test_loader(self.dataset.test, "test")
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self):
        return self.dataset.num_classes

    @property
    def num_source_domains(self):
        return len(self.cfg.DATASET.SOURCE_DOMAINS)

    @property
    def lab2cname(self):
        return self.dataset.lab2cname

    @functools.cached_property
    def split_sha256(self):
        """Identifies the images and labels of all splits, wherever they lie."""
        return split_sha256(self.dataset)

    @functools.cached_property
    def train_loader_all(self):
        """Every training image once, in order, with the training transform and draws of its own (for label mappings)."""
        loader = self._test_loader(self.dataset.train_x, "training", _first(self.tfm_train), STREAM_MAPPING)
        loader.set_epoch(self._epoch)
        return loader

    @functools.cached_property
    def train_loader_plain(self):
        """Every training image once, in order, with the test transform (for the training accuracy)."""
        return self._test_loader(self.dataset.train_x, "training")

    def set_epoch(self, epoch):
        """Choose the epoch whose order and augmentation the training loaders give next."""
        self._epoch = epoch
        # the lazy loader only if it has been made
        for loader in (self.train_loader_x, self.train_loader_u, self.__dict__.get("train_loader_all")):
            if loader is not None:
                loader.set_epoch(epoch)

    def _train_loader(self, data_source, name, settings, stream):
        limit = self.cfg.DATASET.BATCH_LIMIT
        batch_size = min(settings.BATCH_SIZE, limit) if limit else settings.BATCH_SIZE
        if self.cfg.DATALOADER.BATCH_PER_PROCESS:
            batch_size *= distributed.world_size()
        drop_last = self.cfg.DATALOADER.TRAIN_X.DROP_LAST and len(data_source) >= batch_size
        return self._loader(
            data_source,
            name,
            self.tfm_train,
            True,
            settings,
            batch_size,
            stream,
            drop_last=drop_last,
            persistent=True,
            in_step=True,
        )

    def _test_loader(self, data_source, name, transform=None, stream=STREAM_X):
        if transform is None:
            transform = self.tfm_test
        settings = self.cfg.DATALOADER.TEST
        return self._loader(data_source, name, transform, False, settings, settings.BATCH_SIZE, stream)

    def _loader(self, data_source, name, transform, is_train, settings, batch_size, stream, **options):
        if not data_source:
            raise DataError(f"data set {type(self.dataset).__name__} has no {name} images; check its directory and split")
        cfg = self.cfg
        sampler = build_sampler(
            settings.SAMPLER,
            cfg=cfg,
            data_source=data_source,
            batch_size=batch_size,
            n_domain=settings.get("N_DOMAIN", 0),
            n_ins=settings.get("N_INS", 16),
            stream=stream,
        )
        loader = BatchLoader(
            self._wrapper(cfg, data_source, transform=transform, is_train=is_train),
            sampler,
            batch_size,
            device=self.device,
            num_workers=resolve_num_workers(cfg.DATALOADER.NUM_WORKERS, data_source),
            pin_memory=cfg.DATALOADER.PIN_MEMORY and self.device.type == "cuda",
            seed=cfg.SEED,
            stream=stream,
            stores=self._stores,
            skip_bad=cfg.DATASET.ON_BAD_IMAGE == "skip",
            skipped=self.skipped_images,
            name=name,
            listener=self._listener,
            **options,
        )
        if not loader.num_samples:
            raise DataError(f"the sampler {settings.SAMPLER} gives no batch of {batch_size} {name} images; lower BATCH_SIZE")
        return loader

    def show_dataset_summary(self, cfg):
        """Print what was loaded."""
        rows = [
            ("Dataset", cfg.DATASET.NAME),
            ("Source", ", ".join(cfg.DATASET.SOURCE_DOMAINS)),
            ("Target", ", ".join(cfg.DATASET.TARGET_DOMAINS)),
            ("# classes", f"{self.num_classes:,}"),
        ]
        for name in ("train_x", "train_u", "val", "test"):
            images = getattr(self.dataset, name)
            rows.append((f"# {name}", f"{len(images):,}" if images else ""))
        rows.append(("Training transform", self.tfm_train))
        rows.append(("Test transform", self.tfm_test))
        print(tabulate([row for row in rows if row[1] != ""]))


def _first(transform):
    return transform[0] if isinstance(transform, (list, tuple)) else transform
