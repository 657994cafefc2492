"""A data set in the idiom of the Dassl family, under a name that dassl_vr has too."""

import os
import pickle

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from dassl.utils import mkdir_if_missing

from .splits import read_folder


@DATASET_REGISTRY.register()
class EuroSAT(DatasetBase):
    dataset_dir = "colours"

    def __init__(self, cfg):
        self.dataset_dir = os.path.join(os.path.abspath(cfg.DATASET.ROOT), self.dataset_dir)
        train, test = (read_folder(os.path.join(self.dataset_dir, split)) for split in ("train", "test"))
        num_shots = cfg.DATASET.NUM_SHOTS
        if num_shots >= 1:
            mkdir_if_missing(os.path.join(self.dataset_dir, "split_fewshot"))
            preprocessed = os.path.join(self.dataset_dir, "split_fewshot", f"shot_{num_shots}-seed_{cfg.SEED}.pkl")
            if os.path.exists(preprocessed):
                with open(preprocessed, "rb") as file:
                    train = pickle.load(file)["train"]
            else:
                train = self.generate_fewshot_dataset(train, num_shots=num_shots)
                with open(preprocessed, "wb") as file:
                    pickle.dump({"train": train}, file)
        super().__init__(train_x=train, test=test)
