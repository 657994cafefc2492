"""The image store: what a pipeline makes of an image before any chance comes in, kept as uint8.

Small stores lie in memory. Larger ones are files that are mapped into memory: `<name>.bin` holds the pixels and
`<name>.json`, written last, says what they are. A `.bin` without its `.json`, or with other pixels than their checksum there says,
is not a store; one whose images have changed since is stale. Both are made again. Each process reads a store once for its checksum
before it maps it (about a second for 1 GB in the system's cache, where the epochs want it anyway).
"""

import errno
import functools
import hashlib
import json
import math
import os
import re
import shutil
import sys
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import PIL
import torch
from filelock import FileLock
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from ..home import cache_directory, expand_home
from ..utils import kinds
from ..utils.distributed import local_world_size
from ..utils.errors import DataError, UserError
from ..utils.files import read_json, write_json
from ..utils.images import READER, UnreadableImageError, once, read_image, remark, remarks_to
from ..utils.signals import shield_worker

FORMAT = 1
PATH = kinds.kind("a text", lambda value: isinstance(value, str))  # of any bytes
INDEX = kinds.kind("an index", lambda name: isinstance(name, str) and re.fullmatch("[0-9]{1,15}", name))
HEADER = kinds.record(
    {
        "format": kinds.whole(FORMAT, FORMAT),
        "key": kinds.TEXT,
        "shape": kinds.list_of(kinds.whole(1, 2**32), 4),
        "sources": kinds.TEXT,
        "base": PATH,
        "paths": kinds.list_of(PATH),
        "crc32": kinds.whole(0, 2**32 - 1),
        "bad": kinds.dict_of(PATH, INDEX),
    },
    {"remarks": kinds.list_of(kinds.tuple_of(PATH, PATH))},
)
FOLDER = ".image_store"
CHUNK = 64  # images that a worker hands over at once
FEW = 256  # images for which starting workers takes longer than decoding
BLOCK = 1 << 20  # bytes that are read at once for a checksum
SPARE = 1 << 30  # bytes that are left free on the disk


class ImageStore:
    """The images of a list of `Datum` after `Pipeline.per_sample`.

    Args:
        pixels: (N, 3, h, w) uint8 array, in memory or mapped.
        bad: {index: why the image could not be read}; its pixels mean nothing.
        place: where it is, in words.
    """

    def __init__(self, pixels, bad, place):
        self.pixels, self.bad, self.place = pixels, bad, place

    def gather(self, index, pin=False):
        """(B, 3, h, w) uint8 tensor of these images, in page-locked memory if asked for."""
        out = torch.empty((len(index), *self.pixels.shape[1:]), dtype=torch.uint8, pin_memory=pin)
        np.take(self.pixels, index, axis=0, out=out.numpy(), mode="clip")  # another mode copies twice
        return out


