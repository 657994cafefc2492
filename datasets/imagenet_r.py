"""ImageNet-R: art, toys and other renditions of 200 of the classes (Hendrycks et al. 2021)."""

from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.data.download import Part, Source, family_mirror

from .imagenet import NAMES, ImageNetTestSet


@DATASET_REGISTRY.register(aliases=("imagenet_r", "imagenet-r"))
class ImageNetR(ImageNetTestSet):
    """`<root>/imagenet-rendition/{imagenet-r/nXXXXXXXX/*, classnames.txt}`."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    official_counts = (30000, 0, 30000)
    parts = (
        Part(
            "imagenet-r",
            Source(
                "imagenet-r.tar",
                urls=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",),
                md5="a61312130a589d0ca1a8fca1f2bd3337",
            ),
            fallbacks=(family_mirror("imagenet-rendition.zip"),),
        ),
        NAMES,
    )
