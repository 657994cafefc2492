"""Data sets: the registry, the family's base classes, and a base that makes one data set one short file."""

from .base_dataset import ArrayDatum, DatasetBase, Datum, read_item_image
from .benchmark import BenchmarkDataset, ImageSplitDataset, TrainTestDataset
from .build import DATASET_REGISTRY, build_dataset, name_of_data, root_is_data
from .split import split_sha256

__all__ = [
    "DATASET_REGISTRY",
    "ArrayDatum",
    "BenchmarkDataset",
    "DatasetBase",
    "Datum",
    "ImageSplitDataset",
    "TrainTestDataset",
    "build_dataset",
    "name_of_data",
    "read_item_image",
    "root_is_data",
    "split_sha256",
]
