import os
import random
from collections import defaultdict


class Datum:
    def __init__(self, impath="", label=0, domain=0, classname=""):
        assert isinstance(impath, str) and os.path.isfile(impath)
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    impath = property(lambda self: self._impath)
    label = property(lambda self: self._label)
    domain = property(lambda self: self._domain)
    classname = property(lambda self: self._classname)


class DatasetBase:
    dataset_dir = ""

    def __init__(self, train_x=None, train_u=None, val=None, test=None):
        self.train_x, self.train_u, self.val, self.test = train_x, train_u, val, test
        self.lab2cname = {item.label: item.classname for item in train_x}
        self.classnames = [self.lab2cname[label] for label in sorted(self.lab2cname)]
        self.num_classes = max(self.lab2cname) + 1

    def generate_fewshot_dataset(self, data_source, num_shots=-1):
        groups = defaultdict(list)
        for item in data_source:
            groups[item.label].append(item)
        return [item for items in groups.values() for item in random.sample(items, num_shots)]
