"""ImageNet (Russakovsky et al. 2015), and what its further test sets share with it."""

import os
from collections.abc import Collection

from yacs.config import CfgNode

from dassl_vr.data.datasets import DATASET_REGISTRY, BenchmarkDataset, Datum
from dassl_vr.data.datasets.split import Splits
from dassl_vr.data.datasets.walk import image_files
from dassl_vr.data.download import Part, Source, missing_message
from dassl_vr.data.readers import read_lines
from dassl_vr.utils.errors import DataError

PAGE = "https://image-net.org/download-images"
CLASSNAMES = "classnames.txt"
NAMES = Part(CLASSNAMES, Source(CLASSNAMES, drive_id="1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"), required=False)


def read_classnames(*directories: str) -> dict[str, str]:
    """{folder such as n01440764: class name} in the order of the labels, from the first `classnames.txt` that is there."""
    paths = [os.path.join(directory, CLASSNAMES) for directory in directories]
    path = next(filter(os.path.isfile, paths), None)
    if path is None:
        raise DataError(missing_message("ImageNet's class names", NAMES, directories[0]))
    names = {}
    for line in read_lines(path):
        folder, _, name = line.strip().partition(" ")
        if not name or folder in names:
            raise DataError(f"{path}: cannot make sense of '{line}'; expected lines of a folder and its class name, each once")
        names[folder] = name
    return names


def read_folders(directory: str, folders: Collection[tuple[str, str]]) -> list[Datum]:
    """The images of `folders`, [(folder below `directory`, class name)]; labels count them. All must exist, and no others."""
    unknown = {entry.name for entry in os.scandir(directory) if entry.is_dir()} - {folder for folder, _ in folders}
    if unknown:
        raise DataError(f"{directory} has a folder {min(unknown)} that {CLASSNAMES} does not name; fetch {CLASSNAMES} again")
    items = []
    for label, (folder, name) in enumerate(folders):
        paths = image_files(os.path.join(directory, folder))
        if not paths:
            raise DataError(f"{os.path.join(directory, folder)} holds no image; complete the data set")
        items += [Datum(path, label, 0, name) for path in paths]
    return items


@DATASET_REGISTRY.register(aliases=("imagenet-1k", "imagenet1k"))
class ImageNet(BenchmarkDataset):
    """`<root>/imagenet/{images/{train,val}/nXXXXXXXX/*.JPEG, classnames.txt}`; the validation images are the test images.

    It has to be fetched manually from https://image-net.org: "Training images (Task 1 & 2)" and "Validation images".
    """

    dataset_dir = "imagenet"
    official_counts = (1281167, 0, 50000)
    parts = (
        Part("images/train", Source("ILSVRC2012_img_train.tar", page=PAGE)),
        Part("images/val", Source("ILSVRC2012_img_val.tar", page=PAGE)),
        NAMES,
    )

    def load(self, cfg: CfgNode) -> Splits:
        names = read_classnames(self.dataset_dir).items()
        images = os.path.join(self.dataset_dir, "images")
        splits = Splits(read_folders(os.path.join(images, "train"), names), [], read_folders(os.path.join(images, "val"), names))
        self.check_counts(splits)
        return splits


class ImageNetTestSet(BenchmarkDataset):
    """Further test images under ImageNet's class names. As in CoOp they stand in for the training images too, which a
    data set must have; the counts printed and the warning tell.

    Attributes:
        image_dir: directory below `dataset_dir` with one folder per class.
    """

    image_dir = ""

    def load(self, cfg: CfgNode) -> Splits:
        directory = os.path.join(self.dataset_dir, self.image_dir)
        names = read_classnames(self.dataset_dir, os.path.join(os.path.dirname(self.dataset_dir), "imagenet"))
        items = read_folders(directory, self.folders(directory, names))
        splits = Splits(items, [], items)
        self.check_counts(splits)
        self.say("WARNING: for testing only; what counts as its training images are its test images")
        return splits

    def folders(self, directory: str, names: dict[str, str]) -> list[tuple[str, str]]:
        """[(folder, class name)] by label: those of ImageNet's folders that are there."""
        present = [(folder, name) for folder, name in sorted(names.items()) if os.path.isdir(os.path.join(directory, folder))]
        if not present:
            raise DataError(f"{directory} holds none of ImageNet's folders; expected folders such as n01443537")
        return present
