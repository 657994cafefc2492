"""ImageNetV2, matched frequency: a second test set made like the first (Recht et al. 2019)."""

from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.data.download import Part, Source, family_mirror

from .imagenet import NAMES, ImageNetTestSet


@DATASET_REGISTRY.register(aliases=("imagenet_v2", "imagenet-v2"))
class ImageNetV2(ImageNetTestSet):
    """`<root>/imagenetv2/{imagenetv2-matched-frequency-format-val/<label>/*.jpeg, classnames.txt}`."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    official_counts = (10000, 0, 10000)
    parts = (
        Part(
            "imagenetv2-matched-frequency-format-val",
            Source(
                "imagenetv2-matched-frequency.tar.gz",
                urls=(
                    "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                    "https://imagenetv2public.s3-us-west-2.amazonaws.com/imagenetv2-matched-frequency.tar.gz",
                ),
            ),
            fallbacks=(family_mirror("imagenetv2.zip"),),
        ),
        NAMES,
    )

    def folders(self, directory: str, names: dict[str, str]) -> list[tuple[str, str]]:
        # its folders are called by the labels: 0, 1, 2, ...
        return [(str(label), name) for label, name in enumerate(names.values())]
