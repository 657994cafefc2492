"""An image store on disk: `<name>.bin` holds the pixels and `<name>.json`, written last, says what they are.

A `.bin` without its `.json`, or with other pixels than their checksum there says, is not a store; one whose images have changed
since is stale. Each process reads a store once for its checksum before it maps it (about a second for 1 GB in the system's cache,
where the epochs want it anyway).
"""

import errno
import math
import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..utils import kinds
from ..utils.files import read_json, write_json
from ..utils.images import remark, remarks_to
from ..utils.text import in_bytes
from .store_content import FORMAT, ImageStore, StoreContent, fingerprint_of_files

BLOCK = 1 << 20  # bytes that are read at once for a checksum
SPARE = 1 << 30  # bytes that are left free on the disk
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


class StoreFile:
    """A store on disk."""

    def __init__(self, directory: str | Path, name: str):
        self.directory, self.name = Path(directory), name

    def path(self, suffix: str) -> Path:
        return self.directory / f"{self.name}{suffix}"

    def open(self, source: StoreContent, report: Callable[[str], object] | None = None) -> ImageStore | None:
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

    def header(self) -> dict | None:
        """The content of the `.json`; None if it is absent or invalid."""
        path = self.path(".json")
        try:
            header = read_json(path) if path.is_file() else None
        except (OSError, ValueError):
            return None
        return None if HEADER(header) else header

    def pixels(self, header: dict) -> tuple[np.ndarray | None, str]:
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

    def write(self, source: StoreContent, num_workers: int, skip_bad: bool, room: float = 1.0) -> None:
        """Decode all images into the file. An incomplete file is never taken for a store.

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
            raise OSError(errno.ENOSPC, f"{in_bytes(source.bytes)} needed, {in_bytes(free)} free")
        print(f"Image store: {len(source.items):,} images, {in_bytes(source.bytes)} in {self.path('.bin')}")
        fingerprint = source.fingerprint  # taken first: an image that changes while it is read makes the store stale
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


def check_stores(directories: Iterable[str | Path]) -> list[str]:
    """One line for each unusable store, or remains of one, in `directories`."""
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
