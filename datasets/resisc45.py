"""NWPU-RESISC45: 45 kinds of scenes seen from the air (Cheng et al. 2017)."""

import os

from yacs.config import CfgNode

from dassl_vr.data.datasets import DATASET_REGISTRY, Datum, ImageSplitDataset
from dassl_vr.data.datasets.split import SPLIT_NAMES, Splits, check_files
from dassl_vr.data.download import Part, Source
from dassl_vr.data.readers import read_lines

BASE = "https://huggingface.co/datasets/isaaccorley/resisc45/resolve/883edc0eee77b2c84225472f10f126e3ed83fa6e/"
GOOGLE = "https://storage.googleapis.com/remote_sensing_representations/"
LISTS = {
    "train": "ecfa963be4d85eac83665f8be8634abcb4fe6f3546472cc0e87999e2cab4449b",
    "val": "08d81f642526bec240589000af7f49a47e8d071a6e7925b0f36246a78ab64342",
    "test": "e0927e80130b47317a2f18520d98382b6fc56f0d3edd3345140f7d02267c3805",
}


@DATASET_REGISTRY.register(aliases=("resisc",))
class RESISC45(ImageSplitDataset):
    """`<root>/resisc45/NWPU-RESISC45/<class>/*.jpg` with one of these splits:

    - `split_mlai_Resisc45.json`, that of BlackVIP, if it has been put there manually;
    - `resisc45-{train,val,test}.txt` of Neumann et al. (2019), which TorchGeo and VTAB use.
    """

    dataset_dir = "resisc45"
    facts = {"TEMPLATE": "satellite imagery of {}."}
    image_dir = "NWPU-RESISC45"
    split_file = "split_mlai_Resisc45.json"
    fractions = (0.2, 0.2)
    parts = (
        Part(
            "NWPU-RESISC45",
            Source(
                "NWPU-RESISC45.zip",
                urls=(BASE + "NWPU-RESISC45.zip",),
                sha256="beeecd0b63656290ae6d65cf7763185b0c1c4c54a753ef8088d6fba3faaf1f53",
            ),
        ),
        *(
            Part(
                f"resisc45-{split}.txt",
                Source(
                    f"resisc45-{split}.txt",
                    urls=(f"{GOOGLE}resisc45-{split}.txt", f"{BASE}resisc45-{split}.txt"),
                    sha256=sha256,
                ),
                required=False,
            )
            for split, sha256 in LISTS.items()
        ),
    )

    def load(self, cfg: CfgNode) -> Splits:
        lists = [os.path.join(self.dataset_dir, f"resisc45-{split}.txt") for split in SPLIT_NAMES]
        if os.path.isfile(os.path.join(self.dataset_dir, self.split_file)) or not all(map(os.path.isfile, lists)):
            return super().load(cfg)
        names = sorted(entry.name for entry in os.scandir(os.path.join(self.dataset_dir, self.image_dir)) if entry.is_dir())
        labels = {name: label for label, name in enumerate(names)}
        splits = Splits(*(self._read(path, labels) for path in lists))
        self.official_counts = (18900, 6300, 6300)  # of this split; BlackVIP's has others
        self.check_counts(splits)
        return splits

    def _read(self, path, labels):
        """Lines of `<class>_<number>.jpg`."""
        files = [os.path.basename(line.strip()) for line in read_lines(path)]
        names = [file.rpartition("_")[0] for file in files]
        paths = [os.path.join(self.dataset_dir, self.image_dir, name, file) for name, file in zip(names, files, strict=True)]
        check_files(paths, path)  # so every name is a folder
        return [Datum(image, labels[name], 0, name.replace("_", " ")) for image, name in zip(paths, names, strict=True)]
