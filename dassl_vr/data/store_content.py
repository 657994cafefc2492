"""What an image store is made of, and what it holds."""

import functools
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import PIL
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from ..utils.errors import UserError
from ..utils.images import READER, UnreadableImageError, remark, remarks_to
from ..utils.shared_memory import SharedArray
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

    def decode(
        self, num_workers: int, skip_bad: bool, pixels: SharedArray | None = None
    ) -> Iterator[tuple[int, np.ndarray, dict[int, str]]]:
        """Yields (position of the first, (n, 3, h, w) uint8, {index: why it is bad}) in order, with a progress bar.

        Workers write to memory that is shared with this process, so that nothing is copied.

        Args:
            pixels: (N, 3, h, w), filled with the images. Without it each yielded array is valid until the next one.

        Raises:
            MemoryError: there is none for the chunks.
        """
        count = len(self.items)
        chunks = -(-count // CHUNK)
        num_workers = min(num_workers, chunks) if count > FEW else 0
        if pixels is None:  # the chunk that is yielded, and two for each worker, which the loader asks for in advance
            pixels = SharedArray((CHUNK * min(2 * num_workers + 1, chunks), *self.shape))
        loader = DataLoader(
            _Decoding(self.items, self.pipeline, pixels, skip_bad),
            batch_size=CHUNK,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            worker_init_fn=shield_worker,
            generator=torch.Generator(),  # else the workers' seed is drawn from the global one
        )
        array = np.asarray(pixels)
        bar = tqdm(desc="image store", total=count, unit="img", disable=not sys.stderr.isatty(), leave=False)
        with bar:
            for start, number, failures, remarks in loader:
                for kind, line in remarks:
                    remark(kind, line)
                if failures and not skip_bad:
                    raise UnreadableImageError(next(iter(failures.values()))).in_a_run()
                yield start, array[start % len(array) :][:number], failures
                bar.update(number)


class _Decoding(TorchDataset):
    """Reads chunks of images into `pixels`, from its beginning again when it is full."""

    def __init__(self, items, pipeline, pixels, skip_bad):
        self.items, self.pipeline, self.pixels, self.skip_bad = items, pipeline, pixels, skip_bad

    def __len__(self):
        return len(self.items)

    def __getitems__(self, indices):
        """(the first index, how many, {index: why it is bad}, remarks) of the chunk."""
        pixels = np.asarray(self.pixels)
        failures, remarks = {}, []  # this may be another process than the one that tells them
        with remarks_to(remarks.append):
            for index in indices:
                self._read(index, pixels[index % len(pixels)], failures)
        return indices[0], len(indices), failures, remarks

    def _read(self, index, target, failures):
        item = self.items[index]
        try:
            image = self.pipeline.per_sample(read_item_image(item))
        except UserError as error:
            target[:] = 0
            failures[index] = str(error)
            return
        if image.shape != target.shape:
            why = f"image {item.impath}: the transforms give {tuple(image.shape)}, others {target.shape}"
            raise ValueError(f"{why}; a deterministic pipeline has to give one size")
        target[:] = image


def _as_it_is(chunk):
    return chunk


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
