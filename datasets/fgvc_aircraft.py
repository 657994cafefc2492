"""FGVC-Aircraft: 100 variants of aircraft (Maji et al. 2013), with the publishers' own split."""

import os

from yacs.config import CfgNode

from dassl_vr.data.datasets import DATASET_REGISTRY, BenchmarkDataset, Datum
from dassl_vr.data.datasets.split import SPLIT_NAMES, Splits, check_files
from dassl_vr.data.download import Part, Source, family_mirror
from dassl_vr.data.readers import read_lines
from dassl_vr.utils.errors import DataError


@DATASET_REGISTRY.register(aliases=("fgvc_aircraft", "aircraft", "fgvc-aircraft"))
class FGVCAircraft(BenchmarkDataset):
    """`<root>/fgvc_aircraft/{images/*.jpg, variants.txt, images_variant_{train,val,test}.txt}`."""

    dataset_dir = "fgvc_aircraft"
    facts = {"TEMPLATE": "a photo of a {}, a type of aircraft."}
    official_counts = (3334, 3333, 3333)
    parts = (
        Part(
            "images",
            Source(
                "fgvc-aircraft-2013b.tar.gz",
                urls=("https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
            ),
            fallbacks=(family_mirror("fgvc_aircraft.zip"),),
        ),
    )

    def load(self, cfg: CfgNode) -> Splits:
        names = [line.strip() for line in read_lines(os.path.join(self.dataset_dir, "variants.txt"))]
        splits = Splits(*(self._read(split, {name: label for label, name in enumerate(names)}) for split in SPLIT_NAMES))
        self.check_counts(splits)
        return splits

    def _read(self, split, labels):
        path = os.path.join(self.dataset_dir, f"images_variant_{split}.txt")
        items = []
        for line in read_lines(path):
            image, _, name = line.strip().partition(" ")
            if name not in labels:
                raise DataError(f"{path}: '{name}' is not in variants.txt; fetch the data set again")
            items.append(Datum(os.path.join(self.dataset_dir, "images", f"{image}.jpg"), labels[name], 0, name))
        check_files([item.impath for item in items], path)
        return items
