"""What a model said of each image of a split: gathered batch by batch, kept in a file, measured."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from ..utils import distributed
from ..utils.errors import DataError
from ..utils.files import atomic_write
from .calibration import expected_calibration_error

PREDICTIONS_FILE = "predictions.npz"


@dataclass
class StoredPredictions:
    """N images of a split, in the data set's order.

    Attributes:
        index: (N,) place of each image in the split; images that could not be read are left out.
        path: (N,) texts, from the data set's directory on.
        label: (N,) true classes. Outside of 0 .. K - 1 = not known: the image counts in no measure.
        predicted: (N,) class with the highest score.
        confidence: (N,) float32, probability of that class.
        nll: (N,) float32, - ln(probability of the true class); NaN where it is not known, infinite where a score is not a number.
        probabilities: (N, K) float16, or (N, 0) where they were not kept.
    """

    index: np.ndarray
    path: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    nll: np.ndarray
    probabilities: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool: the true class is known."""
        return ~np.isnan(self.nll)

    @property
    def right(self) -> np.ndarray:
        """(N,) bool"""
        return self.predicted == self.label

    def measures(self) -> dict[str, float | None]:
        """`ece` in percent (15 bins over the whole split) and `nll`, the mean; None where no label is known, or the model's scores
        are not finite."""
        known = self.labelled
        if not known.any() or not (np.isfinite(self.nll[known]).all() and np.isfinite(self.confidence).all()):
            return {"ece": None, "nll": None}
        ece = expected_calibration_error(self.confidence[known], self.right[known])
        return {"ece": ece, "nll": float(self.nll[known].mean(dtype=np.float64))}


class PredictionRecord:
    """Takes in the output of a model batch by batch. All stays on its device: nothing is waited for before `gather`.

    Scores are logits, of which the softmax is taken; a row that is a probability distribution already, as some methods of the
    family give it, is taken as it is.

    Args:
        probabilities: keep those of all classes.
    """

    def __init__(self, probabilities: bool = True):
        self.keeps_probabilities = probabilities
        self.fits = True  # what came in are scores of classes
        self._number = 0
        self._paths = []
        self._parts = {name: [] for name in ("index", "label", "predicted", "confidence", "nll", "probabilities")}

    def add(self, scores: torch.Tensor, labels: torch.Tensor, batch: dict) -> None:
        """
        Args:
            scores: (B, K) floating-point numbers. If anything else comes, such as the output of a method with an evaluator of its
                own, there will be no predictions.
            labels: (B,) whole numbers.
            batch: as the loader gave it: "index" and "impath" are read, if they are there.
        """
        self.fits = self.fits and _are_scores(scores, labels)
        if not self.fits:
            return
        scores, labels = scores.detach(), labels.detach().to(scores.device)
        logs = _log_probabilities(scores.float())  # (B, K)
        predicted = scores.argmax(dim=1)
        known = (labels >= 0) & (labels < scores.shape[1])
        of_label = logs.gather(1, torch.where(known, labels, 0)[:, None])[:, 0]
        index = batch.get("index") if isinstance(batch, dict) else None
        if index is None:  # of a loader that does not number its samples
            index = torch.arange(self._number, self._number + len(labels))
        self._number += len(labels)
        self._paths += batch.get("impath", [""] * len(labels)) if isinstance(batch, dict) else [""] * len(labels)
        found = {
            "index": torch.as_tensor(index).to(torch.int64),
            "label": labels.to(torch.int64),
            "predicted": predicted,
            "confidence": logs.gather(1, predicted[:, None])[:, 0].exp(),
            "nll": torch.where(known, -of_label.nan_to_num(nan=-torch.inf, neginf=-torch.inf), torch.nan),
            "probabilities": logs.exp().half() if self.keeps_probabilities else logs.new_empty(0).half(),
        }
        for name, part in found.items():
            self._parts[name].append(part)

    def gather(self, base: str = "") -> StoredPredictions | None:
        """The predictions of all processes of a run; each has to call it. None where the output was not scores of classes, or there
        was none.

        Args:
            base: directory that paths are counted from.
        """
        if distributed.any_process(not self.fits) or not distributed.sums(self._number)[0]:
            return None
        paths = np.array([path for part in distributed.gather_values(self._paths) for path in part])
        of = {name: _of_all_processes(name, parts) for name, parts in self._parts.items()}
        order = of["index"].argsort(kind="stable")
        of["probabilities"] = of["probabilities"].reshape(len(order), -1)
        paths = np.array([_relative(path, base) for path in paths[order].tolist()])
        return StoredPredictions(path=paths, **{name: values[order] for name, values in of.items()})


