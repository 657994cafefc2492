"""The results that the SMM paper publishes (Cai et al., ICML 2024, tables 1 to 3), for comparison."""

import csv
import functools
from importlib import resources

# Our names where the paper's tables use others
BACKBONES = {"rn18": "resnet18", "rn50": "resnet50"}
DATASETS = {"oxfordflowers": "flowers102", "describabletextures": "dtd"}


@functools.cache
def _table():
    text = resources.files(__package__).joinpath("paper_results.csv").read_text(encoding="utf-8")
    results = {}
    for row in csv.DictReader(text.splitlines()):
        std = float(row["accuracy_std"]) if row["accuracy_std"] else None
        key = (row["backbone"], row["dataset"], row["method"])
        results.setdefault(key, (float(row["accuracy_mean"]), std))
    return results


def paper_accuracy(backbone, dataset, method):
    """(mean, standard deviation or None) of the test accuracy in percent, or None where the paper has no such cell."""
    dataset = DATASETS.get(dataset.lower(), dataset.lower())
    return _table().get((BACKBONES.get(backbone, backbone), dataset, method))
