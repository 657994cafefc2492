"""One run, from its configuration to its results."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence

import torch
from yacs.config import CfgNode

from ..config import changed, to_yaml
from ..engine import SimpleTrainer, build_trainer
from ..engine.build import check_side
from ..engine.results import read_results, write_results
from ..engine.run_directory import CONFIG_FILE, FINISHED, LOG_FILE, NEW, check_unused, claim_run_directory, hold, write_config
from ..report.end_figures import show_in_tensorboard
from ..utils import distributed
from ..utils.environment import collect_env_info
from ..utils.errors import DISK_ERRORS, ConfigError, DataError, DiskError, LostProcessError, UserError
from ..utils.logger import Logger
from ..utils.places import check_in_place
from ..utils.seeding import set_random_seed
from ..utils.signals import ended_by_signals, ignore_ends_of_children, noticing_signals
from .next_commands import print_next_commands, saying_how_to_continue
from .settings import settle


def run(
    cfg: CfgNode,
    *,
    train: bool = True,
    watch: Callable | None = None,
    heading: str = "",
    place: Callable[[CfgNode], str | os.PathLike] | None = None,
) -> dict | None:
    """Train, test and leave a run in `cfg.OUTPUT_DIR`; nothing is written there before data and model are built.

    A run that is finished is left alone; one that was interrupted continues if `cfg.RESUME` names its directory. Under torchrun
    each process calls this. `cfg` stays as it is.

        from dassl_vr import build_cfg, evaluate, run

        files = ["configs/datasets/digits.yaml", "configs/trainers/SMM/tiny_vit.yaml"]
        settings = {"TRAINER.NAME": "SMM", "SEED": 1, "OUTPUT_DIR": "output/mine", "OPTIM.MAX_EPOCH": 2}
        results = run(build_cfg(files, settings))  # results["accuracy"] in percent
        metrics = evaluate(build_cfg(trained="output/mine"), "output/mine")

    Args:
        cfg: see `build_cfg`.
        train: False = build everything, train nothing.
        watch: called with the trainer at the end of each epoch.
        heading: text for the head of the log.
        place: gives the directory of the run in place of `cfg.OUTPUT_DIR`, from the whole configuration, with the seed drawn
            unless a run is resumed.

    Returns:
        What `results.json` holds; None if nothing was trained, and in all processes but the main one.

    Raises:
        UserError: in one line, what is wrong and what to do; a `ConfigError`, `DataError`, `WeightsError`, ...
        RunInterrupted: SIGTERM or SIGUSR1 came, and the run was saved.
        Interrupted: Ctrl-C, a `KeyboardInterrupt` that says how to continue.
    """
    cfg = _copy(cfg)
    with distributed.process_group(cfg.DEVICE, cfg.USE_CUDA):
        settle(cfg)
        if cfg.DATASET.TEST_CLASSES:
            raise ConfigError("DATASET.TEST_CLASSES makes all images test images, for --eval-only; leave it out to train")
        if place is not None:
            if not cfg.RESUME:  # else the seed is that of the run that is continued
                _draw_seed(cfg)
            cfg.OUTPUT_DIR = str(place(cfg))
            if distributed.is_main():
                print(f"The run's files go to {cfg.OUTPUT_DIR}")
        state = claim(cfg)
        if state == FINISHED:
            results = read_results(cfg.OUTPUT_DIR)
            outcome = "untested" if results["accuracy"] is None else f"with {results['accuracy']:.1f}% accuracy"
            print(f"{cfg.OUTPUT_DIR}: finished already, {outcome}; nothing to do")
            print_next_commands(cfg)
            return results
        if state == NEW:
            check_side(cfg)
        with Logger() as log:
            with saying_how_to_continue(cfg, log), ended_by_signals():
                trainer = build(cfg, heading)
            trainer.watch = watch
            return _train(trainer, state, log) if train else None


def _copy(cfg):
    cfg = cfg.clone()
    cfg.defrost()
    return cfg


def _train(trainer, state, log):
    """Train in the directory of the run, held against other processes."""
    cfg = trainer.cfg
    with hold(cfg.OUTPUT_DIR) if distributed.is_main() else contextlib.nullcontext():
        if claim(cfg.clone()) != state:
            raise ConfigError(f"output directory {cfg.OUTPUT_DIR} was used by another process meanwhile; start again")
        try:
            with saying_how_to_continue(cfg, log, trainer), noticing_signals(), telling_of_files_and_workers(cfg.OUTPUT_DIR):
                begin(cfg, log, trainer.get_model_names(), state)
                trainer.train()
                results = write_results(trainer)
                if cfg.TRAIN.END_FIGURES and distributed.is_main():
                    show_in_tensorboard(trainer)
                trainer.close_writer()
        except UserError as error:
            with contextlib.suppress(OSError):  # the log may be what cannot be written
                log.note(f"error: {error}")
            raise
        print(f"The run is in {cfg.OUTPUT_DIR}")
        if results is not None:
            print_next_commands(cfg)
        return results


def begin(cfg: CfgNode, log: Logger, models: Sequence[str] = (), state: str = NEW) -> None:
    """Have the main process leave the configuration in the output directory and open the log there.

    Args:
        models: names of the registered models, each of which gets a directory.

    Raises:
        ConfigError: one of these is there already, and not of this run.
    """
    out = cfg.OUTPUT_DIR
    if not distributed.is_main():
        return
    ours = os.path.isfile(os.path.join(out, CONFIG_FILE))
    if state == NEW and not ours:
        check_unused(out, models)
    write_config(cfg)
    # An interrupted run continues in its log; of a log that nothing else of ours is beside, nobody knows whose it is
    log.open(os.path.join(out, LOG_FILE), "w" if state == NEW and ours else "a")


def claim(cfg: CfgNode) -> str:
    """`claim_run_directory` by the main process, for all of them."""
    state = claim_run_directory(cfg) if distributed.is_main() else None
    state, seed = distributed.from_main([state, cfg.SEED])
    if seed != cfg.SEED:
        cfg.SEED = seed
    return state


@contextlib.contextmanager
def telling_of_files_and_workers(directory: str) -> Iterator[None]:
    """Say what a disk that takes no more, or a worker that is gone, means for the run in `directory`.

    Raises:
        DiskError, DataError, LostProcessError: in place of an `OSError` of that kind, and of what torch raises for a dead worker.
    """
    good = f"what was saved before is intact: add --resume {directory} to continue"
    try:
        yield
    except OSError as error:
        check_in_place(directory)
        if error.errno not in DISK_ERRORS:
            raise
        raise DiskError(f"{error.strerror}: {error.filename or directory}; free some space or make it writable; {good}") from error
    except RuntimeError as error:
        if distributed.is_parallel() and ("gloo" in str(error) or isinstance(error, torch.distributed.DistError)):
            raise LostProcessError(f"another process of this run has ended or cannot be reached; {good}") from error
        if "DataLoader worker" not in str(error):
            raise
        ignore_ends_of_children()
        raise DataError(
            f"a worker that reads images has died, perhaps for lack of memory; {good}, with a lower DATALOADER.NUM_WORKERS if it"
            " happens again"
        ) from error


def _draw_seed(cfg):
    if cfg.SEED < 0:
        cfg.SEED = distributed.from_main(secrets.randbelow(2**31))
        if distributed.is_main():
            print(f"Drew the seed {cfg.SEED}")


def build(cfg: CfgNode, heading: str = "") -> SimpleTrainer:
    """The trainer, with every random generator seeded before it is built."""
    _draw_seed(cfg)
    cfg.freeze()
    set_random_seed(cfg.SEED)
    if cfg.VERBOSE:
        if heading:
            print(heading)
        print(f"Configuration:\n{to_yaml(cfg)}")
        print(f"Environment:\n{collect_env_info()}\n")
        return build_trainer(cfg)
    print("Settings other than the defaults (VERBOSE True prints all):")
    for key, value in changed(cfg).items():
        print(f"  {key} {value}")
    trainer = build_trainer(cfg)
    if trainer.dm is not None:
        data = trainer.dm.dataset
        counts = (("training", data.train_x), ("unlabelled", data.train_u), ("validation", data.val), ("test", data.test))
        images = ", ".join(f"{len(items):,} {name}" for name, items in counts if items)
        print(f"# images: {images}, of {trainer.num_classes:,} classes")
    return trainer
