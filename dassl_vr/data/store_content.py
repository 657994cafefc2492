"""What an image store is made of, and what it holds."""

import functools
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import PIL
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from ..utils.errors import UserError
from ..utils.images import READER, UnreadableImageError, remark, remarks_to
from ..utils.signals import shield_worker
from .datasets.base_dataset import Datum, read_item_image
from .pipeline import Pipeline

FORMAT = 1  # of a store's file
CHUNK = 64  # images that a worker hands over at once
FEW = 256  # images for which starting workers takes longer than decoding


class ImageStore:
    """The images of a list of `Datum` after `Pipeline.per_sample`.

    Args:
        pixels: (N, 3, h, w) uint8 array, in memory or mapped.
        bad: {index: why the image could not be read}; its pixels mean nothing.
        place: where it is, in words.
    """

    def __init__(self, pixels: np.ndarray, bad: dict[int, str], place: str):
        self.pixels, self.bad, self.place = pixels, bad, place

    def gather(self, index: np.ndarray, pin: bool = False) -> torch.Tensor:
        """(B, 3, h, w) uint8 tensor of these images, in page-locked memory if asked for."""
        out = torch.empty((len(index), *self.pixels.shape[1:]), dtype=torch.uint8, pin_memory=pin)
        np.take(self.pixels, index, axis=0, out=out.numpy(), mode="clip")  # another mode copies twice
        return out


class DeviceStore:
    """The images of an `ImageStore` on a device, where batches of them are put together without the CPU.

    Raises:
        RuntimeError: there is no room for them.
    """

    def __init__(self, store: ImageStore, device: torch.device):
        self.pixels, self.bad, self.place = torch.from_numpy(store.pixels).to(device), store.bad, str(device)

    def gather(self, index: np.ndarray, pin: bool = False) -> torch.Tensor:
        """(B, 3, h, w) uint8 tensor of these images, on the device."""
        return self.pixels.index_select(0, torch.from_numpy(index).to(self.pixels.device, non_blocking=True))


class StoreContent:
    """What a store is made of.

    Args:
        items: list of `Datum`.
        pipeline: a deterministic `Pipeline`.
        shape: (3, h, w) of every image after it.
        base: directory that paths are written relative to.
    """

    def __init__(self, items: Sequence, pipeline, shape: tuple[int, ...], base: str):
        self.items, self.pipeline, self.shape, self.base = items, pipeline, shape, base
        self.bytes = len(items) * int(np.prod(shape))
        self.signature = signature_of(pipeline)
        self.nameless = " at 0x" in self.signature  # a plain function: its address differs from process to process
        self.in_memory = getattr(items[0], "in_memory", False)

    @functools.cached_property
    def paths(self) -> list[str]:
        if self.in_memory:
            return [item.impath for item in self.items]
        return [os.path.relpath(item.impath, self.base) if self.base else os.path.abspath(item.impath) for item in self.items]

    @functools.cached_property
    def key(self) -> str:
        """Hash of which images it holds and what was done to them."""
        reading = [PIL.__version__, READER, getattr(self.items[0], "grey_bits", 0)]
        return hashlib.sha256(json.dumps([FORMAT, *reading, self.signature, self.shape, self.paths]).encode()).hexdigest()

    @property
    def name(self) -> str:
        return f"{self.shape[1]}x{self.shape[2]}-{self.key[:20]}"

    @property
    def fingerprint(self) -> str:
        """Changes when the content of the images does."""
        return fingerprint_of(self.items)

    def decode(self, num_workers: int, skip_bad: bool) -> Iterator[tuple[int, np.ndarray, dict[int, str]]]:
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


def signature_of(pipeline: Pipeline) -> str:
    """What the first stage of a pipeline does, in words that tell pipelines apart."""
    return "; ".join(f"{name}: {op!r}" for name, op in pipeline.image_ops)


def fingerprint_of(items: Sequence[Datum]) -> str:
    """Changes when the content of the images does, those in files by their sizes and times of change."""
    if getattr(items[0], "in_memory", False):
        crc = 0
        for item in items:
            crc = zlib.crc32(item.read().tobytes(), crc)
        return f"crc32 {crc}"
    return fingerprint_of_files([item.impath for item in items])


def fingerprint_of_files(paths: Iterable[str]) -> str:
    """Hash of sizes and times of change of these files; an absent one counts as such."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
        except (OSError, ValueError):  # also a name that no file can have
            digest.update(b"absent\n")
    return digest.hexdigest()
