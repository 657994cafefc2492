"""UCF101: the middle frames of videos of 101 human actions (Soomro et al. 2012), with the split of CoOp."""

import re

from dassl_vr.data.datasets import DATASET_REGISTRY, ImageSplitDataset
from dassl_vr.data.datasets.split import Splits
from dassl_vr.data.download import Part, Source, family_mirror


@DATASET_REGISTRY.register(aliases=("ucf-101",))
class UCF101(ImageSplitDataset):
    """`<root>/ucf101/{UCF-101-midframes/<Action>/*.jpg, split_zhou_UCF101.json}`."""

    dataset_dir = "ucf101"
    facts = {"TEMPLATE": "a photo of a person doing {}."}
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    official_counts = (7639, 1898, 3783)
    parts = (
        Part(
            "UCF-101-midframes",
            Source("UCF-101-midframes.zip", drive_id="10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),
            fallbacks=(family_mirror("ucf101.zip"),),
        ),
        Part(
            "split_zhou_UCF101.json",
            Source("split_zhou_UCF101.json", drive_id="1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
            required=False,
        ),
    )

    def make_split(self, image_dir: str) -> Splits:
        # Clips of a group are cut from the same video: groups 1 to 7 are for testing, as in the publishers' first split.
        train, test = [], []
        for item in self.read_unsplit(image_dir):
            group = re.search(r"_g(\d+)_c\d+\.", item.impath)
            (test if group and int(group[1]) <= 7 else train).append(item)
        return self.make_split_of(train, test)
