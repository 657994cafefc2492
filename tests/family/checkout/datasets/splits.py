"""What the data sets of the repository share."""

import os

from dassl.data.datasets import Datum
from dassl.utils import listdir_nohidden


def read_folder(directory):
    items = []
    for label, classname in enumerate(listdir_nohidden(directory, sort=True)):
        for name in listdir_nohidden(os.path.join(directory, classname), sort=True):
            items.append(Datum(impath=os.path.join(directory, classname, name), label=label, classname=classname))
    return items
