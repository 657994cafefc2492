"""Write directories and files completely or not at all, and never into a directory that was moved or replaced meanwhile."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from .errors import ConfigError, DiskError

_kept = {}  # directory -> its identity when the block began


@contextlib.contextmanager
def naming_file(path: str | os.PathLike, instead_of: str | os.PathLike | None = None) -> Iterator[None]:
    """Add the file name `path` to an `OSError` of the block that has none: `file.write` names no file.

    Args:
        instead_of: a temporary directory whose name in the error is replaced by `path`.
    """
    try:
        yield
    except OSError as error:
        inside = os.fspath(error.filename) if isinstance(error.filename, (str, os.PathLike)) else None
        if error.filename is None:
            error.filename = str(path)
        elif instead_of is not None and inside is not None and Path(inside).is_relative_to(instead_of):
            error.filename = str(Path(path, Path(inside).relative_to(instead_of)))
        raise


# ---------------------------------------------------------------------------------------------- while a run is in progress
@contextlib.contextmanager
def kept_in_place(directory: str | os.PathLike) -> Iterator[None]:
    """In the block, `check_in_place` refuses paths in `directory` once that was moved, removed or replaced.

    Writing there would make a second directory with the rest of the files, or mix them with somebody else's.
    """
    path = os.path.abspath(directory)
    _kept[path] = _identity(path)
    try:
        yield
    finally:
        _kept.pop(path, None)


def check_in_place(path: str | os.PathLike) -> None:
    """Raises `DiskError` if `path` is, or is in, a directory under `kept_in_place` that is gone or was replaced."""
    path = os.path.abspath(path)
    for directory, identity in list(_kept.items()):
        if os.path.commonpath([path, directory]) == directory and _identity(directory) != identity:
            raise DiskError(
                f"directory {directory} was moved or removed while it was written to; put it back unless it was meant to go, and"
                f" start again, a training run with --resume {directory}"
            )


def _identity(directory):
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# ------------------------------------------------------------------------------------------------- new directories
def check_new_directory(out: str | os.PathLike) -> None:
    """Raises `ConfigError` if `out` is a file, a link, or a directory that is not empty."""
    out = Path(os.path.abspath(out))
    try:
        if out.is_symlink():
            raise ConfigError(f"{out}: is a link; name a directory that is not there yet")
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out}: exists already; choose another directory")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error.strerror}); choose another directory") from error


@contextlib.contextmanager
def new_directory(out: str | os.PathLike) -> Iterator[Path]:
    """A temporary directory to fill; it is renamed to `out` when the block ends without an error, and removed when
    it ends otherwise, by SIGTERM too.

    Raises:
        ConfigError: `out` is not empty, is a link, or cannot be made.
    """
    from .signals import interrupt_on_signals  # here: it brings torch

    check_new_directory(out)
    out = Path(os.path.abspath(out))
    made = []
    try:
        made += [parent for parent in out.parents if not parent.exists()]
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:64]}."))
    except OSError as error:
        _remove_empty(made)
        raise ConfigError(f"{out}: cannot be made ({error.strerror}); choose another directory") from error
    try:
        with interrupt_on_signals(), naming_file(out, instead_of=temporary):
            yield temporary
        os.chmod(temporary, 0o755)
        try:
            os.rename(temporary, out)  # over nothing but an empty directory
        except OSError as error:
            raise ConfigError(f"{out}: was made meanwhile, or cannot be ({error.strerror}); choose another directory") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # made above
        _remove_empty(made)
        raise


@contextlib.contextmanager
def renewed_directory(out: str | os.PathLike, earlier: Sequence[str]) -> Iterator[Path]:
    """`new_directory`, but `out` may hold files already: when the block ends, those named `earlier` are removed and the new ones
    are put there. All other files stay.

    Args:
        earlier: names of files of an earlier call; none = `out` is to be new. The first of the new ones that is among them is put
            in place first: it may list the others.

    Raises:
        ConfigError: as `new_directory`, or a new file would take the place of one that is not among `earlier`.
    """
    if not earlier:
        with new_directory(out) as directory:
            yield directory
        return
    out = Path(os.path.abspath(out))
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:64]}.") as name:
        temporary = Path(name)
        with naming_file(out, instead_of=temporary):
            yield temporary
        new = sorted((path.name for path in temporary.iterdir()), key=lambda name: name != earlier[0])
        for name in new:
            if name not in earlier and os.path.lexists(out / name):
                raise ConfigError(f"{out / name}: is not of an earlier call; move it, or choose another directory")
        with naming_file(out):
            for name in set(earlier) - set(new):
                (out / name).unlink(missing_ok=True)
            for name in new:
                os.replace(temporary / name, out / name)


def _remove_empty(directories):
    """Remove the empty ones of these directories, listed from the innermost outwards."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open the regular file at `path` for reading bytes; refuse a pipe, which would block, or a device, which may act.

    Raises:
        OSError: it is not a regular file, or cannot be opened.
    """
    _check_regular(os.stat(path), path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(path, "rb", opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
    try:
        _check_regular(os.fstat(file.fileno()), path)  # it may have been replaced since
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status, path):
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise OSError(errno.EINVAL, f"{what}, not a file", str(path))