def _are_scores(scores, labels):
    tensors = isinstance(scores, torch.Tensor) and isinstance(labels, torch.Tensor)
    return tensors and scores.dim() == 2 and labels.shape == scores.shape[:1] and scores.is_floating_point() and scores.shape[1] > 0


def _log_probabilities(scores):
    """(B, K) logits or probabilities -> (B, K)"""
    are_probabilities = (scores >= 0).all(dim=1) & ((scores.sum(dim=1) - 1).abs() < 1e-3)
    smallest = torch.finfo(scores.dtype).tiny
    return torch.where(are_probabilities[:, None], scores.clamp(min=smallest).log(), scores.log_softmax(dim=1))


KINDS = {"index": "int64", "label": "int64", "predicted": "int64", "confidence": "float32", "nll": "float32"}
KINDS["probabilities"] = "float16"


def _of_all_processes(name, parts):
    # Flat, as a process that had no image does not know the number of classes
    own = torch.cat([part.flatten() for part in parts]).cpu() if parts else torch.empty(0, dtype=getattr(torch, KINDS[name]))
    return torch.cat(distributed.gather(own)).numpy()


def _relative(path, base):
    inside = base and os.path.isabs(path) and not os.path.relpath(path, base).startswith(os.pardir)
    return os.path.relpath(path, base) if inside else path


def write_predictions(predictions: StoredPredictions, directory: str | os.PathLike) -> None:
    """Write `PREDICTIONS_FILE` in `directory`, whole or not at all: arrays of numpy under the names of the attributes."""
    with atomic_write(Path(directory, PREDICTIONS_FILE), "wb") as file:
        np.savez_compressed(file, **{field.name: getattr(predictions, field.name) for field in fields(predictions)})


def read_predictions(directory: str | os.PathLike) -> StoredPredictions:
    """What `write_predictions` wrote. Nothing is unpickled.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = Path(directory, PREDICTIONS_FILE)
    if not path.is_file():
        raise DataError(
            f"{directory}: has no {PREDICTIONS_FILE} (an older run, or one with TEST.PREDICTIONS False); test it again with"
            f" train.py --eval-only --model-dir {directory} --output-dir NEW, and give NEW in its place"
        )
    names = [field.name for field in fields(StoredPredictions)]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = StoredPredictions(**{name: arrays[name] for name in names})
        problem = _problem(content, names)
    except Exception as error:  # of zip, zlib, numpy's header ...
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    if problem:
        raise DataError(f"{path}: not the predictions of a run ({problem}); test the run again with --eval-only")
    return content


def _problem(content: StoredPredictions, names: Iterable[str]) -> str:
    number = len(content.index)
    for name in names:
        array = getattr(content, name)
        kind = KINDS.get(name, "a text")
        if array.dtype.kind != "U" if name == "path" else str(array.dtype) != kind:
            return f"entry '{name}' is of {array.dtype}, expected {kind}"
        if array.shape[:1] != (number,) or array.ndim != (2 if name == "probabilities" else 1):
            return f"entry '{name}' has the shape {array.shape}, and there are {number} images"
    if number == 0 or (content.index < 0).any() or (np.diff(content.index) < 0).any():
        return "entry 'index' is not in order"
    classes = content.probabilities.shape[1]
    known = (content.label >= 0) & (content.label < classes)
    if (content.predicted < 0).any() or (content.predicted >= classes).any() or (known != content.labelled).any():
        return f"labels and predicted classes do not fit {classes} classes"
    return ""
