"""What may be done with an output directory, and the files that describe a run in it."""

import contextlib
import io
import os
import shlex
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from ..backbones.from_cfg import backbone_from_cfg
from ..backbones.weights import require_same_weights
from ..config import get_cfg_default, merge_mapping, read_yaml, to_yaml
from ..data import DATASET_REGISTRY, build_dataset, split_sha256
from ..evaluation.evaluator import CMAT_FILE
from ..utils import kinds
from ..utils.distributed import gather_values, is_main, world_size
from ..utils.environment import device_name, library_versions
from ..utils.errors import ConfigError, DataError, DiskError, UserError, WeightsError
from ..utils.files import atomic_write, read_json, write_json
from ..utils.places import check_in_place, kept_in_place
from .events import EVENTS
from .resume import RESUME_FILE, peak_memory, read_resume_file

CONFIG_FILE, RESULTS_FILE, LOG_FILE = "config.yaml", "results.json", "log.txt"
OWN_NAMES = (CONFIG_FILE, RESULTS_FILE, RESUME_FILE, LOG_FILE, EVENTS, CMAT_FILE)  # and a directory for each model
LOCK_FILE = ".lock"
CHECKPOINT = "checkpoint"  # `evaluated_model` of an evaluation
NEW, RESUMED, FINISHED = "new", "resumed", "finished"
WEIGHTS = "MODEL.BACKBONE.WEIGHTS"

# Keys that change where and how a run works, but not what comes out of it
NEUTRAL_KEYS = {
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
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
}


def claim_run_directory(cfg):
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
    elsewhere = bool(resume) and os.path.realpath(resume) != os.path.realpath(out)
    if elsewhere:
        if not _can_continue(resume):
            raise WeightsError(f"--resume {resume}: nothing to continue from; expected the output directory of an unfinished run")
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
    return RESUMED if _can_continue(out) else NEW


def _can_continue(directory):
    """Whether there is a resume file, or a note of the family's about the newest checkpoint."""
    entries = os.listdir(directory) if os.path.isdir(directory) else []
    notes = [RESUME_FILE, *(os.path.join(entry, "checkpoint") for entry in entries)]
    return any(os.path.isfile(os.path.join(directory, note)) for note in notes)


def check_place(out):
    """Complain about a place where no directory can be made before hours of work are put into it. Raises `ConfigError`."""
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
    """Raises `ConfigError` where the files by the names of a run's are not those of a run, so that none of them is written over."""
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
    elif _can_continue(out):
        return  # one of the original family
    raise ConfigError(f"output directory {out} holds {used[0]}, which is not of a run; choose another --output-dir")


def check_unused(out, names=OWN_NAMES):
    """Raises `ConfigError` if there is anything in `out` by the name of a file or directory that a run would write."""
    for name in names:
        if os.path.lexists(os.path.join(out, name)):
            raise ConfigError(f"output directory {out} is in use already, {name} is there; choose another --output-dir")


@contextlib.contextmanager
def hold(directory):
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
def hold_unused(directory):
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


def clear_evaluation(directory):
    """Remove the files of an evaluation, if there are any. Raises `ConfigError` if there are files of anything else."""
    if any(os.path.lexists(os.path.join(directory, name)) for name in (RESUME_FILE, EVENTS)):
        raise ConfigError(f"output directory {directory} holds a run that trained; choose another --output-dir")
    if is_used(directory):
        _check_is_a_run(directory)
    _remove_evaluation(directory)


