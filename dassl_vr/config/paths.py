"""Paths of the user in a configuration: relative to where the user stands, and recorded so that they are found from anywhere."""

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from ..home import expand_home

# Keys that hold such a path, or a list of them. Not DATASET.FEW_SHOT_FILE, which is relative to the data set's directory
PATHS = (
    *("OUTPUT_DIR", "RESUME", "DATASET.ROOT", "DATALOADER.STORE_DIR", "MODEL.INIT_WEIGHTS", "MODEL.BACKBONE.WEIGHTS"),
    "TRAINER.*.DESCRIPTIONS",
)


def is_path(key: str) -> bool:
    """Whether the dotted `key` holds a path of the user."""
    return any(fnmatchcase(key, pattern) for pattern in PATHS)


def expand_paths(cfg: dict) -> None:
    """Replace `~` and `~user` at the beginning of all paths in `cfg`, in place. Raises `ConfigError` for an unknown home."""
    _change(cfg, expand_home)


def make_absolute(cfg: dict, real: bool = False) -> None:
    """`expand_paths`, and write all paths from the root of the file system, as a run records them.

    Args:
        real: follow links too, to compare paths.
    """
    whole = os.path.realpath if real else os.path.abspath
    _change(cfg, lambda path: whole(expand_home(path)))


def _change(node: dict, function: Callable, prefix: str = "") -> None:
    for name, value in node.items():
        if isinstance(value, dict):
            _change(value, function, f"{prefix}{name}.")
        elif is_path(prefix + name):
            node[name] = _changed(value, function)


def _changed(value: Any, function: Callable) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_changed(entry, function) for entry in value)
    return str(function(value)) if value and isinstance(value, str) else value
