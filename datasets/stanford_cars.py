"""Stanford Cars: 196 models of cars (Krause et al. 2013), with the split of CoOp."""

import os

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, ImageSplitDataset
from dassl_vr.data.datasets.split import Splits, check_files
from dassl_vr.data.download import Part, Source, family_mirror
from dassl_vr.data.readers import read_mat
from dassl_vr.utils.errors import DataError


@DATASET_REGISTRY.register(aliases=("stanford_cars", "cars"))
class StanfordCars(ImageSplitDataset):
    """`<root>/stanford_cars/{cars_train/*.jpg, cars_test/*.jpg, split_zhou_StanfordCars.json}`; without the split also
    `devkit/` and `cars_test_annos_withlabels.mat`."""

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    official_counts = (6509, 1635, 8041)
    parts = (
        # The publisher's server does not answer any more. One archive has it all; what it brings is not fetched again.
        Part("cars_train", family_mirror("stanford_cars.zip")),
        Part("cars_test", family_mirror("stanford_cars.zip")),
        Part(
            "split_zhou_StanfordCars.json",
            Source("split_zhou_StanfordCars.json", drive_id="1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
            required=False,
        ),
    )

    def make_split(self, image_dir: str) -> Splits:
        directory = self.dataset_dir
        train = self._annotated("cars_train", os.path.join(directory, "devkit", "cars_train_annos.mat"))
        test = self._annotated("cars_test", os.path.join(directory, "cars_test_annos_withlabels.mat"))
        return self.make_split_of(train, test)

    def _annotated(self, folder, path):
        (annotations,) = read_mat(path, "annotations")
        (names,) = read_mat(os.path.join(self.dataset_dir, "devkit", "cars_meta.mat"), "class_names")
        items = []
        try:
            for entry in annotations.ravel():
                label = int(entry["class"].item()) - 1
                # "AM General Hummer SUV 2000" -> "2000 AM General Hummer SUV", as in CoOp's split
                *words, year = names.ravel()[label].item().split(" ")
                image = os.path.join(self.dataset_dir, folder, os.path.basename(entry["fname"].item()))
                items.append(Datum(image, label, 0, " ".join([year, *words])))
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not the annotations of cars ({error}); fetch it again, or better the split") from error
        check_files([item.impath for item in items], path)
        return items
