"""The image store: what a pipeline makes of an image before any random draw, kept as uint8.

Small stores are in memory, larger ones in files that are mapped into memory (`store_file`); on a device if asked for.
"""

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from ..home import cache_directory, expand_home
from ..utils.cores import cpu_cores
from ..utils.devices import CPU
from ..utils.distributed import local_world_size
from ..utils.errors import DataError, UserError
from ..utils.images import UnreadableImageError, once, remarks_to
from ..utils.shared_memory import SharedArray
from ..utils.text import in_bytes
from .datasets import Datum
from .datasets.base_dataset import read_item_image
from .pipeline import Pipeline
from .store_content import DeviceStore, ImageStore, StoreContent, signature_of
from .store_file import StoreFile

FOLDER = ".image_store"


class ImageStores:
    """The stores of one data set, made when they are first asked for and shared between its loaders.

    Args:
        cfg: DATALOADER.STORE, STORE_DIR, STORE_MEMORY and NUM_WORKERS count.
        directory: the data set's own, "" if it has none.
        name: the data set's.
        listener: for remarks on images, see `remarks_to`.
        device: where STORE `device` keeps them.
    """

    def __init__(self, cfg, directory="", name="data", listener=None, device=CPU):
        self.device = device
        self.mode = cfg.DATALOADER.STORE
        self.skip_bad = cfg.DATASET.ON_BAD_IMAGE == "skip"
        self.memory_left = int(cfg.DATALOADER.STORE_MEMORY * 1e9) // local_world_size()
        self.num_workers = 0 if cfg.DATALOADER.NUM_WORKERS == 0 else cpu_cores()
        self.directories = store_directories(directory, name, cfg.DATALOADER.STORE_DIR)
        self.base = directory if os.path.isabs(directory) else ""
        self.listener = listener or once()
        self._stores = {}

    def get(self, items: Sequence[Datum], pipeline: Pipeline) -> ImageStore | DeviceStore | None:
        """The store of `items` under `pipeline`; None where there shall be none, or where `auto` finds no room for one.

        Raises:
            DataError: an image cannot be read, or STORE is `disk` and no store can be written.
        """
        if self.mode == "off":
            return None
        key = id(items), signature_of(pipeline)
        if key not in self._stores:
            # the list is kept too, so that its id stays its own
            with remarks_to(self.listener):
                self._stores[key] = items, self._make(items, pipeline)
        return self._stores[key][1]

    def _make(self, items, pipeline):
        first = _first_readable(items, pipeline)
        if first is None:
            return None  # the ordinary loader reports it, or skips them all
        source = StoreContent(items, pipeline, tuple(first.shape), self.base)
        if self.mode in ("memory", "device") or (self.mode == "auto" and source.bytes <= self.memory_left):
            self.memory_left -= source.bytes
            store = self._in_memory(source)
        else:
            store = self._on_disk(source)
        if store and store.bad and not self.skip_bad:
            raise UnreadableImageError(store.bad[min(store.bad)]).in_a_run()
        return self._on_device(store, source) if self.mode == "device" else store

    def _in_memory(self, source):
        try:
            pixels = SharedArray((len(source.items), *source.shape))
        except MemoryError as error:
            raise DataError(
                f"the image store of {in_bytes(source.bytes)} does not fit in memory ({error}); set DATALOADER.STORE disk or off"
            ) from error
        bad = {}
        for _, _, failures in source.decode(self.num_workers, self.skip_bad, pixels):
            bad.update(failures)
        return ImageStore(np.asarray(pixels), bad, "memory")

    def _on_device(self, store, source):
        try:
            return DeviceStore(store, self.device)
        except RuntimeError as error:
            raise DataError(
                f"the image store of {in_bytes(source.bytes)} does not fit on {self.device}; set DATALOADER.STORE memory or auto"
            ) from error

    def _on_disk(self, source):
        """The store in the first of the directories where it is or can be written."""
        failures = []
        if source.nameless:
            failures.append("a transform in it has no description to recognize it by")
        for directory in [] if failures else self.directories:
            file = StoreFile(directory, source.name)
            try:
                return file.open(source) or self._build(file, source)
            except (OSError, MemoryError) as error:
                failures.append(f"{directory}: {getattr(error, 'strerror', None) or error}")
        reason = f"no image store of {in_bytes(source.bytes)} can be kept ({'; '.join(failures)})"
        if self.mode == "disk":
            raise DataError(f"{reason}; name a directory with DATALOADER.STORE_DIR, or set DATALOADER.STORE auto or off")
        print(f"{reason}; images are decoded in every epoch (name a directory with DATALOADER.STORE_DIR)")
        return None

    def _build(self, file, source):
        file.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(file.path(".lock")):
            store = file.open(source, report=print)  # another process may have built it meanwhile
            if store is None:
                # nobody asked for the file under `auto`: then it takes half of what is free at most
                file.write(source, self.num_workers, self.skip_bad, room=1.0 if self.mode == "disk" else 0.5)
                store = file.open(source)
            if store is None:
                raise OSError(errno.EBUSY, "its images keep changing, or the disk gives back other bytes than were written")
            return store


def store_directories(directory: str, name: str, chosen: str = "") -> list[Path]:
    """Where the stores of a data set may be, in the order of preference.

    Args:
        directory: the data set's own; not absolute if it has none.
        chosen: DATALOADER.STORE_DIR.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    if chosen:
        return [expand_home(chosen).absolute() / plain]
    cache = cache_directory() / "dassl_vr" / "image_store" / plain
    return [Path(directory, FOLDER), cache] if os.path.isabs(directory) else [cache]


def _first_readable(items, pipeline):
    for item in items:
        try:
            return pipeline.per_sample(read_item_image(item))
        except UserError:
            continue
    return None
