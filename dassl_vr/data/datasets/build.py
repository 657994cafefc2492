"""The registry of data sets, and what they are called."""

import os
import re

from yacs.config import CfgNode

from ...home import expand_home
from ...names import SHIPPED_CONFIGS
from ...utils.registry import Registry
from .base_dataset import DatasetBase
from .names import printable_name

DATASET_REGISTRY = Registry("data set")


def root_is_data(name: str) -> bool:
    """Whether `DATASET.ROOT` itself holds the images of the data set called `name`: a folder of the user's."""
    return name in DATASET_REGISTRY and getattr(DATASET_REGISTRY.get(name), "root_is_data", False)


def name_of_data(cfg: CfgNode, registered: str = "") -> str:
    """What the data of a run are called in directories, results, tables and figures: a folder of the user's by its own name.

    A folder that has the name of one of our data sets is `folder-<name>`: it is not that data set, whose figures are elsewhere.

    Args:
        registered: what to call a registered data set (default: as it is registered).
    """
    if not root_is_data(cfg.DATASET.NAME):
        return registered or cfg.DATASET.NAME
    root = os.path.abspath(expand_home(cfg.DATASET.ROOT)) if cfg.DATASET.ROOT else ""
    name = printable_name(os.path.basename(root))
    ours = {_plain(known) for known in DATASET_REGISTRY.registered_names()}
    if _plain(name) in ours or (SHIPPED_CONFIGS / "datasets" / f"{name.lower()}.yaml").is_file():
        return f"folder-{name}"
    return name or DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)


def _plain(name):
    return re.sub("[_-]", "", name.lower())


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """The data set `cfg.DATASET.NAME`. Raises `ConfigError` for an unknown name, `DataError` for missing data."""
    dataset_class = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if cfg.VERBOSE:
        print(f"Loading dataset: {DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)}")
    dataset = dataset_class(cfg)
    set_grey_bits(dataset, cfg.DATASET.GREY_BITS)
    return dataset


def set_grey_bits(dataset: DatasetBase, bits: int) -> None:
    """Have all images of a data set read with this DATASET.GREY_BITS."""
    for items in (dataset.train_x, dataset.train_u, dataset.val, dataset.test) if bits else ():
        for item in items or ():
            item.grey_bits = bits
