import json
import os
import random

import numpy as np
import torch
from PIL import Image


class Registry:
    def __init__(self, name):
        self._name, self._table = name, {}

    def register(self, obj=None, force=False):
        if obj is None:
            return lambda decorated: (self.register(decorated, force), decorated)[1]
        if obj.__name__ in self._table and not force:
            raise KeyError(f"{obj.__name__} is already in {self._name}")
        self._table[obj.__name__] = obj

    def get(self, name):
        return self._table[name]

    def registered_names(self):
        return list(self._table)


def set_random_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def mkdir_if_missing(dirname):
    os.makedirs(dirname, exist_ok=True)


def listdir_nohidden(path, sort=False):
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_json(fpath):
    with open(fpath) as file:
        return json.load(file)


def read_image(path):
    return Image.open(path).convert("RGB")


def load_checkpoint(fpath):
    return torch.load(fpath, map_location="cpu")
