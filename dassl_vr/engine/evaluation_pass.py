"""What a pass over a split leaves besides its metrics: predictions, and the time that they took."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ..evaluation.predictions import PREDICTIONS_FILE, PredictionRecord, write_predictions
from ..utils import distributed
from ..utils.devices import CPU, wait_for

if TYPE_CHECKING:
    from .trainer import SimpleTrainer


class EvaluationPass:
    """One pass of `SimpleTrainer.test`.

    Args:
        device: where the model is.
        probabilities: keep those of all classes (TEST.PREDICTIONS).
    """

    def __init__(self, device: torch.device, probabilities: bool = True):
        self.record = PredictionRecord(probabilities)
        self._timer = _timer_for(device)
        self._images = []  # of each batch

    def predicting(self) -> contextlib.AbstractContextManager[None]:
        """A context around the forward pass of a batch, which is timed."""
        return self._timer.timed()

    def add(self, batch: dict, scores: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in the output for a batch; see `PredictionRecord.add`."""
        self._images.append(len(labels))
        self.record.add(scores, labels, batch)

    def images_per_second(self) -> float | None:
        """Images through the forward pass per second, of all processes of a run together; each has to call it.

        Reading and resizing images does not count, nor does the first batch of a process, in which memory is taken and algorithms
        are chosen. None where no process had a second batch.
        """
        images, seconds = sum(self._images[1:]), self._timer.seconds(skip=1)
        images, seconds = distributed.sums(images, seconds)
        return images * distributed.world_size() / seconds if images and seconds else None


class _Timer:
    """Seconds in the blocks of `timed`."""

    def __init__(self):
        self._spans = []

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        start = self._now()
        yield
        self._spans.append((start, self._now()))

    def _now(self):
        return time.perf_counter()

    def seconds(self, skip):
        return sum(stop - start for start, stop in self._spans[skip:])


class _WaitingTimer(_Timer):
    """Likewise on an accelerator that notes no times: it is waited for before and after each block."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def _now(self):
        wait_for(self.device)
        return super()._now()


class _DeviceTimer(_WaitingTimer):
    """Likewise on one that notes the times itself: nobody waits for it before the end."""

    def _now(self):
        event = torch.Event(self.device, enable_timing=True)
        event.record()
        return event

    def seconds(self, skip):
        wait_for(self.device)
        return sum(start.elapsed_time(stop) for start, stop in self._spans[skip:]) / 1000


def _timer_for(device):
    if device.type == CPU.type:
        return _Timer()
    try:
        _DeviceTimer(device)._now()
    except (RuntimeError, NotImplementedError):  # it has no events
        return _WaitingTimer(device)
    return _DeviceTimer(device)


def evidence(trainer: "SimpleTrainer") -> dict:
    """Entries of results.json about the last pass over TEST.SPLIT, whose predictions are written beside it, if TEST.PREDICTIONS
    says so. All processes of a run call it; the main one writes."""
    last, cfg = trainer.last_pass, trainer.cfg
    found = dict.fromkeys(("ece", "nll", "predictions", "images_per_second", "test_batch_size"))
    if last is None:
        return found
    predictions, speed = last.record.gather(trainer.images_base()), last.images_per_second()
    found |= {"images_per_second": speed, "test_batch_size": cfg.DATALOADER.TEST.BATCH_SIZE}
    if predictions is None:
        print(f"No predictions are stored: trainer {cfg.TRAINER.NAME} does not give scores of classes, one row per image")
        return found
    found |= predictions.measures()
    if cfg.TEST.PREDICTIONS:
        if distributed.is_main():
            write_predictions(predictions, cfg.OUTPUT_DIR)
        found["predictions"] = PREDICTIONS_FILE
    return found