def _remove_evaluation(directory):
    for name in (RESULTS_FILE, CONFIG_FILE, LOG_FILE, CMAT_FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def is_used(directory):
    """Whether there is anything in `directory` by the name of a file that a run leaves."""
    return any(os.path.lexists(os.path.join(directory, name)) for name in OWN_NAMES)


def _check_same_config(cfg, directory):
    path = os.path.join(directory, CONFIG_FILE)
    if not os.path.isfile(path):
        return  # a directory of the original family, or a run that died before it began
    before, now = _flatten(read_yaml(path)), _flatten(_of_the_run(cfg))
    if cfg.SEED < 0:
        cfg.SEED = now["SEED"] = before.get("SEED", cfg.SEED)
    neutral = NEUTRAL_KEYS
    if getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "root_is_data", False):
        neutral = neutral - {"DATASET.ROOT"}
        for flat in (before, now):
            flat["DATASET.ROOT"] = os.path.realpath(flat.get("DATASET.ROOT", ""))
    declared = _flatten(get_cfg_default())  # what a key that is newer than the run was then
    differing = [key for key in sorted({*before, *now} - neutral) if before.get(key, declared.get(key)) != now.get(key)]
    if "DATASET.ROOT" in differing and not {*differing} - {"DATASET.ROOT", WEIGHTS}:
        if not holds_images_of(directory, cfg.DATASET.ROOT):
            raise ConfigError(
                f"output directory {directory} holds a run on the images of {before['DATASET.ROOT']}, and those of"
                f" {now['DATASET.ROOT']} are not the same, or not all; choose another --output-dir"
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


def holds_images_of(directory, root):
    """Whether the data set of the run in `directory`, with `root` as its DATASET.ROOT, has the images and labels of that run."""
    path = os.path.join(directory, CONFIG_FILE)
    trained_on = split_sha256_of(directory)
    if not trained_on or not os.path.isfile(path):
        return False
    cfg = get_cfg_default()
    merge_mapping(cfg, read_yaml(path), path)
    cfg.DATASET.ROOT, cfg.DATASET.DOWNLOAD, cfg.VERBOSE = root, False, False
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the run itself will say what there is to say
            return split_sha256(build_dataset(cfg)) == trained_on
    except UserError:
        return False


def split_sha256_of(directory):
    """`split_sha256` of the run in `directory`, finished or not; None = not known."""
    if os.path.isfile(os.path.join(directory, RESULTS_FILE)):
        return read_results(directory).get("split_sha256")
    state = read_resume_file(directory)
    return state and state["split_sha256"]


def weights_sha256_of(directory):
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


def write_config(cfg):
    """Have the main process write the resolved configuration to `OUTPUT_DIR/config.yaml`, such that it can be used for another
    run: without where this one was resumed from."""
    if not is_main():
        return
    cfg = _of_the_run(cfg)
    cfg.RESUME = ""
    with atomic_write(os.path.join(cfg.OUTPUT_DIR, CONFIG_FILE)) as file:
        file.write(to_yaml(cfg))


def command_line():
    """The command that this process runs, such that a shell takes it."""
    return shlex.join([os.path.basename(sys.executable), *sys.argv])


FULL, FEW_SHOT, BASE_TO_NEW, CROSS_DATASET = "full", "few-shot", "base-to-new", "cross-dataset"
EXTERNAL_TEST = "external-test"  # other images of the same classes, all of them


def protocol_of(cfg, trained_on=""):
    """The name under which the field knows what a run is evaluated on.

    Args:
        trained_on: name of the data set that the model was trained on, if another run did so.
    """
    if trained_on and trained_on != cfg.DATASET.NAME:
        return CROSS_DATASET
    if cfg.DATASET.TEST_CLASSES:
        return EXTERNAL_TEST
    if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
        return BASE_TO_NEW
    return FEW_SHOT if cfg.DATASET.NUM_SHOTS >= 1 else FULL


def write_results(trainer, eval_only=False, trained_on=""):
    """Write `OUTPUT_DIR/results.json`: all that a table of results needs to know of a run. Its presence marks the run finished.

    All processes of a run call it; the main one writes.

    Args:
        eval_only: a checkpoint was tested.
        trained_on: as for `protocol_of`.
    """
    skipped = {path for paths in gather_values(list(getattr(trainer.dm, "skipped_images", ()))) for path in paths}
    if not is_main():
        return None
    cfg, dm = trainer.cfg, trainer.dm  # a trainer that makes its own loaders may have no data manager
    trained, frozen = trainer.count_parameters()
    section = cfg.TRAINER.get(cfg.TRAINER.NAME.upper(), {})
    metrics = trainer.results.get(cfg.TEST.SPLIT, {})
    results = {
        "trainer": cfg.TRAINER.NAME,
        "method": section.get("METHOD", cfg.TRAINER.NAME.lower()),
        "dataset": cfg.DATASET.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "mapping": section.get("MAPPING"),
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        "epochs": trainer.max_epoch,
        "accuracy": metrics.get("accuracy"),
        "macro_f1": metrics.get("macro_f1"),
        "accuracy_train": trainer.results.get("train", {}).get("accuracy"),
        "protocol": protocol_of(cfg, trained_on),
        "evaluated_split": cfg.TEST.SPLIT,
        "evaluated_model": CHECKPOINT if eval_only else cfg.TEST.FINAL_MODEL,
        "metrics": {split: dict(values) for split, values in trainer.results.items()},
        "params_trainable": trained,
        "params_backbone": frozen,
        "seconds_train": trainer.seconds_train(),
        "peak_memory_bytes": peak_memory(trainer),
        "device": device_name(trainer.device),
        "processes": world_size(),
        "precision": trainer.precision,
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "num_train": (0 if getattr(dm.dataset, "test_only", False) else len(dm.dataset.train_x)) if dm else None,
        "num_test": len(dm.dataset.test) if dm else None,
        "skipped_images": len(skipped),
        "classnames": [name for _, name in sorted((trainer.lab2cname or {}).items())],
        "split_sha256": dm.split_sha256 if dm else None,
        "weights_sha256": trainer.weights_sha256,
        "history": trainer.history,
        "versions": library_versions(),
        "command": command_line(),
    }
    write_json(results, os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE))
    return results


