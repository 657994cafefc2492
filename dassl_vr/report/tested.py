"""What the test of a run said of its images: classes, and the worst errors."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..data.datasets import read_item_image
from ..evaluation.predictions import read_predictions
from ..utils.images import UnreadableImageError
from .per_class import Confusion
from .runs import group_of

if TYPE_CHECKING:
    from ..data import DatasetBase

WORST = 12  # errors that are shown


@dataclass
class Mistake:
    """A test image that was taken for another class.

    Attributes:
        number: its place in the split, from 1 on; `path` of its file, "" where it has none.
        truth, predicted: classes; `confidence`: probability of the predicted one, `of_truth`: that of the true one.
        image: None where the data are not there.
    """

    number: int
    path: str
    truth: str
    predicted: str
    confidence: float
    of_truth: float
    image: Image.Image | None


@dataclass
class Tested:
    """The test of a run.

    Attributes:
        split: "test" or "val".
        images: number of those with a known class; `errors`: of those that were taken for another one.
        worst: the wrong answers that the model was surest of, surest first.
    """

    confusion: Confusion
    split: str
    images: int
    errors: int
    worst: list[Mistake]


def tested_of(directory: str | os.PathLike, dataset: DatasetBase | None, number: int = WORST) -> Tested:
    """The `Tested` of a run's directory.

    Args:
        dataset: where the images of its errors are; None = they are not shown.
        number: of errors.

    Raises:
        DataError: it keeps no predictions.
    """
    group = group_of(directory)
    confusion = Confusion.of(group)
    kept, names = read_predictions(directory), confusion.classnames
    (run,) = group.runs.values()
    split = run.get("evaluated_split") or "test"
    items = [] if dataset is None else getattr(dataset, split, None) or []
    wrong = np.flatnonzero(kept.labelled & ~kept.right)
    order = wrong[np.lexsort((-kept.nll[wrong], -kept.confidence[wrong]))]
    worst = [
        Mistake(
            int(kept.index[row]) + 1,
            str(kept.path[row]),
            names[kept.label[row]],
            names[kept.predicted[row]],
            float(kept.confidence[row]),
            math.exp(-float(kept.nll[row])),
            _image(items, int(kept.index[row]), int(kept.label[row]), str(kept.path[row])),
        )
        for row in order[:number].tolist()
    ]
    return Tested(confusion, split, int(kept.labelled.sum()), len(wrong), worst)


def _image(items: Sequence, index, label, path):
    """The image of a split at this place; None where another one is there now, or none that can be read."""
    if index < len(items) and items[index].label == label and items[index].impath.endswith(path):
        with contextlib.suppress(UnreadableImageError):
            return read_item_image(items[index])
    return None
