"""Describable Textures: 47 kinds of textures (Cimpoi et al. 2014), with the split of CoOp."""

from dassl_vr.data.datasets import DATASET_REGISTRY, ImageSplitDataset
from dassl_vr.data.download import Part, Source, family_mirror


@DATASET_REGISTRY.register(aliases=("dtd",))
class DescribableTextures(ImageSplitDataset):
    """`<root>/dtd/{images/<class>/*.jpg, split_zhou_DescribableTextures.json}`."""

    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    facts = {"BATCH_LIMIT": 64, "TEMPLATE": "{} texture."}  # few images: the published recipes train on smaller batches
    official_counts = (2820, 1128, 1692)
    parts = (
        Part(
            "images",
            Source(
                "dtd-r1.0.1.tar.gz",
                urls=("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
                md5="fff73e5086ae6bdbea199a49dfb8a4c1",
            ),
            fallbacks=(family_mirror("dtd.zip"),),
        ),
        Part(
            "split_zhou_DescribableTextures.json",
            Source("split_zhou_DescribableTextures.json", drive_id="1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),
            required=False,
        ),
    )
