"""The results that the SMM paper publishes (Cai et al., ICML 2024, tables 1 to 3), for comparison."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runs import Group

# Our names where the paper's tables use others
BACKBONES = {"rn18": "resnet18", "rn50": "resnet50"}
DATASETS = {"oxfordflowers": "flowers102", "describabletextures": "dtd"}

# Trainer -> its methods that are columns of the paper's tables. "Only delta" of its ablation, x + delta, is the full watermark
COLUMNS = {"VR": ("pad", "narrow", "medium", "full"), "SMM": ("smm", "only_mask", "single_channel")}
# Convolutions of the mask generator by backbone, and its patch size everywhere (section 5 and appendix A.2)
LAYERS = {"resnet18": 5, "resnet50": 5, "vit_b32": 6}
PATCH_SIZE = 8


@functools.cache
def _table():
    text = resources.files(__package__).joinpath("paper_results.csv").read_text(encoding="utf-8")
    results = {}
    for row in csv.DictReader(text.splitlines()):
        std = float(row["accuracy_std"]) if row["accuracy_std"] else None
        key = (row["backbone"], row["dataset"], row["method"])
        results.setdefault(key, (float(row["accuracy_mean"]), std))
    return results


def paper_accuracy(backbone: str, dataset: str, method: str) -> tuple[float, float | None] | None:
    """(mean, standard deviation or None) of the test accuracy in percent, or None where the paper has no such cell."""
    dataset = dataset.lower().replace("_", "")
    dataset = DATASETS.get(dataset, dataset)
    return _table().get((BACKBONES.get(backbone, backbone), dataset, method))


def paper_result(group: Group) -> tuple[float, float | None] | None:
    """`paper_accuracy` for a `Group` whose runs are what the paper measured: all images, Ilm, its mask generator and patch size."""
    if group.method not in COLUMNS.get(group.trainer, ()) or group.mapping != "ilm":
        return None
    run = next(iter(group.runs.values()))
    if run["shots"] >= 1 or run.get("subsample_classes", "all") != "all":
        return None
    options, backbone = group.options, BACKBONES.get(group.backbone, group.backbone)
    generator = (options.get("LAYERS", 5), options.get("PATCH_SIZE", 8), options.get("MASK_INIT", "random"))
    if group.trainer == "SMM" and options and generator != (LAYERS.get(backbone), PATCH_SIZE, "random"):
        return None
    return paper_accuracy(group.backbone, group.dataset, group.method)


def paper_notes(groups: Iterable[Group]) -> list[str]:
    """What a reader has to know of the paper's column: one line each."""
    weights = {
        group.config.get("MODEL", {}).get("BACKBONE", {}).get("WEIGHTS") or "timm's vit_base_patch32_384.augreg_in21k_ft_in1k"
        for group in groups
        if group.backbone == "vit_b32" and paper_result(group)
    }
    if not weights:
        return []
    return [
        "the paper's ViT-B/32 is the original checkpoint (pytorch_pretrained_vit, B_32_imagenet1k); the runs here took "
        + ", ".join(sorted(weights))
    ]
