"""Small helpers of the family that no code of ours uses."""

import atexit
import os
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from ..data.fetch import Source, fetch
from ..utils.logger import Logger
from ..utils.misc import check_availability, tolist_if_not


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """The number of values in a module's parameters, or in `params` (parameters or optimizer groups).

    Raises:
        ValueError: neither was given.
    """
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("give a model or a list of parameters")
    total = 0
    for item in params:
        total += sum(p.numel() for p in item["params"]) if isinstance(item, dict) else item.numel()
    return total


def open_all_layers(model: nn.Module) -> None:
    """Train every layer."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | list[str]) -> None:
    """Train the named child modules only; freeze the others and put them in evaluation mode.

    Raises:
        ConfigError: a name is no child of `model`.
    """
    open_layers = tolist_if_not(open_layers)
    children = dict(model.named_children())
    for layer in open_layers:
        check_availability(layer, list(children))
    for name, module in children.items():
        module.train(name in open_layers)
        module.requires_grad_(name in open_layers)


def mkdir_if_missing(dirname: str | os.PathLike) -> None:
    """Make a directory and its parents; fine if it exists."""
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str | os.PathLike) -> bool:
    """Whether `fpath` is a file; warns if not."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f"No file at {fpath}", stacklevel=2)
    return isfile


def listdir_nohidden(path: str | os.PathLike, sort: bool = False) -> list[str]:
    """Names in a directory without those that start with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def download_url(url: str, dst: str | os.PathLike) -> None:
    """Fetch `url` to the file `dst`."""
    dst = Path(dst)
    fetch(Source(dst.name, urls=(url,)), dst.parent)


def setup_logger(output: str | None = None) -> None:
    """Copy all further prints to `output` (a .txt/.log file, or a directory for its log.txt) until the process ends.

    An existing file is kept: the new one gets the time as a suffix.
    """
    if output is None:
        return
    fpath = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.exists(fpath):
        fpath += time.strftime("-%Y-%m-%d-%H-%M-%S")
    logger = Logger(fpath)
    sys.stdout = logger
    atexit.register(logger.close)