# What readers of results.json rely on: entries that it must have, and entries that it may have
NEEDED = {
    **dict.fromkeys(("trainer", "method", "dataset", "backbone"), kinds.NAME),
    "mapping": kinds.optional(kinds.NAME),
    "seed": kinds.whole(-(2**64), 2**64),
    "shots": kinds.INTEGER,
    "accuracy": kinds.optional(kinds.PERCENT),
    **dict.fromkeys(("epochs", "params_trainable", "params_backbone"), kinds.COUNT),
}
LOSSES = dict.fromkeys(("loss", "acc"), kinds.optional(kinds.NUMBER))
OTHERS = {
    **dict.fromkeys(("macro_f1", "accuracy_train"), kinds.optional(kinds.PERCENT)),
    **dict.fromkeys(("peak_memory_bytes", "num_train", "num_test", "skipped_images"), kinds.optional(kinds.COUNT)),
    **dict.fromkeys(("protocol", "evaluated_split", "evaluated_model", "precision", "subsample_classes"), kinds.NAME),
    **dict.fromkeys(("split_sha256", "weights_sha256"), kinds.optional(kinds.NAME)),
    "seconds_train": kinds.optional(kinds.AMOUNT),
    "classnames": kinds.list_of(kinds.NAME),
    "history": kinds.list_of(kinds.record({}, LOSSES, rest=kinds.optional(kinds.ANY_NUMBER))),
    "versions": kinds.dict_of(kinds.optional(kinds.NAME)),
}
RESULTS = kinds.record(NEEDED, OTHERS)


def read_results(directory):
    """The content of a finished run's `results.json`, of the kind RESULTS. Raises `DataError` naming the file and the entry."""
    path = os.path.join(directory, RESULTS_FILE)
    try:
        content = read_json(path)
        problem = RESULTS(content)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except ValueError as error:
        problem = f"not valid JSON ({error})"
    if problem:
        remedy = f"restore it, or remove it and start the run again with --resume {directory}"
        raise DataError(f"{path}: not the results of a run: {problem}; {remedy}")
    return content
