"""The registry of data sets."""

from ...utils.registry import Registry

DATASET_REGISTRY = Registry("data set")


def build_dataset(cfg):
    """The data set `cfg.DATASET.NAME`. Raises `ConfigError` for an unknown name, `DataError` for missing data."""
    dataset_class = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if cfg.VERBOSE:
        print(f"Loading dataset: {DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)}")
    dataset = dataset_class(cfg)
    set_grey_bits(dataset, cfg.DATASET.GREY_BITS)
    return dataset


def set_grey_bits(dataset, bits):
    """Have all images of a data set read with this DATASET.GREY_BITS."""
    for items in (dataset.train_x, dataset.train_u, dataset.val, dataset.test) if bits else ():
        for item in items or ():
            item.grey_bits = bits
