"""Data: sets, transforms, samplers and loaders, under the names of the Dassl family."""

from .datasets import DATASET_REGISTRY, ArrayDatum, DatasetBase, Datum, build_dataset, name_of_data, root_is_data, split_sha256
from .loader import BatchLoader
from .manager import DataManager
from .pipeline import TRANSFORM_REGISTRY, Pipeline
from .samplers import build_sampler
from .transforms import INTERPOLATION_MODES, build_transform
from .wrapper import DatasetWrapper

__all__ = [
    "DATASET_REGISTRY",
    "INTERPOLATION_MODES",
    "TRANSFORM_REGISTRY",
    "ArrayDatum",
    "BatchLoader",
    "DataManager",
    "DatasetBase",
    "DatasetWrapper",
    "Datum",
    "Pipeline",
    "build_dataset",
    "build_sampler",
    "build_transform",
    "name_of_data",
    "root_is_data",
    "split_sha256",
]
