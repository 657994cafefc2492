"""SUN397: 397 kinds of scenes (Xiao et al. 2010), with the split of CoOp."""

import os
from pathlib import Path

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, ImageSplitDataset
from dassl_vr.data.datasets.walk import image_files
from dassl_vr.data.download import Part, Source, family_mirror


@DATASET_REGISTRY.register(aliases=("sun",))
class SUN397(ImageSplitDataset):
    """`<root>/sun397/{SUN397/<letter>/<class>[/<kind>]/*.jpg, split_zhou_SUN397.json}`."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    official_counts = (15880, 3970, 19850)
    parts = (
        # The publishers' servers do not answer any more.
        Part("SUN397", family_mirror("sun397.zip")),
        Part(
            "split_zhou_SUN397.json",
            Source("split_zhou_SUN397.json", drive_id="1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
            required=False,
        ),
    )

    def read_unsplit(self, image_dir: str) -> list[Datum]:
        by_folder = {}
        for path in image_files(image_dir):
            by_folder.setdefault(os.path.dirname(os.path.relpath(path, image_dir)), []).append(path)
        items = []
        for label, folder in enumerate(sorted(by_folder)):
            # "a/abbey" -> "abbey"; "t/track/outdoor" -> "outdoor track", the words in CoOp's order
            name = " ".join(reversed(Path(folder).parts[1:]))
            items += [Datum(path, label, 0, name) for path in by_folder[folder]]
        return items
