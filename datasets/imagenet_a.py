"""ImageNet-A: photographs of 200 of the classes that mislead ResNets (Hendrycks et al. 2021)."""

from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.data.download import Part, Source, family_mirror

from .imagenet import NAMES, ImageNetTestSet


@DATASET_REGISTRY.register(aliases=("imagenet_a", "imagenet-a"))
class ImageNetA(ImageNetTestSet):
    """`<root>/imagenet-adversarial/{imagenet-a/nXXXXXXXX/*, classnames.txt}`."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    official_counts = (7500, 0, 7500)
    parts = (
        Part(
            "imagenet-a",
            Source(
                "imagenet-a.tar",
                urls=("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",),
                md5="c3e55429088dc681f30d81f4726b6595",
            ),
            fallbacks=(family_mirror("imagenet-adversarial.zip"),),
        ),
        NAMES,
    )
