"""The user's directories, also for a user without a home: an unknown user id in a container, a home that does not exist."""

import os
import tempfile
from pathlib import Path

from .utils.errors import ConfigError


def cache_directory() -> Path:
    """Where programs of the user keep what can be made or fetched again: as everywhere, but for a user without a home a directory
    in the temporary one, the same each time.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen)
    home = os.path.expanduser("~")  # "~" again where none is known
    cache = os.path.join(home, ".cache")
    there = os.path.isabs(home) and (os.path.isdir(cache) or os.access(home, os.W_OK | os.X_OK))
    return Path(cache) if there else _stand_in() / ".cache"


def expand_home(path: str | os.PathLike) -> Path:
    """`path` with a leading `~` or `~user` replaced. Raises `ConfigError` if no home of that name is known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: no home directory is known for {Path(path).parts[0]}; write the path in full") from error


def set_cache_variables() -> None:
    """Tell the libraries that fetch weights or draw figures where to keep them, if there is no home.

    They read these variables when they are imported; torch.hub would make a directory called `~` right here.
    """
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = str(_stand_in())
    elif cache_directory() != Path.home() / ".cache":
        os.environ.setdefault("XDG_CACHE_HOME", str(cache_directory()))


def _stand_in():
    name = f"dassl_vr-home-{os.getuid()}"
    directory = Path(tempfile.gettempdir(), name)
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if directory.is_symlink() or directory.stat().st_uid != os.getuid():
            raise FileExistsError  # somebody else's, who could put anything there
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"{name}-"))
    return directory
