"""The registry of data sets."""

from ...utils.registry import Registry

DATASET_REGISTRY = Registry("data set")


def build_dataset(cfg):
    """The data set `cfg.DATASET.NAME`. Raises `ConfigError` for an unknown name, `DataError` for missing data."""
    dataset_class = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if cfg.VERBOSE:
        print(f"Loading dataset: {DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME)}")
    return dataset_class(cfg)
