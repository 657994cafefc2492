"""Evaluators: fed batch by batch, they print and return the results of a pass."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from ..utils import distributed
from ..utils.checkpoint import save_atomically
from ..utils.errors import ConfigError, DataError
from ..utils.logger import print_brief
from ..utils.registry import Registry

CMAT_FILE = "cmat.pt"

EVALUATOR_REGISTRY = Registry("evaluator")


def build_evaluator(cfg: CfgNode, **kwargs: object) -> "EvaluatorBase":
    """The evaluator called `cfg.TEST.EVALUATOR`; `kwargs` go to its constructor."""
    evaluator = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return evaluator(cfg, **kwargs)


class EvaluatorBase:
    """Surface of an evaluator.

    Attributes:
        brief: text to begin a single line with, which the screen gets in place of the whole result; "" = the whole result.
    """

    brief = ""

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Take in a batch: mo: (B, classes) scores; gt: (B,) labels."""
        raise NotImplementedError

    def evaluate(self) -> dict[str, float]:
        """Print the results and return them by name; the first one is what the run is judged by."""
        raise NotImplementedError


def _of_all_processes(parts):
    """The labels in `parts`, a list of tensors, and those of the other processes of the run, as an array."""
    own = torch.cat(parts).cpu() if parts else torch.zeros(0, dtype=torch.int64)
    return torch.cat(distributed.gather(own)).numpy()


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error and macro-averaged F1 in percent, over the samples of all processes of a run.

    `TEST.PER_CLASS_RESULT` adds the accuracy of each class and their mean; `TEST.COMPUTE_CMAT` saves the confusion
    matrix, a (classes, classes) tensor whose rows (true classes) sum to 1, as `cmat.pt` in `OUTPUT_DIR`.

    Args:
        lab2cname: class name by label; needed for the per-class result.

    Raises:
        ConfigError: a per-class result is asked for without names.
        DataError: `evaluate` without any images.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: object):
        super().__init__(cfg)
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ConfigError("TEST.PER_CLASS_RESULT needs class names, and the data has none; set it to False")
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._y_true = []
        self._y_pred = []
        self._num_classes = 0

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Take in a batch: mo: (B, classes) scores; gt: (B,) labels. Waits for no device."""
        self._y_pred.append(mo.detach().argmax(dim=1))
        self._y_true.append(gt.detach())
        self._num_classes = mo.shape[1]

    def evaluate(self) -> dict[str, float]:
        from sklearn.metrics import f1_score  # here: two seconds, which a command that tests nothing saves

        y_true, y_pred = (_of_all_processes(parts) for parts in (self._y_true, self._y_pred))
        if not len(y_true):
            raise DataError("there is nothing to evaluate: the split has no images; choose another one with TEST.SPLIT")
        present = np.unique(y_true)
        total, correct = len(y_true), int((y_true == y_pred).sum())
        results = OrderedDict()
        results["accuracy"] = 100.0 * correct / total
        results["error_rate"] = 100.0 - results["accuracy"]
        macro_f1 = f1_score(y_true, y_pred, average="macro", labels=present, zero_division=0)
        results["macro_f1"] = 100.0 * float(macro_f1)
        # Parsers of the family's logs rely on these lines
        full = (
            "=> result\n"
            f"* total: {total:,}\n"
            f"* correct: {correct:,}\n"
            f"* accuracy: {results['accuracy']:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {results['macro_f1']:.1f}%"
        )
        brief = f"{self.brief}: accuracy {results['accuracy']:.1f}%, macro_f1 {results['macro_f1']:.1f}%"
        print_brief(brief if self.brief else full, full)
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_per_class(y_true, y_pred, present)
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix(y_true, y_pred)
        return results

    def _print_per_class(self, y_true, y_pred, present):
        print("=> per-class result")
        accuracies = []
        for label in present.tolist():
            hits = y_pred[y_true == label] == label
            accuracies.append(100.0 * hits.sum() / len(hits))
            print(
                f"* class: {label} ({self._lab2cname[label]})\t"
                f"total: {len(hits):,}\t"
                f"correct: {hits.sum():,}\t"
                f"acc: {accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies))
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self, y_true, y_pred):
        from sklearn.metrics import confusion_matrix  # here: as above

        if not distributed.is_main():
            return
        classes = np.arange(self._num_classes)  # all of them, so that entry [i, j] is about labels i and j
        matrix = confusion_matrix(y_true, y_pred, labels=classes, normalize="true")
        path = Path(self.cfg.OUTPUT_DIR) / CMAT_FILE
        save_atomically(torch.from_numpy(matrix), path)
        print(f"Confusion matrix is saved to {path}")
