"""Fetch files from the network without trusting a server's answers or its speed."""

import hashlib
import http.client
import os
import re
import shutil
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from ..utils.errors import DataError
from ..utils.text import excerpt
from . import connection
from .connection import DeliveryError, Watch, open_address

TIME_LIMIT = 24 * 3600  # seconds for an address
ATTEMPTS = 4  # in a row, without progress
MAX_ATTEMPTS = 100  # for an address, with progress
BACKOFF = 1.0  # seconds before the second attempt, doubled for each further one
CHUNK = 1 << 20
# Where no length is known: above the largest data set, and never the whole disk
MAX_SIZE = 200 * 10**9
MAX_SHARE = 0.9  # of the free space


@dataclass(frozen=True)
class Source:
    """A file on the network.

    Args:
        filename: its name on disk.
        urls: HTTP(S) addresses of the same bytes, tried in order.
        md5, sha256: its checksum, if known.
        size: its length in bytes, if known.
        drive_id: its id on Google Drive (or a Drive address), tried after the urls.
        page: where to get it after registering or accepting conditions.
        inside: name of the part in this archive, if it differs there.
    """

    filename: str
    urls: tuple = ()
    md5: str = ""
    sha256: str = ""
    size: int = 0
    drive_id: str = ""
    page: str = ""
    inside: str = ""

    @property
    def addresses(self) -> tuple:
        """All addresses that can be opened in a browser."""
        return (*self.urls, *([_drive_address(self.drive_id)] if self.drive_id else []))


def fetch(source: Source, directory: str | Path) -> Path:
    """Make sure that `source` is a file in `directory`; an intact one is not fetched again.

    Bytes are written to `<filename>.part`, which a later call continues if there is a checksum to verify the result.

    Returns:
        Path of the file.

    Raises:
        DataError: the disk is too small, or no address gave the right bytes. Names what was tried and where to put the
            file manually.
    """
    directory = Path(directory)
    target = directory / source.filename
    try:
        if _is_intact(target, source):
            return target
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{source.filename}.lock"):  # two runs that start together fetch once
            if not _is_intact(target, source):
                _fetch(source, target)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror or error}); free some space or choose another --root"
        ) from error
    return target


def _is_intact(path, source):
    return path.is_file() and not _defect(path, source)


def _fetch(source, target):
    part = target.with_name(f"{target.name}.part")
    is_checked = bool(source.md5 or source.sha256)
    if os.path.lexists(part) and (not is_checked or part.is_symlink() or not part.is_file()):
        part.unlink()  # no checksum would tell whether an old partial file fits
    _check_space(source, part)
    failures = []
    ways = [(url, _download_http) for url in source.urls]
    if source.drive_id:
        ways.append((source.drive_id, _download_drive))
    for address, download in ways:
        # The partial file of another address or an earlier run may be the cause: try once more from nothing
        for _ in range(1 + part.exists()):
            try:
                download(address, part, source.size)
                defect = _defect(part, source)
            except DeliveryError as failure:
                defect = excerpt(failure)
                break
            if not defect:
                os.replace(part, target)
                return
            part.unlink()
        failures.append(f"{address}: {defect}")
        if not is_checked:
            part.unlink(missing_ok=True)
    place = source.addresses[0] if source.addresses else source.page
    raise DataError(
        f"{source.filename} could not be fetched ({'; '.join(failures) or 'no address is known'}); fetch it manually "
        f"from {place} and put it at {target}"
    )


class _Interrupted(Exception):
    """The connection broke; another attempt may continue."""


def _defect(path, source):
    """What is wrong with a fetched file, "" if nothing is."""
    size = path.stat().st_size
    if source.size and size != source.size:
        return f"{size} bytes instead of {source.size}"
    if size == 0:
        return "an empty file"
    for algorithm in ("sha256", "md5"):
        expected = getattr(source, algorithm)
        if expected and _checksum(path, algorithm) != expected.lower():
            return f"wrong {algorithm} checksum"
    return ""


def _checksum(path, algorithm):
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _check_space(source, part):
    needed, free = source.size - _size(part), shutil.disk_usage(part.parent).free
    if needed > free:
        raise DataError(
            f"{part.stem} needs {needed / 1e9:.1f} GB, {part.parent} has {free / 1e9:.1f} GB left; free some space or choose "
            "another --root"
        )


def _size(part):
    return part.stat().st_size if part.exists() else 0


def _most(part, size):
    """Limit of the bytes in `part`: the known size of the file, else what fits on the disk."""
    return size or min(MAX_SIZE, _size(part) + int(MAX_SHARE * shutil.disk_usage(part.parent).free))


def _progress(description, total, initial=0):
    return tqdm(
        desc=description,
        total=total,
        initial=initial,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=not sys.stderr.isatty(),
    )


