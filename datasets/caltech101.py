"""Caltech-101: 100 kinds of objects and animals (Fei-Fei et al. 2004), with the split of CoOp."""

from dassl_vr.data.datasets import DATASET_REGISTRY, ImageSplitDataset
from dassl_vr.data.download import Part, Source, family_mirror


@DATASET_REGISTRY.register(aliases=("caltech-101",))
class Caltech101(ImageSplitDataset):
    """`<root>/caltech-101/{101_ObjectCategories/<class>/*.jpg, split_zhou_Caltech101.json}`."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    # As in CoOp: no background, only one of the two folders of faces, and names in the singular
    ignored = ("BACKGROUND_Google", "Faces_easy")
    folder_names = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
    official_counts = (4128, 1649, 2465)
    parts = (
        Part(
            "101_ObjectCategories",
            Source(  # holds an archive with the images
                "caltech-101.zip",
                urls=("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
                md5="3138e1922a9193bfa496528edbbc45d0",
            ),
            fallbacks=(family_mirror("caltech-101.zip"),),
        ),
        Part(
            "split_zhou_Caltech101.json",
            Source("split_zhou_Caltech101.json", drive_id="1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),
            required=False,
        ),
    )
