"""What may be done with an output directory, and the configuration in it."""

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from yacs.config import CfgNode

from ..backbones.from_cfg import backbone_from_cfg
from ..backbones.weights import require_same_weights
from ..config import get_cfg_default, make_absolute, merge_mapping, read_yaml, to_yaml
from ..data import build_dataset, root_is_data, split_sha256
from ..data.datasets.split import same_files
from ..evaluation.evaluator import CMAT_FILE
from ..evaluation.predictions import PREDICTIONS_FILE
from ..utils.distributed import is_main
from ..utils.errors import ConfigError, DataError, DiskError, UserError, WeightsError
from ..utils.files import atomic_write
from ..utils.places import check_in_place, kept_in_place
from .events import EVENTS
from .results import CHECKPOINT, RESULTS_FILE, read_results
from .resume import RESUME_FILE, read_resume_file

CONFIG_FILE, LOG_FILE = "config.yaml", "log.txt"
# And a directory for each model
OWN_NAMES = (CONFIG_FILE, RESULTS_FILE, RESUME_FILE, LOG_FILE, EVENTS, CMAT_FILE, PREDICTIONS_FILE)
LOCK_FILE = ".lock"
NEW, RESUMED, FINISHED = "new", "resumed", "finished"
WEIGHTS = "MODEL.BACKBONE.WEIGHTS"

# Keys that change where and how a run works, but not what comes out of it
NEUTRAL_KEYS = {
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "DEVICE",
    "USE_CUDA",
    "DATASET.ROOT",
    "DATASET.DOWNLOAD",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.PIN_MEMORY",
    "DATALOADER.STORE",
    "DATALOADER.STORE_DIR",
    "DATALOADER.STORE_MEMORY",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.RESUME_FREQ",
    "TRAIN.RESUME_BATCHES",
    "TRAIN.PRINT_FREQ",
    "TRAIN.PICTURE_FREQ",
    "TRAIN.END_FIGURES",
    "TEST.PREDICTIONS",
}


def claim_run_directory(cfg: CfgNode) -> str:
    """Decide what `cfg` may do in its `OUTPUT_DIR`; a used directory is never silently mixed.

    `cfg.SEED`, if negative, becomes the seed of the run found there, so that a run with a drawn seed can be resumed.

    Returns:
        NEW (start from the beginning), RESUMED (there is a resume file), or FINISHED (nothing is left to do).

    Raises:
        ConfigError: the directory holds an unfinished run and `RESUME` was not given, or a run of another configuration.
        WeightsError: `RESUME` names another directory that has nothing to resume from.
    """
    out, resume = cfg.OUTPUT_DIR, cfg.RESUME
    check_place(out)
    if is_elsewhere(cfg):
        check_resumed(resume, can_continue)
        check_unused(out)
        _check_same_config(cfg, resume)
        return RESUMED
    if not is_used(out):
        return NEW
    _check_is_a_run(out)
    finished = os.path.isfile(os.path.join(out, RESULTS_FILE))
    if not finished and not resume:
        _check_same_config(cfg, out)  # else `--resume` would be refused next
        raise ConfigError(
            f"output directory {out} holds an unfinished run; add --resume {out} to continue it, or choose another --output-dir"
        )
    if finished and read_results(out).get("evaluated_model") == CHECKPOINT:
        raise ConfigError(f"output directory {out} holds the results of an evaluation; choose another --output-dir")
    _check_same_config(cfg, out)
    if finished:
        return FINISHED
    return RESUMED if can_continue(out) else NEW


def is_elsewhere(cfg: CfgNode) -> bool:
    """Whether `cfg.RESUME` names another directory than that of the run's files."""
    return bool(cfg.RESUME) and os.path.realpath(cfg.RESUME) != os.path.realpath(cfg.OUTPUT_DIR)


def check_resumed(directory: str, enough: Callable[[str], bool]) -> None:
    """Raises `WeightsError` unless `enough(directory)`: `can_continue` or `is_used`."""
    if not enough(directory):
        raise WeightsError(f"--resume {directory}: nothing to continue from; expected the output directory of an unfinished run")


def can_continue(directory: str) -> bool:
    """Whether there is a resume file, or a note of the family's about the newest checkpoint."""
    entries = os.listdir(directory) if os.path.isdir(directory) else []
    notes = [RESUME_FILE, *(os.path.join(entry, "checkpoint") for entry in entries)]
    return any(os.path.isfile(os.path.join(directory, note)) for note in notes)


