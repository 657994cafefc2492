"""Food-101: 101 kinds of dishes (Bossard et al. 2014), with the split of CoOp."""

from dassl_vr.data.datasets import DATASET_REGISTRY, ImageSplitDataset
from dassl_vr.data.download import Part, Source, family_mirror


@DATASET_REGISTRY.register(aliases=("food-101",))
class Food101(ImageSplitDataset):
    """`<root>/food-101/{images/<class>/*.jpg, split_zhou_Food101.json}`."""

    dataset_dir = "food-101"
    facts = {"TEMPLATE": "a photo of {}, a type of food."}
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    official_counts = (50500, 20200, 30300)
    parts = (
        Part(
            "images",
            Source(
                "food-101.tar.gz",
                urls=(
                    "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                    "https://huggingface.co/datasets/ethz/food101/resolve/main/food-101.tar.gz",
                ),
                md5="85eeb15f3717b99a5da872d97d918f87",
            ),
            fallbacks=(family_mirror("food101.zip"),),
        ),
        Part(
            "split_zhou_Food101.json",
            Source("split_zhou_Food101.json", drive_id="1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
            required=False,
        ),
    )
