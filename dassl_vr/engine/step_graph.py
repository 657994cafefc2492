"""TRAIN.GRAPH: a training step that the accelerator repeats by itself, without Python between its kernels.

A step of a small model takes longer to launch than to compute. So its work (forward, loss, backward, optimizers) is recorded once
as a graph of torch's and then replayed as one launch. The whole step is recorded rather than modules of it
(`make_graphed_callables`): the loss and the optimizers are as many launches as a small network, and hooks on modules keep working.

What a graph replays are the same kernels on the same memory. Hence:

- A batch is copied into the memory of the recorded one. Batches of another shape, such as the last of an epoch, have a graph of
  their own; each shape takes its first `WARM_UP` steps as they are, which are steps like all others and warm the libraries up.
- Learning rates are in tensors while a step runs, and numbers between steps: schedules, print-outs and checkpoints know nothing.
- Python's part of a step is not repeated. It stays outside, in `forward_backward`: the schedule, counters, label statistics.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch.optim import Optimizer

from ..utils import devices, distributed
from ..utils.errors import ConfigError

if TYPE_CHECKING:
    from .trainer import SimpleTrainer

WARM_UP = 3  # steps before one is recorded

Step = Callable[[dict], dict[str, torch.Tensor]]


def check_graph(trainer: "SimpleTrainer") -> None:
    """Raise `ConfigError` if TRAIN.GRAPH is set for a trainer, its device and precision known, whose steps cannot be recorded."""
    if not trainer.cfg.TRAIN.GRAPH:
        return
    problem = ""
    if not devices.has_graphs(trainer.device):
        problem = f"device '{trainer.device}' with torch {torch.__version__} has no graphs"
    elif distributed.is_parallel():
        problem = "a run of several processes exchanges numbers within a step"
    elif trainer.precision == "fp16":
        problem = "the loss scaler of TRAIN.PRECISION fp16 looks at every gradient; take bf16 or fp32"
    elif not callable(getattr(trainer, "train_step", None)):
        problem = f"trainer {trainer.cfg.TRAINER.NAME} has no step that is the device's work alone (`train_step`)"
    if problem:
        raise refusal(problem)


def refusal(why: str) -> ConfigError:
    """The error for a step that cannot be recorded."""
    return ConfigError(f"TRAIN.GRAPH: {why}; set it to False")


def use_graph(trainer: "SimpleTrainer") -> None:
    """Have `trainer.train_step` recorded and replayed from now on, if TRAIN.GRAPH is set.

    Raises:
        ConfigError: an optimizer cannot be recorded; at the first step, if `forward_backward` does not call `train_step`.
    """
    if not trainer.cfg.TRAIN.GRAPH:
        return
    optimizers = [optimizer for optimizer in trainer._optims.values() if optimizer is not None]
    for optimizer in optimizers:
        make_capturable(optimizer)
    steps = trainer.train_step = RecordedSteps(trainer.train_step, optimizers, devices.Recorder(trainer.device))

    def first_step(*batches):
        del trainer.forward_backward  # the class's own comes back
        summary = trainer.forward_backward(*batches)
        if not steps.taken:
            raise refusal(f"the `forward_backward` of trainer {trainer.cfg.TRAINER.NAME} does not go through `train_step`")
        return summary

    trainer.forward_backward = first_step


def make_capturable(optimizer: Optimizer) -> None:
    """Have an optimizer without a state yet take its steps without the CPU: with its counts and its rates in tensors on the device.

    Raises:
        ConfigError: torch has no such form of it.
    """
    for group in optimizer.param_groups:
        if isinstance(optimizer, (torch.optim.Adam, torch.optim.SGD)):  # AdamW is an Adam
            group.update(fused=True, foreach=False)
        elif "capturable" in group:
            group.update(foreach=True)
        else:
            raise refusal(f"torch has no form of the optimizer {type(optimizer).__name__} that computes on the device alone")
        if "capturable" in group:
            group["capturable"] = True


class RecordedSteps:
    """`step`, recorded for each shape of its batches and replayed.

    Args:
        step: batch -> {name: tensor}, the work of the device alone; what it takes from anywhere but the batch must stay where it
            is in memory, and what is no tensor must stay as it is.
        optimizers: that it steps, made by `make_capturable`.
        recorder: has `aside()` and `record(function)` of `devices.Recorder`.

    Attributes:
        taken: how many steps were taken.
    """

    def __init__(self, step: Step, optimizers: Iterable[Optimizer], recorder: "devices.Recorder"):
        self._step, self._optimizers, self._recorder = step, list(optimizers), recorder
        self._rates = []  # tensors, one a group of parameters, and the numbers in them
        self._written = []
        self._warm_up = Counter()
        self._recorded = {}  # shapes -> (memory of the batch, of the results, replay)
        self.taken = 0

    def __call__(self, batch: dict) -> dict[str, torch.Tensor]:
        """One step on `batch`. Raises `ConfigError` where it turns out that it cannot be recorded."""
        self.taken += 1
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        shapes = tuple((name, value.shape, value.dtype) for name, value in tensors.items())
        self._write_rates()
        if shapes not in self._recorded:
            if self._warm_up[shapes] < WARM_UP:
                self._warm_up[shapes] += 1
                with self._recorder.aside(), self._rates_in_tensors():
                    return self._step(batch)
            self._recorded[shapes] = self._record(tensors)
        inputs, results, replay = self._recorded[shapes]
        for name, value in tensors.items():
            inputs[name].copy_(value)
        replay()
        return {name: value.clone() for name, value in results.items()}  # the next step overwrites them

    def _record(self, tensors):
        inputs = {name: value.clone() for name, value in tensors.items()}
        try:
            with self._rates_in_tensors():
                results, replay = self._recorder.record(lambda: self._step(inputs))
        except Exception as error:
            while error.__context__ is not None:  # what ends a recording that failed fails as well
                error = error.__context__
            reason = " ".join(str(error).split())[:200]
            raise refusal(f"the training step cannot be recorded ({type(error).__name__}: {reason})") from error
        others = [name for name, value in results.items() if not isinstance(value, torch.Tensor)]
        if others:
            raise refusal(f"the training step gives '{others[0]}', which is no tensor and would stay what it was")
        return inputs, results, replay

    def _groups(self):
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]  # loading a state replaces them

    def _write_rates(self):
        numbers = [group["lr"] for group in self._groups()]
        if not self._rates:
            self._rates = [torch.tensor(float(group["lr"]), device=group["params"][0].device) for group in self._groups()]
        elif numbers != self._written:
            for tensor, number in zip(self._rates, numbers, strict=True):
                tensor.fill_(number)
        self._written = numbers

    @contextlib.contextmanager
    def _rates_in_tensors(self) -> Iterator[None]:
        groups, numbers = self._groups(), self._written
        for group, tensor in zip(groups, self._rates, strict=True):
            group["lr"] = tensor
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
