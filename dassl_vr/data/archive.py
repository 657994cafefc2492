"""Unpack untrusted archives: completely or not at all, never outside their directory, within limits.

Members are read one after another and written by one function, for zip and tar alike. tarfile's `filter="data"` is not
enough on all supported Pythons:

- Python before 3.10.12 and 3.11.4 (Debian 12 has 3.11.2) has no filters.
- A chain of links longer than the limit of a path writes a file outside the directory (CVE-2025-4517, in Python up to 3.10.17,
  3.11.12, 3.12.10 and 3.13.3).
- A filter sees members, not the headers in front of them: tarfile reads such a header whole, even one of a gigabyte, and older
  versions hang on 200 kB of digits (CVE-2024-6232). `data/tar_reader.py` reads them instead.
- It limits neither bytes nor files, does not cover zip, and checks a link where it is unpacked, not where its folder is moved.
"""

import bz2
import contextlib
import errno
import gzip
import lzma
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from ..utils.errors import DataError
from ..utils.text import excerpt
from .tar_reader import HostileArchive, tar_members

CHUNK = 1 << 20
# Images hardly compress, and each takes some bytes: an archive that grows more, or holds more files, is a bomb. Small archives may
# do both.
MAX_GROWTH = 20
MIN_LIMIT = 256 << 20
BYTES_PER_FILE = 256
MIN_FILES, MAX_FILES = 20_000, 2_000_000
MAX_DEPTH = 32  # folders in each other
BYTES_PER_ENTRY = 256  # of a zip's directory, on average: mostly names


def is_archive(path: str | os.PathLike) -> bool:
    """Whether `extract` supports the kind of archive that a file's suffix names."""
    return str(path).lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def extract(
    archive: str | os.PathLike,
    destination: str | os.PathLike,
    max_bytes: int | None = None,
    provides: str = "",
    inside: str = "",
) -> None:
    """Unpack a zip or tar archive into `destination`, all of it or nothing.

    It is unpacked beside the destination; its entries are moved into place only when it is complete.

    Args:
        max_bytes: limit of the unpacked bytes, nested archives included; None = 20 times the archive's size, at least 256 MiB.
        provides: a path that `destination` has afterwards. The archive's folder that holds it is moved there; nested archives
            are unpacked too if it is not found otherwise.
        inside: the name of `provides` in the archive, if it differs there.

    Raises:
        DataError: the archive is damaged or hostile (an absolute path, `..`, a link that leads out, a device, too much
            data, too many files), the disk is full, or something is in the way. Nothing of it is left behind.
    """
    archive, destination = Path(archive), Path(os.path.realpath(destination))
    workplace = None
    try:
        if not archive.is_file():
            raise DataError(f"{archive} is not a file; fetch it again")
        destination.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{destination.name[:100]}-", dir=destination.parent))
        staged, replaced = workplace / "new", workplace / "old"
        staged.mkdir()
        replaced.mkdir()
        budget = _Budget(archive.stat().st_size, max_bytes, workplace)
        _unpack(archive, staged, budget)
        top = _locate(staged, inside or provides)
        if top is None:
            _unpack_inner(staged, budget)
            top = _locate(staged, inside or provides)
        if top is None:
            raise DataError(f"{archive} was unpacked, but {inside or provides} is not in it; fetch it from elsewhere")
        if inside:
            (top / provides).parent.mkdir(parents=True, exist_ok=True)
            os.replace(top / inside, top / provides)
        _check_links(top)
        _merge(top, destination, provides, replaced)
    except DataError:
        raise
    except HostileArchive as error:
        raise DataError(f"{archive} was not unpacked: {error}; fetch it from a source that you trust") from error
    except OSError as error:
        if error.errno is None:  # gzip's and bz2's own errors
            raise DataError(f"{archive} is damaged ({excerpt(error)}); remove it and fetch it again") from error
        remedy = {
            errno.ENOSPC: "free some space",
            errno.EDQUOT: "free some space",
            errno.ENAMETOOLONG: "it holds a name that is too long for this disk: fetch it from elsewhere",
        }.get(error.errno, "see that the directory can be written")
        raise DataError(f"{archive} could not be unpacked to {destination} ({error.strerror}); {remedy}") from error
    except Exception as error:  # a damaged archive makes its readers raise nearly anything
        reason = excerpt(error) or type(error).__name__
        raise DataError(f"{archive} is damaged or of another kind ({reason}); remove it and fetch it again") from error
    finally:
        if workplace:
            shutil.rmtree(workplace, ignore_errors=True)


