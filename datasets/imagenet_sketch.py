"""ImageNet-Sketch: drawings of the 1,000 classes (Wang et al. 2019)."""

from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.data.download import Part, Source, family_mirror

from .imagenet import NAMES, ImageNetTestSet


@DATASET_REGISTRY.register(aliases=("imagenet_sketch", "imagenet-sketch"))
class ImageNetSketch(ImageNetTestSet):
    """`<root>/imagenet-sketch/{images/nXXXXXXXX/*, classnames.txt}`."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    official_counts = (50889, 0, 50889)
    parts = (
        Part(
            "images",
            Source(
                "ImageNet-Sketch.zip",
                urls=("https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",),
                drive_id="1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",
                inside="sketch",
            ),
            fallbacks=(family_mirror("imagenet-sketch.zip"),),
        ),
        NAMES,
    )
