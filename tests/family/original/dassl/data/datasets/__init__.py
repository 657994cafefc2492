from dassl.utils import Registry

from .base_dataset import DatasetBase, Datum

DATASET_REGISTRY = Registry("DATASET")