def check_place(out: str) -> None:
    """Refuse a place where no directory can be made, before hours of work. Raises `ConfigError`."""
    existing = os.path.abspath(out)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        what = "a file" if os.path.exists(existing) else "a link that leads nowhere"
        raise ConfigError(f"output directory {out}: {existing} is {what}; choose another --output-dir")
    missing = Path(os.path.relpath(os.path.abspath(out), existing))
    for path in (missing, *missing.parts):
        try:
            os.stat(os.path.join(existing, path))
        except FileNotFoundError:
            continue
        except OSError as error:  # a name or a path that is too long
            raise ConfigError(f"output directory {out}: {error.strerror}; choose another --output-dir") from error
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"output directory {out}: {existing} is not writable; choose another --output-dir")


def _check_is_a_run(out):
    """Raises `ConfigError` if files with the names of a run's files are not a run's, so that none is overwritten."""
    used = [name for name in OWN_NAMES if os.path.lexists(os.path.join(out, name))]
    if CONFIG_FILE in used:
        trainer = read_yaml(os.path.join(out, CONFIG_FILE)).get("TRAINER")
        if isinstance(trainer, dict) and "NAME" in trainer:
            return
    elif used == [LOG_FILE] and os.path.isfile(os.path.join(out, LOG_FILE)):
        return  # a run that died before it began, or one of the original family
    elif RESULTS_FILE in used:
        with contextlib.suppress(DataError):
            read_results(out)
            return  # of a run without its other files
    elif can_continue(out):
        return  # one of the original family
    raise ConfigError(f"output directory {out} holds {used[0]}, which is not of a run; choose another --output-dir")


def check_unused(out: str, names: Iterable[str] = OWN_NAMES) -> None:
    """Raises `ConfigError` if `out` holds a file or directory with a name that a run would write."""
    for name in names:
        if os.path.lexists(os.path.join(out, name)):
            raise ConfigError(f"output directory {out} is in use already, {name} is there; choose another --output-dir")