class ImageStores:
    """The stores of one data set, made when they are first asked for and shared between its loaders.

    Args:
        cfg: DATALOADER.STORE, STORE_DIR, STORE_MEMORY and NUM_WORKERS count.
        directory: the data set's own, "" if it has none.
        name: the data set's.
        listener: for remarks on images, see `remarks_to`.
    """

    def __init__(self, cfg, directory="", name="data", listener=None):
        self.mode = cfg.DATALOADER.STORE
        self.skip_bad = cfg.DATASET.ON_BAD_IMAGE == "skip"
        self.memory_left = int(cfg.DATALOADER.STORE_MEMORY * 1e9) // local_world_size()
        self.num_workers = 0 if cfg.DATALOADER.NUM_WORKERS == 0 else cpu_cores()
        self.directories = store_directories(directory, name, cfg.DATALOADER.STORE_DIR)
        self.base = directory if os.path.isabs(directory) else ""
        self.listener = listener or once()
        self._stores = {}

    def get(self, items, pipeline):
        """The store of `items` under `pipeline`; None where there shall be none, or where `auto` finds no room for one.

        Raises:
            DataError: an image cannot be read, or STORE is `disk` and no store can be written.
        """
        if self.mode == "off":
            return None
        key = id(items), _signature(pipeline)
        if key not in self._stores:
            # the list is kept too, so that its id stays its own
            with remarks_to(self.listener):
                self._stores[key] = items, self._make(items, pipeline)
        return self._stores[key][1]

    def _make(self, items, pipeline):
        first = _first_readable(items, pipeline)
        if first is None:
            return None  # the ordinary loader reports it, or skips them all
        source = _Source(items, pipeline, tuple(first.shape), self.base)
        if self.mode == "memory" or (self.mode == "auto" and source.bytes <= self.memory_left):
            self.memory_left -= source.bytes
            store = self._in_memory(source)
        else:
            store = self._on_disk(source)
        if store and store.bad and not self.skip_bad:
            raise UnreadableImageError(store.bad[min(store.bad)]).in_a_run()
        return store

    def _in_memory(self, source):
        try:
            pixels = np.empty((len(source.items), *source.shape), dtype=np.uint8)
        except MemoryError as error:
            raise DataError(
                f"the image store of {_amount(source.bytes)} does not fit in memory; set DATALOADER.STORE disk or off"
            ) from error
        bad = {}
        for start, images, failures in source.decode(self.num_workers, self.skip_bad):
            pixels[start : start + len(images)] = images
            bad.update(failures)
        return ImageStore(pixels, bad, "memory")

    def _on_disk(self, source):
        """The store in the first of the directories where it is or can be written."""
        failures = []
        if source.nameless:
            failures.append("a transform in it has no description to recognize it by")
        for directory in [] if failures else self.directories:
            file = StoreFile(directory, source.name)
            try:
                return file.open(source) or self._build(file, source)
            except OSError as error:
                failures.append(f"{directory}: {error.strerror or error}")
        reason = f"no image store of {_amount(source.bytes)} can be kept ({'; '.join(failures)})"
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


class StoreFile:
    """A store on disk."""

    def __init__(self, directory, name):
        self.directory, self.name = Path(directory), name

    def path(self, suffix):
        return self.directory / f"{self.name}{suffix}"

    def open(self, source, report=None):
        """The `ImageStore`, or None if it is absent, incomplete, stale, damaged or of something else.

        Args:
            report: called with a line about a damaged one.
        """
        header = self.header()
        of_source = {"shape": [len(source.items), *source.shape], "key": source.key}
        if header is None or any(header[name] != value for name, value in of_source.items()):
            return None
        if header["sources"] != source.fingerprint:
            return None
        pixels, defect = self.pixels(header)
        if defect:
            if report:
                report(f"Image store {self.path('.bin')} is damaged ({defect}); it is made again")
            return None
        for kind, line in header.get("remarks", ()):
            remark(kind, line)
        return ImageStore(pixels, {int(index): why for index, why in header["bad"].items()}, str(self.path(".bin")))

    def header(self):
        """What the `.json` says; None if there is none that makes sense."""
        path = self.path(".json")
        try:
            header = read_json(path) if path.is_file() else None
        except (OSError, ValueError):
            return None
        return None if HEADER(header) else header

    def pixels(self, header):
        """(the mapped pixels, "" or what is wrong with them); all of them are read for their checksum."""
        shape, path = header["shape"], self.path(".bin")
        if not path.is_file():
            return None, "its pixels are missing"
        try:
            with open(path, "rb") as file:  # one file for all that follows, whatever takes its place meanwhile
                size, expected = os.fstat(file.fileno()).st_size, math.prod(shape)
                if size != expected:
                    return None, f"{size} bytes of pixels instead of {expected}"
                if _crc32(file, size) != header["crc32"]:
                    return None, "wrong checksum"
                pixels = np.memmap(file, np.uint8, "r", shape=tuple(shape))
        except OSError as error:
            return None, f"its pixels cannot be read: {error.strerror}"
        if any(int(index) >= len(pixels) or pixels[int(index)].any() for index in header["bad"]):
            return None, "images that can be read are named as bad"
        return pixels, ""

    def write(self, source, num_workers, skip_bad, room=1.0):
        """Decode all images into the file. Whatever happens, no half of it is taken for a store.

        Args:
            room: share of the free disk space that it may take.

        Raises:
            OSError: it cannot be written, or the disk is too small.
            DataError: an image cannot be read.
        """
        for old in self.directory.glob(f"{self.name}.*.tmp"):
            old.unlink()  # of a process that was killed: nobody else builds while the lock is held
        free = shutil.disk_usage(self.directory).free
        if source.bytes + SPARE > room * free:
            raise OSError(errno.ENOSPC, f"{_amount(source.bytes)} needed, {_amount(free)} free")
        print(f"Image store: {len(source.items):,} images, {_amount(source.bytes)} in {self.path('.bin')}")
        fingerprint = source.fingerprint  # of before: an image that changes while it is read makes the store stale
        temporary = self.path(f".{os.getpid()}.tmp")
        bad, remarks, crc = {}, {}, 0
        try:
            with open(temporary, "wb") as file, remarks_to(lambda entry: remarks.setdefault(*entry)):
                for _, images, failures in source.decode(num_workers, skip_bad):
                    content = memoryview(images).cast("B")
                    crc = zlib.crc32(content, crc)
                    file.write(content)
                    bad.update(failures)
                file.flush()
                os.fsync(file.fileno())
            self.path(".json").unlink(missing_ok=True)
            os.replace(temporary, self.path(".bin"))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        header = {
            "format": FORMAT,
            "key": source.key,
            "shape": [len(source.items), *source.shape],
            "transform": source.signature,
            "crc32": crc,
            "sources": fingerprint,
            "base": source.base,
            "bad": bad,
            "remarks": list(remarks.items()),
            "paths": source.paths,
        }
        write_json(header, self.path(".json"))


