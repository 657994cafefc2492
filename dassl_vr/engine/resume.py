"""The resume file: everything that a run needs to continue as if it had never stopped."""

import os

from ..backbones.base import PRECISIONS
from ..backbones.weights import require_same_weights
from ..utils import distributed, kinds
from ..utils.checkpoint import check_trained_state, load_trained_state, read_torch_file, save_atomically, trained_state
from ..utils.environment import peak_memory_bytes
from ..utils.errors import ConfigError, RunInterrupted, WeightsError
from ..utils.seeding import get_random_states, set_random_states
from ..utils.signals import asked, asked_anywhere
from ..utils.training_state import optimizer_problem, random_states_problem, schedule_problem

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
    raise RunInterrupted(f"stopped by {signal_name} {place}; add --resume {directory} to continue")


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
    skipped = _skipped_images(trainer)
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
        "results": {split: {name: _plain(value) for name, value in metrics.items()} for split, metrics in trainer.results.items()},
        "skipped_images": skipped,
        "peak_memory_bytes": peak_memory(trainer),
        "precision": trainer.precision,
        "split_sha256": _split_sha256(trainer),
        "weights_sha256": trainer.weights_sha256,
        "processes": distributed.world_size(),
        "random_states": get_random_states(),
        "extra": extra,
    }
    save_atomically(state, os.path.join(directory, RESUME_FILE))


def peak_memory(trainer):
    """In bytes, the highest since the run began, over all interruptions."""
    return max(trainer.peak_memory_before, peak_memory_bytes(trainer.device))


def _plain(number):
    return number.item() if hasattr(number, "item") else number  # an evaluator's own may be numpy's, which are not loaded


def _skipped_images(trainer):
    """{path, from the data set's directory on: why} of the images that any process has left out so far."""
    base = _base(trainer)
    found = {os.path.relpath(path, base) if base else path: why for path, why in getattr(trainer.dm, "skipped_images", {}).items()}
    return {path: why for part in distributed.gather_values(found) for path, why in part.items()}


def _base(trainer):
    base = str(getattr(getattr(trainer.dm, "dataset", None), "dataset_dir", ""))
    return base if os.path.isabs(base) else ""


def _split_sha256(trainer):
    return trainer.dm.split_sha256 if trainer.dm is not None else ""


def read_resume_file(directory):
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


def load_resume_file(trainer, directory):
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
    if set(state["models"]) != set(trainer._models):
        raise WeightsError(f"{path} holds the models {', '.join(state['models'])}; this trainer has {', '.join(trainer._models)}")
    for name, model in trainer._models.items():
        check_trained_state(model, state["models"][name], path)
    if problem := _problem(trainer, state):
        raise WeightsError(f"resume file {path}: {problem}; {REMEDY}")
    if state["precision"] != trainer.precision:
        print(f"WARNING: the run began with {state['precision']} arithmetic and continues with {trainer.precision}")
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
    trainer.history = list(state["history"])
    trainer.results = state.get("results", {})
    trainer.peak_memory_before = state.get("peak_memory_bytes", 0)
    if distributed.is_main() and trainer.dm is not None:
        base = _base(trainer)
        trainer.dm.skipped_images.update({os.path.join(base, file): why for file, why in state.get("skipped_images", {}).items()})
    try:
        trainer.load_extra_state(state.get("extra", {}))
    except (ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"resume file {path}: entry 'extra' does not fit ({error}); {REMEDY}") from error
    set_random_states(state["random_states"])
    place = f"epoch {trainer.start_epoch + 1}"
    if state.get("within_epoch"):
        trainer.begin_progress().load_state_dict(state["within_epoch"])
        place += f", batch {trainer.progress.batches + 1}"
    print(f"Resumed from {path}: {place} is next")
    return True


def _problem(trainer, state):
    """What of a resume file's `state`, which is of the kind RESUME, does not fit `trainer`; "" if all does."""
    within, left = state.get("within_epoch"), trainer.max_epoch - state["next_epoch"]
    if left < bool(within):
        return f"entry 'next_epoch' is {state['next_epoch']}; expected no more than the {trainer.max_epoch} epochs of this run"
    if within and (problem := _problem_within_epoch(trainer, within)):
        return problem
    epochs = [record.get("epoch") for record in state["history"]]
    if epochs != sorted(set(epochs)) or any(epoch > state["next_epoch"] for epoch in epochs):
        return f"entry 'history' has other epochs than 1 to {state['next_epoch']}"
    for name in trainer._models:
        for entry, holders, find in (("optims", trainer._optims, optimizer_problem), ("scheds", trainer._scheds, schedule_problem)):
            if holders[name] is None:
                continue
            if name not in state[entry]:
                return f"entry '{entry}.{name}' is missing"
            more = {"steps": left} if entry == "scheds" else {}
            if problem := find(holders[name], state[entry][name], f"{entry}.{name}", **more):
                return problem
    return random_states_problem(state["random_states"], "random_states")


def _problem_within_epoch(trainer, within):
    loaders = [getattr(trainer, name, None) for name in ("train_loader_x", "train_loader_u")]
    loaders = [loader for loader in loaders if hasattr(loader, "__len__")]
    longest = max(map(len, loaders), default=kinds.LARGEST)
    if not within["batches"] <= within["position"] <= longest:
        return f"entry 'within_epoch' stands at batch {within['batches']}, position {within['position']} of {longest}"
    return ""
