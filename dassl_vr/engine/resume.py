"""The resume file: everything that a run needs to go on as if it had never stopped."""

import os

from ..backbones.weights import require_same_weights
from ..utils import distributed
from ..utils.checkpoint import load_checkpoint, load_trained_state, save_atomically, trained_state
from ..utils.errors import ConfigError, RunInterrupted, WeightsError
from ..utils.seeding import get_random_states, set_random_states
from .interruption import asked, asked_anywhere

RESUME_FILE = "resume.pt"
KEYS = (
    "next_epoch",
    "models",
    "optims",
    "scheds",
    "scaler",
    "best_result",
    "history",
    "precision",
    "split_sha256",
    "random_states",
)


def stop(trainer, signal_name):
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
    raise RunInterrupted(f"stopped by {signal_name} {place}; add --resume {directory} to go on")


def stoppable(trainer, batches, undo=None):
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


def save_resume_file(trainer, directory):
    """Write the state of now, at the end of `trainer.epoch` or within it, atomically. All processes of a run call it.

    Data loaders need no state of their own: their order and their augmentation are functions of (seed, epoch, sample).
    """
    progress = trainer.progress
    within_epoch = None if progress is None else progress.state_dict()
    extra = trainer.extra_state()
    if not distributed.is_main():
        return
    state = {
        "next_epoch": trainer.epoch + (within_epoch is None),
        "within_epoch": within_epoch,
        "models": {name: trained_state(model) for name, model in trainer._models.items()},
        "optims": {name: o.state_dict() for name, o in trainer._optims.items() if o is not None},
        "scheds": {name: s.state_dict() for name, s in trainer._scheds.items() if s is not None},
        "scaler": trainer.loss_scaler.state_dict(),
        "best_result": trainer.best_result,
        "history": trainer.history,
        "precision": trainer.precision,
        "split_sha256": _split_sha256(trainer),
        "weights_sha256": trainer.weights_sha256,
        "processes": distributed.world_size(),
        "random_states": get_random_states(),
        "extra": extra,
    }
    save_atomically(state, os.path.join(directory, RESUME_FILE))


def _split_sha256(trainer):
    return trainer.dm.split_sha256 if trainer.dm is not None else ""


def load_resume_file(trainer, directory):
    """Put `trainer` into the state that the resume file of `directory` holds.

    Returns:
        Whether there is such a file.

    Raises:
        WeightsError: it is damaged or belongs to another trainer, other data or another backbone.
        ConfigError: it was written within an epoch whose batches are others with this number of processes.
    """
    path = os.path.join(directory, RESUME_FILE)
    if not os.path.isfile(path):
        return False
    state = load_checkpoint(path, needs=KEYS)
    if state["split_sha256"] != _split_sha256(trainer):
        raise WeightsError(
            f"{path} belongs to a run on other images or labels than {trainer.cfg.DATASET.NAME} has; choose another --output-dir"
        )
    require_same_weights(state.get("weights_sha256"), trainer.weights_sha256, path, "MODEL.BACKBONE.WEIGHTS")
    processes = state.get("processes", 1)
    if state.get("within_epoch") and trainer.cfg.DATALOADER.BATCH_PER_PROCESS and processes != distributed.world_size():
        raise ConfigError(
            f"{path} was written within an epoch by {processes} process(es), and with DATALOADER.BATCH_PER_PROCESS their number"
            f" decides which images a batch has; end that epoch with --nproc_per_node {processes}"
        )
    if state["precision"] != trainer.precision:
        print(f"WARNING: the run began with {state['precision']} arithmetic and goes on with {trainer.precision}")
    if set(state["models"]) != set(trainer._models):
        raise WeightsError(f"{path} holds the models {', '.join(state['models'])}; this trainer has {', '.join(trainer._models)}")
    for name, model in trainer._models.items():
        load_trained_state(model, state["models"][name], path)
        if trainer._optims[name] is not None:
            trainer._optims[name].load_state_dict(state["optims"][name])
        if trainer._scheds[name] is not None:
            trainer._scheds[name].load_state_dict(state["scheds"][name])
    if state["scaler"]:
        trainer.loss_scaler.load_state_dict(state["scaler"])
    trainer.start_epoch = state["next_epoch"]
    trainer.epoch = trainer.start_epoch - 1  # the last one done: nothing but a test may be left
    trainer.best_result = state["best_result"]
    trainer.history = state["history"]
    trainer.load_extra_state(state.get("extra", {}))
    set_random_states(state["random_states"])
    place = f"epoch {trainer.start_epoch + 1}"
    if state.get("within_epoch"):
        trainer.begin_progress().load_state_dict(state["within_epoch"])
        place += f", batch {trainer.progress.batches + 1}"
    print(f"Resumed from {path}: {place} is next")
    return True
