"""Reading and writing files."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import DataError
from .images import read_image  # noqa: F401 - where plug-ins have found it so far
from .kinds import Kind
from .places import check_in_place


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file beside `path` and put it in place of `path` only when the block ends without an error.

    A reader sees the old file or the new one, never half of one, also after a power cut.

    Raises:
        OSError: it cannot be written; names `path`.
        DiskError: its directory is not `kept_in_place`.
    """
    path = Path(path)
    check_in_place(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        # Bytes of a name that are no UTF-8 become escapes, which in JSON stand for the same again
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)  # `file.write` names no file, others the temporary one
            check_in_place(path)
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_json(fpath: str | os.PathLike) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark, or in the UTF-16 of a Windows shell.

    Raises:
        ValueError: it is not JSON, or nested more deeply than anything of ours.
    """
    try:
        return json.loads(Path(fpath).read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_checked_json(path: str | os.PathLike, remedy: str, kind: Kind | None = None, name: str | None = None) -> Any:
    """The content of a JSON file, as `read_json` gives it, of the form that `kind` checks.

    Args:
        remedy: what to do if it is not, or what was expected.
        kind: of the content, see `utils.kinds`; None = any.
        name: of the file in the message; None = its path.

    Raises:
        DataError: it cannot be read, is not JSON, or has another form.
    """
    problem, content = "", None
    try:
        content = read_json(path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except ValueError as error:
        problem = f"not valid JSON ({error})"
    if problem := problem or (kind(content) if kind else ""):
        raise DataError(f"{name or path}: {problem}; {remedy}")
    return content


def write_json(obj: object, fpath: str | os.PathLike) -> None:
    """Write `obj` as JSON, atomically, making the directory if needed."""
    with atomic_write(fpath) as file:
        json.dump(obj, file, indent=2, ensure_ascii=False)
        file.write("\n")