class _Source:
    """What a store is made of.

    Args:
        items: list of `Datum`.
        pipeline: a deterministic `Pipeline`.
        shape: (3, h, w) of every image after it.
        base: directory that paths are written relative to.
    """

    def __init__(self, items, pipeline, shape, base):
        self.items, self.pipeline, self.shape, self.base = items, pipeline, shape, base
        self.bytes = len(items) * int(np.prod(shape))
        self.signature = _signature(pipeline)
        self.nameless = " at 0x" in self.signature  # a plain function: its address differs from process to process
        self.in_memory = getattr(items[0], "in_memory", False)

    @functools.cached_property
    def paths(self):
        if self.in_memory:
            return [item.impath for item in self.items]
        return [os.path.relpath(item.impath, self.base) if self.base else os.path.abspath(item.impath) for item in self.items]

    @functools.cached_property
    def key(self):
        """Hash of which images it holds and what was done to them."""
        reading = [PIL.__version__, READER, getattr(self.items[0], "grey_bits", 0)]
        return hashlib.sha256(json.dumps([FORMAT, *reading, self.signature, self.shape, self.paths]).encode()).hexdigest()

    @property
    def name(self):
        return f"{self.shape[1]}x{self.shape[2]}-{self.key[:20]}"

    @property
    def fingerprint(self):
        """Changes when the content of the images does."""
        if self.in_memory:
            crc = 0
            for item in self.items:
                crc = zlib.crc32(item.read().tobytes(), crc)
            return f"crc32 {crc}"
        return fingerprint_of_files([item.impath for item in self.items])

    def decode(self, num_workers, skip_bad):
        """Yields (position of the first, (n, 3, h, w) uint8, {index: why it is bad}) in order, with a progress bar."""
        loader = DataLoader(
            _Decoding(self.items, self.pipeline, self.shape, skip_bad),
            batch_size=CHUNK,
            num_workers=num_workers if len(self.items) > FEW else 0,
            collate_fn=_chunk,
            worker_init_fn=shield_worker,
            generator=torch.Generator(),  # else the workers' seed is drawn from the global one
        )
        start = 0
        bar = tqdm(desc="image store", total=len(self.items), unit="img", disable=not sys.stderr.isatty(), leave=False)
        with bar:
            for images, failures, remarks in loader:
                for kind, line in remarks:
                    remark(kind, line)
                if failures and not skip_bad:
                    raise UnreadableImageError(failures[0][1]).in_a_run()
                yield start, images.numpy(), {start + position: why for position, why in failures}
                start += len(images)
                bar.update(len(images))