class _Budget:
    """How much an archive, with nested ones, may still unpack to."""

    def __init__(self, archive_size, max_bytes, directory):
        self.max_bytes = max(MAX_GROWTH * archive_size, MIN_LIMIT) if max_bytes is None else max_bytes
        self.max_files = min(max(archive_size // BYTES_PER_FILE, MIN_FILES), MAX_FILES)
        self.free = shutil.disk_usage(directory).free
        self.bytes = self.files = 0

    def take_bytes(self, number, name):
        self.bytes += number
        if self.bytes > self.max_bytes:
            raise HostileArchive(f"with '{excerpt(name, 80)}' it unpacks to more than {self.max_bytes / 1e6:.0f} MB")
        if self.bytes > self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def take_file(self):
        self.files += 1
        self.check_files(0)

    def check_files(self, more):
        if self.files + more > self.max_files:
            raise HostileArchive(f"it holds more than {self.max_files} files and folders")


def _unpack(archive, directory, budget):
    unpack = _extract_zip if archive.name.lower().endswith(".zip") else _extract_tar
    unpack(archive, directory, budget)


def _unpack_inner(directory, budget):
    """Unpack nested archives, each in its own folder."""
    for folder in _folders(directory):
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink() and is_archive(path):
                _unpack(path, folder, budget)
                path.unlink()


def _locate(directory, wanted):
    """The directory at or below `directory` that holds `wanted`, the uppermost if several do; None if none does."""
    if not wanted:
        return directory
    return next((folder for folder in _folders(directory) if (folder / wanted).exists()), None)


def _folders(directory, depth=3):
    """`directory` and the folders in it down to `depth`, upper ones first; what macOS adds to archives is left out."""
    level, found = [directory], [directory]
    for _ in range(depth):
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
        level = [path for path in level if path.name != "__MACOSX"]
        found += level
    return found


# ------------------------------------------------------------------------------------------------ names, files and links
def _safe_parts(name):
    """The components of a member's path, `()` for the top. Raises `HostileArchive` if it leads out."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or PureWindowsPath(name).drive:
        raise HostileArchive(f"'{excerpt(name, 80)}' is an absolute path")
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts:
        raise HostileArchive(f"'{excerpt(name, 80)}' leads out of the directory")
    if "\0" in name or len(parts) > MAX_DEPTH:
        raise HostileArchive(f"'{excerpt(name, 80)}' is not the name of a file")
    return parts


def _place(directory, name, budget):
    """Where a member called `name` goes in `directory`, with its folders made and what is there already removed."""
    *folders, last = _safe_parts(name) or ("",)
    if not last:
        raise HostileArchive("a file has the name of the directory")
    path = _make_folders(directory, folders, budget) / last
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            raise HostileArchive(f"'{excerpt(name, 80)}' is a file and a folder")
        path.unlink()
    budget.take_file()
    return path


def _make_folders(directory, parts, budget):
    """Make the folders `parts` below `directory`, none of them a link; returns the last."""
    for part in parts:
        directory = directory / part
        try:
            mode = directory.lstat().st_mode
        except FileNotFoundError:
            budget.take_file()
            directory.mkdir()
            continue
        if not stat.S_ISDIR(mode):
            what = "written through a link" if stat.S_ISLNK(mode) else "a file and a folder"
            raise HostileArchive(f"'{excerpt('/'.join(parts), 80)}' is {what}")
    return directory


def _write(stream, size, path):
    """Write the next `size` bytes of `stream` to a new file."""
    with open(path, "xb") as file:
        while size:
            block = stream.read(min(size, CHUNK))
            if not block:
                raise EOFError("it ends in the middle of a file")
            file.write(block)
            size -= len(block)


def _check_link(name, target, depth):
    """Raises `HostileArchive` if a symbolic link `depth` folders below a directory could lead out of it."""
    parts = PurePosixPath(target.replace("\\", "/")).parts
    climbs = len([part for part in parts if part == ".."])
    absolute = PurePosixPath(target).is_absolute() or PureWindowsPath(target).is_absolute() or PureWindowsPath(target).drive
    # `..` after a name could climb from the target of another link, so it is accepted only in front
    if absolute or climbs > depth or ".." in parts[climbs:]:
        raise HostileArchive(f"the link '{excerpt(name, 80)}' leads out of the directory")


def _check_links(top):
    """Check the links below `top` again, now that `top` takes the place of the archive's root.

    Their targets have to exist in it, so that links of the destination cannot redirect them.
    """
    for folder, folders, files in os.walk(top):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink():
                inner = path.relative_to(top)
                _check_link(inner, os.readlink(path), len(inner.parts) - 1)
                if not path.exists():
                    raise HostileArchive(f"the link '{excerpt(inner, 80)}' leads to nothing")


# --------------------------------------------------------------------------------------------------------- zip and tar
def _progress(members, archive):
    return tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=not sys.stderr.isatty())


class _Metered:
    """A file of which `left` more bytes may be read."""

    def __init__(self, file, left):
        self.file, self.left = file, left
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size=-1):
        data = self.file.read(size if 0 <= size <= self.left else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise HostileArchive("its directory is larger than its files can need")
        return data


def _extract_zip(archive, directory, budget):
    with open(archive, "rb") as raw:
        # `zipfile` reads the whole directory of the archive into memory, as large as that says it is
        metered = _Metered(raw, (budget.max_files - budget.files) * BYTES_PER_ENTRY + (1 << 17))
        with zipfile.ZipFile(metered) as file:
            metered.left = sys.maxsize
            members = file.infolist()
            budget.check_files(len(members))
            for member in members:
                _safe_parts(member.filename)
                mode = stat.S_IFMT(member.external_attr >> 16)
                if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise HostileArchive(f"'{excerpt(member.filename, 80)}' is a link or a device")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # `zipfile` unpacks 4 kB of the other kinds at once, into gigabytes if they are made so
                    raise HostileArchive(f"'{excerpt(member.filename, 80)}' is compressed in another way than deflate")
                budget.take_bytes(member.file_size, member.filename)  # reading stops there, whatever the data say
            for member in _progress(members, archive):
                if member.is_dir():
                    _make_folders(directory, _safe_parts(member.filename), budget)
                else:
                    with file.open(member) as stream:
                        _write(stream, member.file_size, _place(directory, member.filename, budget))


def _extract_tar(archive, directory, budget):
    with _open_compressed(archive) as stream:
        for member in _progress(tar_members(stream, budget), archive):
            if member.isdir():
                _make_folders(directory, _safe_parts(member.name), budget)
                continue
            path = _place(directory, member.name, budget)
            if member.isreg():
                budget.take_bytes(member.size, member.name)
                _write(stream, member.size, path)
            elif member.issym():
                _check_link(member.name, member.linkname, len(_safe_parts(member.name)) - 1)
                os.symlink(member.linkname, path)
            elif member.islnk():
                _copy(directory, member, path, budget)
            else:
                raise HostileArchive(f"'{excerpt(member.name, 80)}' is a device or another special file")


def _copy(directory, member, path, budget):
    """Write a hard link, whose target is relative to the archive's root, as a copy."""
    target = directory.joinpath(*_safe_parts(member.linkname))
    if target.is_symlink() or not target.is_file() or Path(os.path.realpath(target)) != target:
        raise HostileArchive(f"the link '{excerpt(member.name, 80)}' leads to nothing")
    size = target.stat().st_size
    budget.take_bytes(size, member.name)
    with open(target, "rb") as stream:
        _write(stream, size, path)


def _open_compressed(path):
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(magic):
            return opener(path, "rb")
    return open(path, "rb")


# ------------------------------------------------------------------------------------------------------------- merging
def _merge(source, destination, provides, replaced):
    """Move the content of `source` into `destination`; on an error, move everything back.

    Args:
        provides: what a later run looks for; moved last, so that a killed run leaves it absent.
        replaced: an empty folder for the files that are replaced.
    """
    if os.path.lexists(destination) and not destination.is_dir():
        raise DataError(f"{destination} is in the way, as it is not a folder; move it elsewhere")
    moves = list(_moves(source, destination)) if destination.is_dir() else [(source, destination)]
    first = destination / provides
    moves.sort(key=lambda move: provides != "" and (move[1] == first or first in move[1].parents or move[1] in first.parents))
    done = []
    try:
        for number, (entry, target) in enumerate(moves):
            old = replaced / str(number)
            done.append((entry, target, old))
            if os.path.lexists(target):
                os.replace(target, old)
            os.replace(entry, target)
    except BaseException:
        for entry, target, old in reversed(done):
            if not os.path.lexists(entry):
                os.replace(target, entry)
            if os.path.lexists(old):
                os.replace(old, target)
        raise


def _moves(source, destination):
    """Yield (source, target) of each move: whole folders where there is no conflict, never through a link."""
    for entry in sorted(source.iterdir()):
        target = destination / entry.name
        is_folder = entry.is_dir() and not entry.is_symlink()
        if not os.path.lexists(target):
            yield entry, target
        elif is_folder and target.is_dir() and not target.is_symlink():
            yield from _moves(entry, target)
        elif is_folder or (target.is_dir() and not target.is_symlink()):
            what = "a link" if target.is_symlink() else "a folder" if target.is_dir() else "no folder"
            raise DataError(f"{target} is in the way, as it is {what} and the archive's is not; move it elsewhere")
        else:
            yield entry, target
