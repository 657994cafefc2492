"""The resume file: everything that a run needs to continue as if it had never stopped, as `RunState.run_state` gives it."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ..backbones.base import PRECISIONS
from ..utils import distributed, kinds
from ..utils.checkpoint import read_torch_file, save_atomically
from ..utils.errors import RunInterrupted, WeightsError
from ..utils.signals import asked, asked_anywhere
from .run_state import ExtraStateError

if TYPE_CHECKING:
    from .trainer import SimpleTrainer

RESUME_FILE = "resume.pt"
REMEDY = "remove it and start the same command again, which continues from the checkpoint files beside it, or from the beginning"
POSITIVE = kinds.kind("a number above 0", lambda value: kinds.is_number(value) and value > 0)
WITHIN_EPOCH = kinds.record({
    "batches": kinds.COUNT,
    "position": kinds.COUNT,
    "images": kinds.COUNT,
    "seconds": kinds.AMOUNT,
    "sums": kinds.dict_of(kinds.tuple_of(kinds.ANY_NUMBER, kinds.COUNT)),
})  # fmt: skip
SCALER = kinds.record(
    {"scale": POSITIVE, "growth_factor": POSITIVE, "backoff_factor": POSITIVE, "growth_interval": kinds.COUNT},
    {"_growth_tracker": kinds.COUNT},
)
HISTORY = kinds.list_of(kinds.record({"epoch": kinds.COUNT, "seconds": kinds.AMOUNT}, rest=kinds.ANY_NUMBER))
# The models, their optimizers and schedules and the random states are compared with what the trainer has besides
RESUME = kinds.record(
    {
        "next_epoch": kinds.COUNT,
        "models": kinds.dict_of(kinds.dict_of(kinds.ANYTHING)),
        "optims": kinds.dict_of(kinds.ANYTHING),
        "scheds": kinds.dict_of(kinds.ANYTHING),
        "scaler": lambda value, place: "" if value == {} else SCALER(value, place),
        "best_result": kinds.kind("a number", lambda value: kinds.is_number(value) or value == -float("inf")),
        "history": HISTORY,
        "precision": kinds.one_of(*PRECISIONS),
        "split_sha256": kinds.TEXT,
        "random_states": kinds.dict_of(kinds.ANYTHING),
    },
    {
        "within_epoch": kinds.optional(WITHIN_EPOCH),
        "weights_sha256": kinds.optional(kinds.TEXT),
        "processes": kinds.whole(1, kinds.LARGEST),
        "results": kinds.dict_of(kinds.dict_of(kinds.ANY_NUMBER)),
        "skipped_images": kinds.dict_of(kinds.ANYTHING, kinds.kind("a path", lambda value: isinstance(value, str))),
        "peak_memory_bytes": kinds.COUNT,
        "extra": kinds.dict_of(kinds.ANYTHING),
    },
)


def stop(trainer: "SimpleTrainer", signal_name: str) -> None:
    """Save a run that was asked to end by a signal, if it is in an epoch, and end it by `RunInterrupted`."""
    directory = trainer.output_dir
    if trainer.progress is not None:
        trainer.check_before_saving()
        save_resume_file(trainer, directory)
    distributed.barrier()  # together, because torchrun ends the others when the first one leaves
    if trainer.progress is None and not trainer.history:
        place = "before epoch 1"
    else:
        place = f"after epoch {trainer.epoch + 1}" + (f", batch {trainer.progress.batches}" if trainer.progress else "")
    raise RunInterrupted(f"stopped by {signal_name} {place}")


def stoppable(trainer: "SimpleTrainer", batches: Iterable, undo: Callable | None = None) -> Iterator:
    """Iterate over `batches`; before and after each the run is saved and ends, if any of its processes was asked to.

    For passes without training steps. The processes may have different numbers of batches.

    Args:
        batches: with a length where there are several processes.
        undo: called before the run is saved, to leave no half of what the pass makes.
    """
    left = max(distributed.gather_values(len(batches))) if distributed.is_parallel() else 0

    def look():
        if distributed.any_process(asked() is not None):
            if undo is not None:
                undo()
            stop(trainer, asked_anywhere())

    for batch in batches:
        look()
        left -= 1
        yield batch
    for _ in range(left + 1):  # the others may have more
        look()


def save_resume_file(trainer: "SimpleTrainer", directory: str) -> None:
    """Write the state of now, at the end of `trainer.epoch` or within it, atomically. All processes of a run call it.

    Data loaders need no state of their own: their order and their augmentation are functions of (seed, epoch, sample).
    """
    state = trainer.run_state()
    if distributed.is_main():
        save_atomically(state, os.path.join(directory, RESUME_FILE))


def read_resume_file(directory: str) -> dict | None:
    """What the resume file of `directory` holds, of the kind RESUME; None if there is no such file.

    Raises:
        WeightsError: it is damaged or of another kind.
    """
    path = os.path.join(directory, RESUME_FILE)
    if not os.path.isfile(path):
        return None
    try:
        state = read_torch_file(path, "resume file")
    except WeightsError as error:
        raise WeightsError(f"{error}; {REMEDY}") from error
    if problem := RESUME(state, ""):
        raise WeightsError(f"resume file {path}: {problem}; {REMEDY}")
    return state


def load_resume_file(trainer: "SimpleTrainer", directory: str) -> bool:
    """Put `trainer` into the state that the resume file of `directory` holds. All of it is checked before anything is touched.

    Returns:
        Whether there is such a file.

    Raises:
        WeightsError: it is damaged, of another kind, or belongs to another trainer, other data or another backbone.
        ConfigError: it was written within an epoch whose batches are others with this number of processes.
    """
    path = os.path.join(directory, RESUME_FILE)
    state = read_resume_file(directory)
    if state is None:
        return False
    if problem := trainer.run_state_problem(state, path):
        raise WeightsError(f"resume file {path}: {problem}; {REMEDY}")
    try:
        trainer.load_run_state(state, path)
    except ExtraStateError as error:
        raise WeightsError(f"resume file {path}: entry 'extra' does not fit ({error}); {REMEDY}") from error
    within = state.get("within_epoch")
    place = f"epoch {state['next_epoch'] + 1}" + (f", batch {within['batches'] + 1}" if within else "")
    print(f"Resumed from {path}: {place} is next")
    return True