@contextlib.contextmanager
def hold(directory: str) -> Iterator[None]:
    """Keep other processes out of a run's directory.

    A directory that it makes, and in which nothing is written, is removed again.

    Raises:
        ConfigError: another process writes there, or the directory cannot be made or locked.
        DiskError: (from what writes there) it was moved or removed meanwhile.
    """
    made = not os.path.isdir(directory)
    path = os.path.join(directory, LOCK_FILE)
    lock = FileLock(path, timeout=0)
    try:
        os.makedirs(directory, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(f"output directory {directory}: another process trains there; wait for it, or choose another") from error
    except OSError as error:
        raise ConfigError(
            f"output directory {directory}: cannot be written to ({error.strerror}: {error.filename or path}); choose another"
        ) from error
    try:
        with kept_in_place(directory):
            yield
    finally:
        with contextlib.suppress(OSError):
            if made and os.listdir(directory) == [LOCK_FILE]:
                os.unlink(path)
                os.rmdir(directory)
        lock.release()


@contextlib.contextmanager
def hold_unused(directory: str) -> Iterator[None]:
    """`hold` for what is written whole or not at all: an error in the block leaves no files of a run.

    Raises:
        ConfigError: as `hold`; or files of a run are there already.
    """
    with hold(directory):
        check_unused(directory)
        try:
            yield
        except BaseException:
            with contextlib.suppress(DiskError):
                check_in_place(directory)
                _remove_evaluation(directory)
            raise


def clear_evaluation(directory: str) -> None:
    """Remove the files of an evaluation, if there are any. Raises `ConfigError` if there are files of anything else."""
    if any(os.path.lexists(os.path.join(directory, name)) for name in (RESUME_FILE, EVENTS)):
        raise ConfigError(f"output directory {directory} holds a run that trained; choose another --output-dir")
    if is_used(directory):
        _check_is_a_run(directory)
    _remove_evaluation(directory)


def _remove_evaluation(directory):
    for name in (RESULTS_FILE, CONFIG_FILE, LOG_FILE, CMAT_FILE, PREDICTIONS_FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def is_used(directory: str) -> bool:
    """Whether `directory` holds a file with the name of one that a run leaves."""
    return any(os.path.lexists(os.path.join(directory, name)) for name in OWN_NAMES)


def _check_same_config(cfg, directory):
    path = os.path.join(directory, CONFIG_FILE)
    if not os.path.isfile(path):
        return  # a directory of the original family, or a run that died before it began
    before, now = read_yaml(path), _of_the_run(cfg)
    for config in (before, now):
        make_absolute(config, real=True)
    before, now = _flatten(before), _flatten(now)
    if cfg.SEED < 0:
        cfg.SEED = now["SEED"] = before.get("SEED", cfg.SEED)
    neutral = NEUTRAL_KEYS
    if root_is_data(cfg.DATASET.NAME):
        neutral = neutral - {"DATASET.ROOT"}
    declared = _flatten(get_cfg_default())  # what a key that is newer than the run was then
    differing = [key for key in sorted({*before, *now} - neutral) if before.get(key, declared.get(key)) != now.get(key)]
    if "DATASET.ROOT" in differing and not {*differing} - {"DATASET.ROOT", WEIGHTS}:
        if not holds_images_of(directory, cfg.DATASET.ROOT):
            raise ConfigError(
                f"output directory {directory} holds a run on the images of {before.get('DATASET.ROOT')}, and those of"
                f" {now['DATASET.ROOT']} are not the same, or not all; rename one of the folders, or choose another --output-dir"
            )
        differing.remove("DATASET.ROOT")  # data that have moved are the same data
    if differing == [WEIGHTS] and (trained := weights_sha256_of(directory)):
        # Weights that have moved are the same weights
        require_same_weights(trained, backbone_from_cfg(cfg).weights_sha256, f"output directory {directory}", WEIGHTS)
    elif differing:
        shown = ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"output directory {directory} holds a run of another configuration ({shown}{more}); choose another --output-dir"
        )


def holds_images_of(directory: str, root: str) -> bool:
    """Whether the data set of the run in `directory`, with `root` as its DATASET.ROOT, has the images and labels of that run.

    By names alone where the images of the run are gone from where they were.
    """
    path = os.path.join(directory, CONFIG_FILE)
    trained_on = split_sha256_of(directory)
    if not trained_on or not os.path.isfile(path):
        return False
    cfg = get_cfg_default()
    merge_mapping(cfg, read_yaml(path), path)
    cfg.DATASET.DOWNLOAD, cfg.VERBOSE = False, False
    there = _data_at(root, cfg)
    if there is None or split_sha256(there) != trained_on:
        return False
    before = _data_at(cfg.DATASET.ROOT, cfg)
    return before is None or split_sha256(before) != trained_on or same_files(there, before)


def _data_at(root, cfg):
    """The data set with another DATASET.ROOT; None if it is not there."""
    cfg = cfg.clone()
    cfg.DATASET.ROOT = root
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the run itself will say what there is to say
            return build_dataset(cfg)
    except UserError:
        return None


def split_sha256_of(directory: str) -> str | None:
    """`split_sha256` of the run in `directory`, finished or not; None = not known."""
    if os.path.isfile(os.path.join(directory, RESULTS_FILE)):
        return read_results(directory).get("split_sha256")
    state = read_resume_file(directory)
    return state and state["split_sha256"]


def weights_sha256_of(directory: str) -> str | None:
    """`weights_sha256` of the backbone that the run in `directory` was trained on, finished or not; None = not known."""
    if os.path.isfile(os.path.join(directory, RESULTS_FILE)):
        return read_results(directory).get("weights_sha256")
    state = read_resume_file(directory)
    return state and state.get("weights_sha256")


def _of_the_run(cfg):
    """A copy of `cfg` without the sections of other trainers that were left alone, which come and go with the plug-ins that are
    loaded. One that was set stays: some trainers of the family read the section of the method they descend from."""
    cfg = cfg.clone()
    cfg.defrost()
    declared = get_cfg_default().TRAINER
    for name in list(cfg.TRAINER):
        if name not in ("NAME", cfg.TRAINER.NAME.upper()) and cfg.TRAINER[name] == declared.get(name):
            cfg.TRAINER.pop(name)
    return cfg


def _flatten(node, prefix=""):
    flat = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def write_config(cfg: CfgNode) -> None:
    """Have the main process write the resolved configuration to `OUTPUT_DIR/config.yaml`, so that it can be used for another
    run, from any directory: with absolute paths, and without where this one was resumed from."""
    if not is_main():
        return
    path = os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)
    cfg = _of_the_run(cfg)
    cfg.RESUME = ""
    make_absolute(cfg)
    with atomic_write(path) as file:
        file.write(to_yaml(cfg))
