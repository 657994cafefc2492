"""Oxford Flowers: 102 kinds of flowers (Nilsback and Zisserman 2008), with the split of CoOp."""

import os

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, ImageSplitDataset
from dassl_vr.data.download import Part, Source, family_mirror
from dassl_vr.data.readers import read_mat
from dassl_vr.utils.errors import DataError
from dassl_vr.utils.files import read_json

BASE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


@DATASET_REGISTRY.register(aliases=("oxford_flowers", "flowers102", "flowers"))
class OxfordFlowers(ImageSplitDataset):
    """`<root>/oxford_flowers/{jpg/*.jpg, split_zhou_OxfordFlowers.json}`; without the split also
    `imagelabels.mat` and `cat_to_name.json`."""

    dataset_dir = "oxford_flowers"
    facts = {"TEMPLATE": "a photo of a {}, a type of flower."}
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    official_counts = (4093, 1633, 2463)
    parts = (
        Part(
            "jpg",
            Source("102flowers.tgz", urls=(BASE + "102flowers.tgz",), md5="52808999861908f626f3c1f4e79d11fa"),
            fallbacks=(family_mirror("oxford_flowers.zip"),),
        ),
        Part(
            "imagelabels.mat",
            Source("imagelabels.mat", urls=(BASE + "imagelabels.mat",), md5="e0620be6f572b9609742df49c70aed4d"),
            required=False,
        ),
        Part("cat_to_name.json", Source("cat_to_name.json", drive_id="1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"), required=False),
        Part(
            "split_zhou_OxfordFlowers.json",
            Source("split_zhou_OxfordFlowers.json", drive_id="1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),
            required=False,
        ),
    )

    def read_unsplit(self, image_dir: str) -> list[Datum]:
        (labels,) = read_mat(os.path.join(self.dataset_dir, "imagelabels.mat"), "labels")
        names_path = os.path.join(self.dataset_dir, "cat_to_name.json")
        try:
            names = read_json(names_path)
            return [
                Datum(os.path.join(image_dir, f"image_{number:05d}.jpg"), int(label) - 1, 0, names[str(label)])
                for number, label in enumerate(labels.ravel(), start=1)
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{names_path}: not a list of class names ({error}); fetch it again, or better the split") from error
