"""Fetching files from the network and unpacking archives, without trusting either."""

import errno
import hashlib
import os
import shutil
import socket
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from filelock import FileLock
from tqdm import tqdm

from ..utils.errors import DataError

TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 4  # in a row, without progress
BACKOFF = 1.0  # seconds before the second attempt, doubled for each further one
CHUNK = 1 << 20
# An archive of pictures hardly compresses: one that grows beyond this is a bomb
MAX_GROWTH = 20
MIN_LIMIT = 256 << 20


@dataclass(frozen=True)
class Source:
    """A file on the network.

    Args:
        filename: its name on disk.
        urls: HTTP(S) addresses of the same bytes, tried in order.
        md5, sha256: its checksum, if known.
        size: its length in bytes, if known.
        drive_id: its id on Google Drive (or a Drive address), tried after the urls.
        page: where a person gets it who has to register or accept conditions first.
        inside: what the part is called in this archive, where it has another name there.
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
    def addresses(self):
        """All places that a person can open in a browser."""
        return (*self.urls, *([_drive_address(self.drive_id)] if self.drive_id else []))


@dataclass(frozen=True)
class Part:
    """A file or directory that a data set is made of.

    Args:
        provides: its path below the data set's directory.
        source: the file that it is, or the archive that it lies in, at any depth.
        required: False if the data set can be used without.
        fallbacks: other files or archives to take it from when `source` fails.
    """

    provides: str
    source: Source
    required: bool = True
    fallbacks: tuple = ()

    @property
    def sources(self):
        return (self.source, *self.fallbacks)


def family_mirror(filename):
    """An archive of one data set of CoOp's, images and split, from the copies that a group of the family keeps."""
    url = f"https://huggingface.co/zhengli97/prompt_learning_dataset/resolve/main/{filename}"
    return Source(f"mirror-{filename}", urls=(url,))


def prepare(name, parts, directory, download):
    """Make sure that all parts of a data set are there: fetch and unpack those that are not, if `download`.

    Args:
        name: the data set's name, for messages.
        parts: what `directory` should hold.

    Raises:
        DataError: a required part is absent and cannot or may not be fetched. Says where it comes from and goes to.
    """
    for part in parts:
        target = Path(directory, part.provides)
        if target.exists():
            continue
        if download:
            try:
                _obtain(part, Path(directory))
            except DataError as error:
                if part.required:
                    raise
                print(f"{name}: WARNING: going on without {target} ({error})")
        elif part.required:
            raise DataError(missing_message(name, part, directory))


def missing_message(name, part, directory):
    """One line: which part is absent, where it comes from and where it goes."""
    target = Path(directory, part.provides)
    known = " or ".join(address for source in part.sources for address in source.addresses)
    unpack = f", unpack {part.source.filename}" if is_archive(part.source.filename) else ""
    if not known:
        page = part.source.page
        return f"{name}: {target} is missing; get it by hand from {page} and put it there (or choose another --root)"
    return (
        f"{name}: {target} is missing; it comes from {known}{unpack} so that it lies there (or choose another --root), "
        "or set DATASET.DOWNLOAD True to have it fetched"
    )


def _obtain(part, directory):
    """Have `part` in `directory` from the first of its sources that works."""
    failures = []
    for source in part.sources:
        try:
            path = fetch(source, directory)
            if not is_archive(path):
                return
            extract(path, directory, provides=part.provides, inside=source.inside)
            print(f"{directory / part.provides} is in place; the archive {path} is not needed any more")
            return
        except DataError as error:
            failures.append(str(error))
    raise DataError("; ".join(failures))


def fetch(source, directory):
    """Have `source` as a file in `directory`; one that is there and intact is not fetched again.

    Bytes arrive in `<filename>.part`, which a later call goes on with where a checksum can tell whether that was right.

    Returns:
        Path of the file.

    Raises:
        DataError: the disk is too small, or no address gave the right bytes. Names what was tried and where to put the
            file by hand.
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


def download_url(url, dst):
    """Fetch `url` to the file `dst`, under the family's name."""
    dst = Path(dst)
    fetch(Source(dst.name, urls=(url,)), dst.parent)


def _is_intact(path, source):
    return path.is_file() and not _defect(path, source)


def _fetch(source, target):
    part = target.with_name(f"{target.name}.part")
    if not (source.md5 or source.sha256):
        part.unlink(missing_ok=True)  # nothing could tell whether an old beginning fits
    _check_space(source, part)
    failures = []
    ways = [(url, _download_http) for url in source.urls]
    if source.drive_id:
        ways.append((source.drive_id, _download_drive))
    for address, download in ways:
        # A beginning that another address or an earlier run left may be what is wrong: then once more from nothing.
        for _ in range(1 + part.exists()):
            try:
                download(address, part)
                defect = _defect(part, source)
            except _Failed as failure:
                defect = str(failure)
                break
            if not defect:
                os.replace(part, target)
                return
            part.unlink()
        failures.append(f"{address}: {defect}")
        if not (source.md5 or source.sha256):
            part.unlink(missing_ok=True)
    by_hand = source.addresses[0] if source.addresses else source.page
    raise DataError(
        f"{source.filename} could not be fetched ({'; '.join(failures) or 'no address is known'}); fetch it by hand "
        f"from {by_hand} and put it at {target}"
    )


