"""Oxford-IIIT Pets: 37 breeds of cats and dogs (Parkhi et al. 2012), with the split of CoOp."""

import os

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, ImageSplitDataset
from dassl_vr.data.datasets.split import Splits, check_files
from dassl_vr.data.download import Part, Source, family_mirror
from dassl_vr.data.readers import read_lines
from dassl_vr.utils.errors import DataError

BASE = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"


@DATASET_REGISTRY.register(aliases=("oxford_pets", "pets", "oxford-iiit-pet"))
class OxfordPets(ImageSplitDataset):
    """`<root>/oxford_pets/{images/*.jpg, split_zhou_OxfordPets.json}`; without the split also
    `annotations/{trainval,test}.txt`."""

    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    facts = {
        "BATCH_LIMIT": 64,
        "TEMPLATE": "a photo of a {}, a type of pet.",
    }  # few images: the published recipes train on smaller batches
    official_counts = (2944, 736, 3669)
    parts = (
        Part(
            "images",
            Source("images.tar.gz", urls=(BASE + "images.tar.gz",), md5="5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            fallbacks=(family_mirror("oxford_pets.zip"),),
        ),
        Part(
            "annotations",
            Source("annotations.tar.gz", urls=(BASE + "annotations.tar.gz",), md5="95a8c909bbe2e81eed6a22bccdf3f68f"),
            required=False,
        ),
        Part(
            "split_zhou_OxfordPets.json",
            Source("split_zhou_OxfordPets.json", drive_id="1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),
            required=False,
        ),
    )

    def make_split(self, image_dir: str) -> Splits:
        return self.make_split_of(self._listed(image_dir, "trainval.txt"), self._listed(image_dir, "test.txt"))

    def _listed(self, image_dir, filename):
        """The images of one of the publishers' lists: lines of `<Breed>_<number> <label from 1> <species> <breed>`."""
        path = os.path.join(self.dataset_dir, "annotations", filename)
        items = []
        for line in read_lines(path):
            if line.startswith("#"):
                continue
            try:
                image, label = line.split()[:2]
                breed = image.rpartition("_")[0].lower()
                items.append(Datum(os.path.join(image_dir, f"{image}.jpg"), int(label) - 1, 0, breed))
            except ValueError:
                raise DataError(f"{path}: cannot make sense of '{line}'; fetch the annotations again") from None
        check_files([item.impath for item in items], path)
        return items
