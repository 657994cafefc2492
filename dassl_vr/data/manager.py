"""From a configuration to a data set with its loaders."""

import functools
from collections.abc import Callable, Sequence

import torch
from tabulate import tabulate
from yacs.config import CfgNode

from ..utils import distributed
from ..utils.cores import cpu_cores
from ..utils.devices import pins_memory
from ..utils.errors import DataError
from ..utils.images import once
from .augment_rng import STREAM_MAPPING, STREAM_U, STREAM_X
from .datasets import Datum, build_dataset, split_sha256
from .loader import BatchLoader
from .samplers import build_sampler
from .store import ImageStores
from .transforms import build_transform
from .wrapper import DatasetWrapper


def resolve_num_workers(num_workers: int, data_source: Sequence[Datum]) -> int:
    """DATALOADER.NUM_WORKERS, where -1 means: none for images in memory, else one per core, 4 at most."""
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
        dataset: the data set, a `DatasetBase`.
        train_loader_x, train_loader_u, val_loader, test_loader: of its splits; the second and third may be None.
        train_loader_all, train_loader_plain: of all training images, with the transform for training and for testing; made when
            asked for.
        num_classes, num_source_domains, lab2cname: of the data set; the last is {label: class name}.
        split_sha256: see the function.
        skipped_images: {path: why} of images left out so far.

    Raises:
        DataError: the data set is missing, or has no images for training or testing.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Callable | Sequence[Callable] | None = None,
        custom_tfm_test: Callable | Sequence[Callable] | None = None,
        dataset_wrapper: type[DatasetWrapper] | None = None,
        device: str | torch.device = "cpu",
    ):
        self.cfg = cfg
        self.device = torch.device(device)
        self.dataset = build_dataset(cfg)
        self.tfm_train = build_transform(cfg, is_train=True) if custom_tfm_train is None else custom_tfm_train
        self.tfm_test = build_transform(cfg, is_train=False) if custom_tfm_test is None else custom_tfm_test
        self._wrapper = dataset_wrapper or DatasetWrapper
        self._epoch = 0
        self.skipped_images = {}
        self._listener = once()
        directory, name = str(self.dataset.dataset_dir or ""), type(self.dataset).__name__
        self._stores = ImageStores(cfg, directory, name, self._listener, self.device)

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
    def num_classes(self) -> int:
        return self.dataset.num_classes

    @property
    def num_source_domains(self) -> int:
        return len(self.cfg.DATASET.SOURCE_DOMAINS)

    @property
    def lab2cname(self) -> dict[int, str]:
        return self.dataset.lab2cname

    @functools.cached_property
    def split_sha256(self) -> str:
        """Identifies the images and labels of all splits, wherever they are."""
        return split_sha256(self.dataset)

    @functools.cached_property
    def train_loader_all(self) -> BatchLoader:
        """Every training image once, in order, with the training transform and draws of its own (for label mappings)."""
        loader = self._test_loader(self.dataset.train_x, "training", _first(self.tfm_train), STREAM_MAPPING)
        loader.set_epoch(self._epoch)
        return loader

    @functools.cached_property
    def train_loader_plain(self) -> BatchLoader:
        """Every training image once, in order, with the test transform (for the training accuracy)."""
        return self._test_loader(self.dataset.train_x, "training")

    def set_epoch(self, epoch: int) -> None:
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
            last_of_one=self.cfg.DATALOADER.TRAIN_X.LAST_OF_ONE,
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
            pin_memory=cfg.DATALOADER.PIN_MEMORY and pins_memory(self.device),
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

    def show_dataset_summary(self, cfg: CfgNode) -> None:
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