# ---------------------------------------------------------------------------------------------------------------- HTTP
def _download_http(url, part, size):
    """Fetch `url`, of `size` bytes if that is known, into `part`, continuing where it ends."""
    deadline, late = time.monotonic() + TIME_LIMIT, f"not complete after {TIME_LIMIT / 3600:g} hours"
    furthest, attempt = _size(part), 0
    for _ in range(MAX_ATTEMPTS):
        try:
            with Watch(deadline, late) as watch:
                return _request(url, part, size, watch)
        except _Interrupted as interruption:
            reason = str(interruption)
        attempt = 1 if _size(part) > furthest else attempt + 1
        furthest = max(furthest, _size(part))
        if attempt >= ATTEMPTS:
            raise DeliveryError(reason)
        time.sleep(min(BACKOFF * 2 ** (attempt - 1), max(deadline - time.monotonic(), 0)))
        if time.monotonic() >= deadline:
            raise DeliveryError(late)
    raise DeliveryError(f"broke off {MAX_ATTEMPTS} times, at last: {reason}")


def _request(url, part, size, watch):
    """Request once what `part` lacks. Raises `_Interrupted` if asking again may help, `DeliveryError` if not."""
    start = _size(part)
    headers = {"User-Agent": "dassl-vr", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = open_address(url, headers, watch)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # asked for more than there is: the part is whole, or of another file
                if _number(error.headers.get("Content-Range", "").rpartition("/")[2]) != start:
                    part.unlink(missing_ok=True)
                    raise _Interrupted("the beginning fetched earlier does not fit") from error
                return
            if error.code >= 500 or error.code in (408, 429):
                raise _Interrupted(f"HTTP {error.code}") from error
            raise DeliveryError(f"HTTP {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError, time-outs, broken connections are OSErrors
        reason = getattr(error, "reason", error)
        if isinstance(reason, socket.gaierror):  # no network, or no such host: soon again is no use
            raise DeliveryError(str(reason)) from error
        raise _Interrupted(watch.reason or str(reason) or type(reason).__name__) from error
    with response:
        _receive(response, part, start, size, watch)


def _receive(response, part, start, size, watch):
    """Append the body of a response to `part`, or replace `part` if the response starts at byte 0."""
    if response.headers.get_content_type() == "text/html" and not part.name.endswith((".html.part", ".htm.part")):
        raise DeliveryError("a web page instead of the file")
    # Some servers call a .gz file an encoding of what is in it
    if response.headers.get("Content-Encoding", "identity").lower() != "identity" and not re.search(r"\.t?gz\.part$", part.name):
        raise DeliveryError("sent in another encoding than asked for")
    length = response.headers.get("Content-Length")
    if length is not None and _number(length) is None:
        raise DeliveryError("an answer of no possible length")
    if response.status == 206:
        range_ = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", ""))
        if not range_ or int(range_[1]) != start:
            part.unlink(missing_ok=True)
            raise _Interrupted("the server sent another range than the one asked for")
        total = _number(range_[2]) or (start + int(length) if length else None)
    else:
        start = 0  # the server sends everything again
        total = int(length) if length else None
    if size and total is not None and total != size:
        raise DeliveryError(f"{total} bytes instead of {size}")
    most = _most(part, size)
    if (total or 0) > most:
        raise DeliveryError(f"{total / 1e9:.1f} GB are more than the disk can take; free some space or choose another --root")
    most = most if total is None else total
    done = start
    with open(part, "ab" if start else "wb") as file, _progress(part.stem, total, start) as bar:
        while True:
            try:
                block = response.read1(CHUNK)
            except Exception as error:  # http.client has several of its own
                raise _Interrupted(watch.reason or str(error) or type(error).__name__) from error
            if not block:
                break
            done += len(block)
            if done > most:
                break
            file.write(block)
            bar.update(len(block))
            watch.received += len(block)
    if done > most:
        part.unlink()
        raise DeliveryError(f"more than {most} bytes" + ("" if size else ", which is all that the disk can take"))
    if watch.reason or (total is not None and done != total):
        raise _Interrupted(watch.reason or f"the connection ended after {done} of {total} bytes")


def _number(text):
    """The whole number in a header; None if there is none, or if it is too large for a file."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


# --------------------------------------------------------------------------------------------------------------- Drive
def _drive_address(drive_id):
    return drive_id if "/" in drive_id else f"https://drive.google.com/file/d/{drive_id}/view"


def _download_drive(drive_id, part, size):
    import gdown  # here: only these few files need it

    most, late = _most(part, size), threading.Event()

    def check(received, total):
        if received > most or (size and total and total != size):
            raise DeliveryError(f"{max(received, total or 0)} bytes instead of {f'at most {most}' if received > most else size}")

    timer = threading.Timer(TIME_LIMIT, late.set)
    timer.daemon = True
    timer.start()
    try:
        where = {"url" if "/" in drive_id else "id": drive_id}
        quiet = not sys.stderr.isatty()
        gdown.download(**where, output=str(part), quiet=quiet, timeout=connection.TIMEOUT, progress=check, cancel=late)
    except Exception as error:  # gdown has many ways to fail: quota, removed file, no network, a changed page
        part.unlink(missing_ok=True)
        raise DeliveryError(f"Google Drive: {excerpt(error)}") from error
    finally:
        timer.cancel()
    if not part.exists():
        raise DeliveryError("Google Drive gave no file")