class _Decoding(TorchDataset):
    def __init__(self, items, pipeline, shape, skip_bad):
        self.items, self.pipeline, self.shape, self.skip_bad = items, pipeline, shape, skip_bad

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        remarks = []  # this may be another process than the one that tells them
        try:
            with remarks_to(remarks.append):
                image = self.pipeline.per_sample(read_item_image(self.items[index]))
        except UserError as error:
            return torch.zeros(self.shape, dtype=torch.uint8), str(error), remarks
        if image.shape != self.shape:
            why = f"image {self.items[index].impath}: the transforms give {tuple(image.shape)}, others {self.shape}"
            raise ValueError(f"{why}; a deterministic pipeline has to give one size")
        return image, None, remarks


def _chunk(entries):
    images, failures, remarks = zip(*entries, strict=True)
    failures = [(position, why) for position, why in enumerate(failures) if why]
    return torch.stack(images), failures, list(chain.from_iterable(remarks))


def read_item_image(item):
    """The PIL image of a `Datum`, also of the family's, which cannot read itself."""
    return item.read() if hasattr(item, "read") else read_image(item.impath, getattr(item, "grey_bits", 0))


def _first_readable(items, pipeline):
    for item in items:
        try:
            return pipeline.per_sample(read_item_image(item))
        except UserError:
            continue
    return None


def _signature(pipeline):
    return "; ".join(f"{name}: {op!r}" for name, op in pipeline.image_ops)


def fingerprint_of_files(paths):
    """Hash of sizes and times of change of these files; an absent one counts as such."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        except (OSError, ValueError):  # also a name that no file can have
            digest.update(b"absent\n")
    return digest.hexdigest()


def store_directories(directory, name, chosen=""):
    """Where the stores of a data set may lie, in the order of preference.

    Args:
        directory: the data set's own; not absolute if it has none.
        chosen: DATALOADER.STORE_DIR.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    if chosen:
        return [expand_home(chosen).absolute() / plain]
    cache = cache_directory() / "dassl_vr" / "image_store" / plain
    return [Path(directory, FOLDER), cache] if os.path.isabs(directory) else [cache]


def check_stores(directories):
    """One line for each store or rest of one in `directories` that is of no use any more."""
    problems = []
    for directory in map(Path, directories):
        for path in sorted(directory.glob("*.tmp")):
            problems.append(f"{path}: half of an image store; remove it unless a run is building it now")
        for path in sorted({*directory.glob("*.json"), *(path.with_suffix(".json") for path in directory.glob("*.bin"))}):
            problem = _store_problem(StoreFile(directory, path.stem))
            if problem:
                problems.append(f"{path.with_suffix('.bin')}: {problem}; it will be made again when needed, or remove it")
    return problems


def _store_problem(file):
    header = file.header()
    if header is None:
        return "an incomplete image store"
    of_files = not header["sources"].startswith("crc32")  # else made of images in memory
    paths = [os.path.join(header["base"], path) for path in header["paths"]]
    if of_files and fingerprint_of_files(paths) != header["sources"]:
        return "a stale image store: its images have changed or are gone"
    _, defect = file.pixels(header)
    return f"a damaged image store ({defect})" if defect else ""


def _crc32(file, size):
    crc, block = 0, memoryview(bytearray(BLOCK))
    bar = tqdm(desc="checking it", total=size, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False)
    with bar:
        while count := file.readinto(block):
            crc = zlib.crc32(block[:count], crc)
            bar.update(count)
    return crc


def _amount(count):
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def cpu_cores():
    """How many processor cores this process may use, if all processes of the run on this machine take equally many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_world_size())