class _Failed(Exception):
    """An address did not deliver."""


class _Interrupted(Exception):
    """A connection broke off; another attempt may go on."""


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
    _require_space(source.size - (part.stat().st_size if part.exists() else 0), part)


def _require_space(needed, part):
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DataError(
            f"{part.stem} needs {needed / 1e9:.1f} GB, {part.parent} has {free / 1e9:.1f} GB left; free some space or choose "
            "another --root"
        )


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


def _download_http(url, part):
    """Fetch `url` into `part`, going on where it ends; attempts that make progress do not count."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise _Failed("only http and https are fetched")
    attempt = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _request(url, part, before)
        except _Interrupted as interruption:
            after = part.stat().st_size if part.exists() else 0
            attempt = 1 if after > before else attempt + 1
            if attempt >= ATTEMPTS:
                raise _Failed(str(interruption)) from interruption
            time.sleep(BACKOFF * 2 ** (attempt - 1))


def _request(url, part, start):
    headers = {"User-Agent": "dassl-vr", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # asked for more than there is: the part is whole, or of another file
                if _total_of_range(error.headers.get("Content-Range", "")) != start:
                    part.unlink()
                    raise _Interrupted("the beginning fetched earlier does not fit") from error
                return
            if error.code >= 500 or error.code in (408, 429):
                raise _Interrupted(f"HTTP {error.code}") from error
            raise _Failed(f"HTTP {error.code}") from error
    except (OSError, ValueError) as error:  # URLError, time-outs and broken connections are OSErrors
        reason = getattr(error, "reason", error)
        if isinstance(reason, socket.gaierror):  # no network, or no such host: soon again is no use
            raise _Failed(str(reason)) from error
        raise _Interrupted(str(reason)) from error
    with response:
        _receive(response, part, start)


def _receive(response, part, start):
    if response.headers.get_content_type() == "text/html" and not part.name.endswith((".html.part", ".htm.part")):
        raise _Failed("a web page instead of the file")
    if response.status != 206:
        start = 0  # the server sends everything again
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        part.unlink(missing_ok=True)
        raise _Interrupted("the server sent another range than the one asked for")
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else None
    if total is not None:
        _require_space(total - start, part)  # now that the server has told the size
    done = start
    with open(part, "ab" if start else "wb") as file, _progress(part.stem, total, start) as bar:
        while True:
            try:
                block = response.read1(CHUNK)
            except Exception as error:  # http.client has several of its own
                raise _Interrupted(str(error) or type(error).__name__) from error
            if not block:
                break
            file.write(block)
            done += len(block)
            bar.update(len(block))
    if total is not None and done != total:
        raise _Interrupted(f"the connection ended after {done} of {total} bytes")


def _total_of_range(header):
    """4 of `bytes */4`; -1 if it says something else."""
    total = header.rpartition("/")[2]
    return int(total) if total.isdigit() else -1


def _drive_address(drive_id):
    return drive_id if "/" in drive_id else f"https://drive.google.com/file/d/{drive_id}/view"


def _download_drive(drive_id, part):
    import gdown  # here: only these few files need it

    try:
        where = {"url" if "/" in drive_id else "id": drive_id}
        gdown.download(**where, output=str(part), quiet=not sys.stderr.isatty(), timeout=TIMEOUT)
    except Exception as error:  # gdown has many ways to fail: quota, removed file, no network, a changed page
        part.unlink(missing_ok=True)
        raise _Failed(f"Google Drive: {' '.join(str(error).split())[:200]}") from error
    if not part.exists():
        raise _Failed("Google Drive gave no file")


# ------------------------------------------------------------------------------------------------------- archives
def is_archive(path):
    """Whether `extract` knows the kind of archive that a file's name says it is."""
    return str(path).lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def extract(archive, destination, max_bytes=None, provides="", inside=""):
    """Unpack a zip or tar archive into `destination`, all of it or nothing.

    It is unpacked beside the destination first, and its entries are moved into place only when it is complete.

    Args:
        max_bytes: the most that it may unpack to; 20 times the archive's size (at least 256 MiB) unless given.
        provides: a path that `destination` shall have afterwards. The folder of the archive that holds it is moved there;
            archives in the archive are unpacked too if it is not found without.
        inside: the name of `provides` in the archive, if it is another.

    Raises:
        DataError: the archive is damaged or hostile (an absolute path, `..`, a link that leads out, a device, too much
            data), or the disk is full. Nothing of it is left behind.
    """
    archive, destination = Path(archive), Path(destination).absolute()
    destination.parent.mkdir(parents=True, exist_ok=True)
    if max_bytes is None:
        max_bytes = max(MAX_GROWTH * archive.stat().st_size, MIN_LIMIT)
    workplace = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        _unpack(archive, workplace, max_bytes)
        os.chmod(workplace, 0o777 & ~_umask())  # mkdtemp makes it private
        top = _locate(workplace, inside or provides)
        if top is None:
            _unpack_inner(workplace, max_bytes)
            top = _locate(workplace, inside or provides)
        if top is None:
            raise DataError(f"{archive} was unpacked, but {inside or provides} is not in it; fetch it from elsewhere")
        if inside:
            (top / provides).parent.mkdir(parents=True, exist_ok=True)
            os.replace(top / inside, top / provides)
        _merge(top, destination)
    except _Hostile as error:
        raise DataError(f"{archive} was not unpacked: {error}; fetch it from a source that you trust") from error
    except OSError as error:
        if error.errno is None:  # tarfile's and gzip's own errors
            raise DataError(f"{archive} is damaged ({error}); remove it and fetch it again") from error
        remedy = "free some space" if error.errno == errno.ENOSPC else "see that the directory can be written"
        raise DataError(f"{archive} could not be unpacked to {destination} ({error.strerror}); {remedy}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, RuntimeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]  # tarfile lists all that it has tried
        raise DataError(f"{archive} is damaged or of another kind ({reason}); remove it and fetch it again") from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _unpack(archive, directory, max_bytes):
    unpack = _extract_zip if archive.name.lower().endswith(".zip") else _extract_tar
    unpack(archive, directory, max_bytes)


def _locate(directory, wanted):
    """The directory at or below `directory` that holds `wanted`, the uppermost if several do; None if none does."""
    if not wanted:
        return directory
    return next((folder for folder in _folders(directory) if (folder / wanted).exists()), None)


def _unpack_inner(directory, max_bytes):
    """Unpack the archives that came out of an archive, each where it lies."""
    for folder in _folders(directory):
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink() and is_archive(path):
                _unpack(path, folder, max_bytes)
                path.unlink()


def _folders(directory, depth=3):
    """`directory` and the folders in it down to `depth`, upper ones first; what macOS adds to archives is left out."""
    level, found = [directory], [directory]
    for _ in range(depth):
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
        level = [path for path in level if path.name != "__MACOSX"]
        found += level
    return found


class _Hostile(Exception):
    """An archive that tries what no data set needs."""


def _safe_parts(name):
    """The components of a member's path. Raises `_Hostile` if it leads out."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or PureWindowsPath(name).drive:
        raise _Hostile(f"'{name}' is an absolute path")
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts:
        raise _Hostile(f"'{name}' leads out of the directory")
    return parts


class _Budget:
    """Counts what an archive says it unpacks to."""

    def __init__(self, max_bytes, directory):
        self.left = min(max_bytes, shutil.disk_usage(directory).free)
        self.limit = self.left

    def take(self, size, name):
        self.left -= size
        if self.left < 0:
            raise _Hostile(f"with '{name}' it unpacks to more than {self.limit / 1e6:.0f} MB")


def _extract_zip(archive, directory, max_bytes):
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        budget = _Budget(max_bytes, directory)
        for member in members:
            _safe_parts(member.filename)
            mode = stat.S_IFMT(member.external_attr >> 16)
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _Hostile(f"'{member.filename}' is a link or a device")
            budget.take(member.file_size, member.filename)  # reading stops at this size, whatever the data say
        for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=not sys.stderr.isatty()):
            file.extract(member, directory)


def _extract_tar(archive, directory, max_bytes):
    with tarfile.open(archive, "r:*") as file:
        budget, links = _Budget(max_bytes, directory), set()
        for member in tqdm(file, desc=f"unpacking {archive.name}", unit="file", disable=not sys.stderr.isatty()):
            parts = _safe_parts(member.name)
            if any(parts[:depth] in links for depth in range(1, len(parts) + 1)):
                raise _Hostile(f"'{member.name}' is written through a link")
            if member.issym() or member.islnk():
                # where a symbolic link leads counts from its own directory, a hard link's from the top
                _check_link(member, len(parts) - 1 if member.issym() else 0)
                links.add(parts)
            elif not (member.isfile() or member.isdir()):
                raise _Hostile(f"'{member.name}' is a device or another special file")
            budget.take(member.size, member.name)
            try:
                file.extract(member, directory, filter="data")
            except tarfile.FilterError as error:
                raise _Hostile(str(error)) from error


def _check_link(member, depth):
    if PurePosixPath(member.linkname).is_absolute() or PureWindowsPath(member.linkname).drive:
        raise _Hostile(f"the link '{member.name}' leads to an absolute path")
    parts = PurePosixPath(member.linkname).parts
    climbs = len([part for part in parts if part == ".."])
    # `..` after a name could climb from where another link leads, so it is only taken in front
    if climbs > depth or ".." in parts[climbs:]:
        raise _Hostile(f"the link '{member.name}' leads out of the directory")


def _merge(source, destination):
    """Move the content of `source` into `destination`; whole directories at once where none is in the way."""
    if not destination.exists():
        os.replace(source, destination)
        return
    for entry in sorted(source.iterdir()):
        target = destination / entry.name
        if entry.is_dir() and not entry.is_symlink() and target.is_dir():
            _merge(entry, target)
        else:
            os.replace(entry, target)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
