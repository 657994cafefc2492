"""results.json: the record of a finished run, and its only reader."""

import os
import time
from typing import TYPE_CHECKING

from yacs.config import CfgNode

from ..data import name_of_data
from ..names import BASE_TO_NEW, CROSS_DATASET, EXTERNAL_TEST, FEW_SHOT, FULL
from ..utils import kinds
from ..utils.arguments import command_line
from ..utils.cores import cpu_cores
from ..utils.distributed import gather_values, is_main, world_size
from ..utils.environment import device_name, library_versions, source_commit
from ..utils.files import read_checked_json, write_json
from .evaluation_pass import evidence
from .flops import flops_of

if TYPE_CHECKING:
    from .trainer import SimpleTrainer

RESULTS_FILE = "results.json"
CHECKPOINT = "checkpoint"  # `evaluated_model` of an evaluation


def protocol_of(cfg: CfgNode, trained_on: str = "") -> str:
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


def write_results(trainer: "SimpleTrainer", eval_only: bool = False, trained_on: str = "") -> dict | None:
    """Write `OUTPUT_DIR/results.json`: all that a table of results needs to know of a run. Its presence marks the run finished.

    All processes of a run call it; the main one writes, and gets what it wrote.

    Args:
        eval_only: a checkpoint was tested.
        trained_on: as for `protocol_of`.
    """
    found = evidence(trainer)
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
        "dataset": name_of_data(cfg),
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "mapping": section.get("MAPPING"),
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        "epochs": trainer.max_epoch,
        "accuracy": metrics.get("accuracy"),
        "macro_f1": metrics.get("macro_f1"),
        **found,
        "accuracy_train": trainer.results.get("train", {}).get("accuracy"),
        "protocol": protocol_of(cfg, trained_on),
        "evaluated_split": cfg.TEST.SPLIT,
        "evaluated_model": CHECKPOINT if eval_only else cfg.TEST.FINAL_MODEL,
        "metrics": {split: dict(values) for split, values in trainer.results.items()},
        "params_trainable": trained,
        "params_backbone": frozen,
        "seconds_train": trainer.seconds_train(),
        "peak_memory_bytes": trainer.peak_memory(),
        "device": device_name(trainer.device),
        "cores": cpu_cores(),
        "processes": world_size(),
        "precision": trainer.precision,
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "num_train": (0 if getattr(dm.dataset, "test_only", False) else len(dm.dataset.train_x)) if dm else None,
        "num_test": len(dm.dataset.test) if dm else None,
        "skipped_images": len(skipped),
        "flops": None,
        **trainer.own_results(),
        "classnames": [name for _, name in sorted((trainer.lab2cname or {}).items())],
        "split_sha256": dm.split_sha256 if dm else None,
        "weights_sha256": trainer.weights_sha256,
        "history": trainer.history,
        "versions": library_versions(),
        "commit": source_commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": command_line(),
    }
    path = os.path.join(cfg.OUTPUT_DIR, RESULTS_FILE)
    write_json(results, path)  # whatever becomes of the next line, which takes memory
    results["flops"] = flops_of(trainer)
    write_json(results, path)
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
    **dict.fromkeys(("macro_f1", "accuracy_train", "ece"), kinds.optional(kinds.PERCENT)),
    **dict.fromkeys(("peak_memory_bytes", "num_train", "num_test", "skipped_images", "cores"), kinds.optional(kinds.COUNT)),
    **dict.fromkeys(("flops", "test_batch_size", "templates"), kinds.optional(kinds.COUNT)),
    **dict.fromkeys(("nll", "images_per_second"), kinds.optional(kinds.AMOUNT)),
    "mapping_size": kinds.optional(kinds.list_of(kinds.COUNT, 2)),
    "predictions": kinds.optional(kinds.NAME),
    **dict.fromkeys(("protocol", "evaluated_split", "evaluated_model", "precision", "subsample_classes"), kinds.NAME),
    **dict.fromkeys(("device", "date", "command"), kinds.NAME),
    **dict.fromkeys(("split_sha256", "weights_sha256", "commit"), kinds.optional(kinds.NAME)),
    "seconds_train": kinds.optional(kinds.AMOUNT),
    "classnames": kinds.list_of(kinds.NAME),
    "history": kinds.list_of(kinds.record({}, LOSSES, rest=kinds.optional(kinds.ANY_NUMBER))),
    "versions": kinds.dict_of(kinds.optional(kinds.NAME)),
}
RESULTS = kinds.record(NEEDED, OTHERS)


def read_results(directory: str) -> dict:
    """The content of a finished run's `results.json`, of the kind RESULTS. Raises `DataError` naming the file and the entry."""
    path = os.path.join(directory, RESULTS_FILE)
    remedy = f"restore it, or remove it and start the run again with --resume {directory}"
    return read_checked_json(path, remedy, RESULTS, f"{path}: not the results of a run")
