"""GTSRB: photographs of 43 German traffic signs (Stallkamp et al. 2012)."""

import csv
import os
from pathlib import Path

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, TrainTestDataset
from dassl_vr.data.datasets.split import check_files
from dassl_vr.data.datasets.walk import image_files
from dassl_vr.data.download import Part, Source
from dassl_vr.data.readers import read_lines
from dassl_vr.utils.errors import DataError

BASE = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
TRAINING, TESTING, ANSWERS = "GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"

# What the signs say, by class id
CLASSNAMES = (
    "speed limit 20 km/h",
    "speed limit 30 km/h",
    "speed limit 50 km/h",
    "speed limit 60 km/h",
    "speed limit 70 km/h",
    "speed limit 80 km/h",
    "end of speed limit 80 km/h",
    "speed limit 100 km/h",
    "speed limit 120 km/h",
    "no overtaking",
    "no overtaking by trucks",
    "right of way at the next crossing",
    "priority road",
    "give way",
    "stop",
    "closed to all vehicles",
    "closed to trucks",
    "no entry",
    "general danger",
    "dangerous bend to the left",
    "dangerous bend to the right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic lights ahead",
    "pedestrians",
    "children crossing",
    "bicycles crossing",
    "risk of ice or snow",
    "wild animals crossing",
    "end of all restrictions",
    "turn right ahead",
    "turn left ahead",
    "straight ahead only",
    "straight ahead or right",
    "straight ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by trucks",
)


@DATASET_REGISTRY.register()
class GTSRB(TrainTestDataset):
    """`<root>/gtsrb/gtsrb/{GTSRB/Training/000xx/*.ppm, GTSRB/Final_Test/Images/*.ppm, GT-final_test.csv}`, as torchvision's."""

    dataset_dir = os.path.join("gtsrb", "gtsrb")
    # Signs with an arrow change when mirrored, but the published recipes mirror them: FLIP stays True so that numbers compare.
    facts = {"NATIVE_SIZE": 32, "VAL_PERCENT": 0.0, "TEMPLATE": "a photo of a {} traffic sign."}
    official_counts = (26640, 0, 12630)
    parts = tuple(
        Part(provides, Source(archive, urls=(BASE + archive,), md5=md5))
        for provides, archive, md5 in (
            (TRAINING, "GTSRB-Training_fixed.zip", "513f3c79a4c5141765e10e952eaa2478"),
            (TESTING, "GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185"),
            (ANSWERS, "GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5"),
        )
    )

    def read(self, split: str) -> list[Datum]:
        pairs = self._training() if split == "train" else self._testing()
        return [Datum(path, label, 0, CLASSNAMES[label]) for path, label in pairs]

    def _training(self):
        for label in range(len(CLASSNAMES)):
            for path in image_files(Path(self.dataset_dir, TRAINING, f"{label:05d}")):
                yield path, label

    def _testing(self):
        answers = os.path.join(self.dataset_dir, ANSWERS)
        pairs = []
        try:
            for row in csv.DictReader(read_lines(answers), delimiter=";"):
                pairs.append((os.path.join(self.dataset_dir, TESTING, os.path.basename(row["Filename"])), int(row["ClassId"])))
                CLASSNAMES[pairs[-1][1]]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise DataError(
                f"{answers}: not the list of test images ({error!r}); remove it and fetch the data set again"
            ) from error
        check_files([path for path, _ in pairs], answers)
        return pairs
