"""The registry of data sets."""

from yacs.config import CfgNode

from ...utils.registry import Registry
from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("data set")


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
