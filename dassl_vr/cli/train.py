"""`python train.py`: train a trainer on a data set, or evaluate a finished run."""

import argparse
import contextlib
import io
import os
import secrets
import signal
import threading

import torch
from tabulate import tabulate

from ..backbones.weights import require_same_weights
from ..config import get_cfg_default, merge_list, merge_mapping, read_yaml, to_yaml, validate_cfg
from ..config.validate import lookup
from ..data import DATASET_REGISTRY, build_dataset
from ..data.datasets.names import differing_classes
from ..engine import build_trainer, resolve_cfg
from ..engine.build import check_side
from ..engine.run_directory import (
    CONFIG_FILE,
    FINISHED,
    LOG_FILE,
    NEW,
    RESULTS_FILE,
    WEIGHTS,
    check_place,
    check_unused,
    claim_run_directory,
    hold,
    hold_unused,
    holds_images_of,
    read_results,
    weights_sha256_of,
    write_config,
    write_results,
)
from ..engine.trainer import BEST_MODEL
from ..plugins import load_plugins
from ..report.end_figures import show_in_tensorboard
from ..utils import distributed
from ..utils.checkpoint import newest_checkpoint
from ..utils.environment import collect_env_info
from ..utils.errors import ConfigError, DataError, DiskError, LostProcessError, RunInterrupted, UserError, WeightsError
from ..utils.logger import Logger
from ..utils.places import check_in_place
from ..utils.seeding import set_random_seed
from ..utils.signals import ended_by_signals, noticing_signals
from .errors import DISK_ERRORS, EXIT_PREEMPTED, OneLineParser, one_line_errors

EPILOG = f"""examples:
  python train.py --trainer SMM --dataset-config-file configs/datasets/digits.yaml \\
      --config-file configs/trainers/SMM/lite0.yaml --output-dir output/try --seed 1
  python train.py ... --resume output/try                          # go on with an interrupted run
  python train.py --eval-only --model-dir output/try               # test a finished run
  python train.py ... TRAINER.SMM.PATCH_SIZE 16 OPTIM.MAX_EPOCH 20 # any key of the configuration
  torchrun --nproc_per_node 4 train.py ...                         # the same run on four GPUs, or four processes without any

exit codes: 0 done, 2 an error that is told in one line, 130 Ctrl-C, {EXIT_PREEMPTED} asked to end by SIGTERM or SIGUSR1: the run is
  saved after the batch in progress, and --resume goes on from there with the same results
"""

# Flags that set one key each, as in the Dassl family: flag -> key
FLAG_KEYS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}


def build_parser():
    """The family's flags; every one left out leaves the YAML files' values alone."""
    parser = OneLineParser(prog="train.py", description=__doc__, epilog=EPILOG)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--root", help="directory that holds the data sets")
    parser.add_argument("--output-dir", help="directory for the run's files")
    parser.add_argument("--resume", metavar="DIR", help="output directory of an interrupted run to go on with")
    parser.add_argument("--seed", type=int, help="0 or more; negative draws one")
    parser.add_argument("--source-domains", nargs="+", help="source domains, for domain generalization and adaptation")
    parser.add_argument("--target-domains", nargs="+", help="target domains, for domain generalization and adaptation")
    parser.add_argument("--transforms", nargs="+", help="transforms by name")
    parser.add_argument("--config-file", metavar="YAML", help="the trainer's recipe")
    parser.add_argument("--dataset-config-file", metavar="YAML", help="the data set")
    parser.add_argument("--trainer", help="name of the trainer")
    parser.add_argument("--backbone", help="name of the backbone")
    parser.add_argument("--head", help="name of the head")
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PATH",
        help="Python file (or folder) with more trainers or data sets; may be repeated",
    )
    parser.add_argument("--eval-only", action="store_true", help="test a checkpoint, train nothing")
    parser.add_argument("--model-dir", default="", metavar="DIR", help="output directory of the run to test")
    parser.add_argument(
        "--load-epoch",
        type=int,
        metavar="N",
        help="test the checkpoint of this epoch (default: best by validation, else newest)",
    )
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys of the configuration")
    return parser


def setup_cfg(args):
    """The configuration of a command line: defaults < facts of the data set < data-set YAML < trainer YAML < flags < KEY VALUE.

    To test a run (`--eval-only`), what the run was trained with lies between the facts and the files; on another data set than
    its own, the facts of that one come after it.
    """
    trained = {}
    path = os.path.join(args.model_dir, CONFIG_FILE)
    if args.eval_only and args.model_dir and os.path.isfile(path):
        trained = read_yaml(path)

    def merge_all(cfg, facts=None):
        merge_mapping(cfg, trained, path)
        merge_mapping(cfg, {"DATASET": facts or {}}, "facts of another data set")
        for file in filter(None, (args.dataset_config_file, args.config_file)):
            file = find_config(file)
            merge_mapping(cfg, read_yaml(file), file)
        for flag, key in FLAG_KEYS.items():
            value = getattr(args, flag)
            if value is not None:
                merge_list(cfg, [key, value], f"--{flag.replace('_', '-')}")
        merge_list(cfg, args.opts)
        return cfg

    cfg = get_cfg_default()
    name, name_trained = merge_all(cfg.clone()).DATASET.NAME, trained.get("DATASET", {}).get("NAME", "")
    if name_trained and name in DATASET_REGISTRY and DATASET_REGISTRY.canonical_name(name) != name_trained:
        # What the run knew of its data set is not true of this one
        return merge_all(cfg, {key: cfg.DATASET[key] for key in facts_of(name_trained)} | facts_of(name))
    merge_mapping(cfg, {"DATASET": facts_of(name)}, f"facts of {name}")
    return merge_all(cfg)


def facts_of(name):
    """What the data set of that name states of itself, {key of `cfg.DATASET`: value}."""
    return getattr(DATASET_REGISTRY.get(name), "facts", {}) if name in DATASET_REGISTRY else {}


def find_config(path):
    """`path` itself, or the recipe of that name that ships with the package (`configs/trainers/SMM/rn50.yaml`)."""
    if os.path.exists(path):
        return path
    from .. import configs

    shipped = os.path.join(os.path.dirname(configs.__file__), path.removeprefix("configs/"))
    return shipped if os.path.exists(shipped) else path


def show_settings(args, cfg):
    """Print what was asked for and what came of it."""
    print(tabulate([[key, value] for key, value in sorted(vars(args).items())], ["argument", "value"]))
    print(f"Configuration:\n{to_yaml(cfg)}")
    print(f"Environment:\n{collect_env_info()}\n")


@one_line_errors
def main(argv=None):
    args = build_parser().parse_args(argv)
    load_plugins(args.plugin)
    cfg = setup_cfg(args)
    with distributed.process_group(cfg.USE_CUDA):
        return evaluate(args, cfg) if args.eval_only else train(args, cfg)


def train(args, cfg, watch=None):
    """Train, test and leave a run in `cfg.OUTPUT_DIR`. Nothing is written there before data and model are at hand.

    Args:
        watch: called with the trainer at the end of each epoch.
    """
    settle(cfg)
    if cfg.DATASET.TEST_CLASSES:
        raise ConfigError("DATASET.TEST_CLASSES makes all images test images, for --eval-only; leave it out to train")
    state = claim(cfg)
    if state == FINISHED:
        accuracy = read_results(cfg.OUTPUT_DIR)["accuracy"]
        outcome = "untested" if accuracy is None else f"with {accuracy:.1f}% accuracy"
        print(f"{cfg.OUTPUT_DIR}: finished already, {outcome}; nothing to do")
        return
    if state == NEW:
        check_side(cfg)
    with Logger() as log:
        with ended_by_signals(cfg.OUTPUT_DIR):
            trainer = build(args, cfg)
        trainer.watch = watch
        if args.no_train:
            return
        with hold(cfg.OUTPUT_DIR) if distributed.is_main() else contextlib.nullcontext():
            if claim(cfg.clone()) != state:
                raise ConfigError(f"output directory {cfg.OUTPUT_DIR} was used by another process meanwhile; start again")
            try:
                with noticing_signals(), clear_about_files_and_workers(cfg.OUTPUT_DIR):
                    begin(cfg, log, trainer.get_model_names(), state)
                    trainer.train()
                    write_results(trainer)
                    if cfg.TRAIN.END_FIGURES and distributed.is_main():
                        show_in_tensorboard(trainer)
                    trainer.close_writer()
            except (UserError, RunInterrupted, KeyboardInterrupt) as error:
                with contextlib.suppress(OSError):  # the log may be what cannot be written
                    log.note(f"error: {error}" if str(error) else f"interrupted; go on with --resume {cfg.OUTPUT_DIR}")
                raise


def begin(cfg, log, models=(), state=NEW):
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
    # An interrupted run goes on in its log; of a log that nothing else of ours is beside, nobody knows whose it is
    log.open(os.path.join(out, LOG_FILE), "w" if state == NEW and ours else "a")


def claim(cfg):
    """`claim_run_directory` by the main process, for all of them."""
    state = claim_run_directory(cfg) if distributed.is_main() else None
    state, seed = distributed.from_main([state, cfg.SEED])
    if seed != cfg.SEED:
        cfg.SEED = seed
    return state


@contextlib.contextmanager
def clear_about_files_and_workers(directory):
    """Say what a disk that takes no more, or a worker that is gone, means for the run in `directory`.

    Raises:
        DiskError, DataError, LostProcessError: in place of an `OSError` of that kind, and of what torch raises for a dead worker.
    """
    good = f"what was saved before is good: add --resume {directory} to go on"
    try:
        yield
    except OSError as error:
        check_in_place(directory)
        if error.errno not in DISK_ERRORS:
            raise
        raise DiskError(f"{error.strerror}: {error.filename or directory}; make room or make it writable; {good}") from error
    except RuntimeError as error:
        if distributed.is_parallel() and ("gloo" in str(error) or isinstance(error, torch.distributed.DistError)):
            raise LostProcessError(f"another process of this run has ended or cannot be reached; {good}") from error
        if "DataLoader worker" not in str(error):
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise again, in the middle of anything
        raise DataError(
            f"a worker that reads images has died, perhaps for lack of memory; {good}, with a lower DATALOADER.NUM_WORKERS if it"
            " happens again"
        ) from error


def evaluate(args, cfg):
    """Test the checkpoint in `args.model_dir`; with `--output-dir`, leave a log and results there."""
    if args.model_dir and not os.path.isdir(args.model_dir):
        raise ConfigError(f"--model-dir {args.model_dir}: no such directory; expected the output directory of a run")
    if args.output_dir and distributed.is_main():
        check_place(cfg.OUTPUT_DIR)
        check_unused(cfg.OUTPUT_DIR)
    if args.model_dir and not args.output_dir:
        cfg.OUTPUT_DIR = args.model_dir  # for a confusion matrix, if one is asked for
    settle(cfg)
    trained, trained_on = os.path.join(args.model_dir, CONFIG_FILE), ""
    if args.model_dir and os.path.isfile(trained):
        trained = read_yaml(trained)
        trained_on = trained.get("DATASET", {}).get("NAME", "")
        trainer_name = trained.get("TRAINER", {}).get("NAME", cfg.TRAINER.NAME)
        if trainer_name != cfg.TRAINER.NAME:
            raise ConfigError(f"{args.model_dir} was trained with {trainer_name}, not with {cfg.TRAINER.NAME}; leave --trainer out")
        test_whole_if_other_images(cfg, args.model_dir, trained)
    with Logger() as log:
        trainer = build(args, cfg)
        check_classes(trainer, args.model_dir)
        check_weights(trainer, args.model_dir)
        load(trainer, args.model_dir, args.load_epoch)
        if not args.output_dir:
            trainer.test()
            return
        with hold_unused(cfg.OUTPUT_DIR) if distributed.is_main() else contextlib.nullcontext():
            trainer.test()
            begin(cfg, log)
            write_results(trainer, eval_only=True, trained_on=trained_on)


def test_whole_if_other_images(cfg, directory, trained):
    """Have a folder of images that are not those of the run in `directory` tested whole, under the labels of that run.

    Args:
        trained: content of the run's configuration file.
    """
    if cfg.DATASET.TEST_CLASSES or not getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "root_is_data", False):
        return
    theirs = trained.get("DATASET", {})
    if DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME) == theirs.get("NAME"):
        if os.path.realpath(theirs.get("ROOT", "")) == os.path.realpath(cfg.DATASET.ROOT):
            return
        if holds_images_of(directory, cfg.DATASET.ROOT):
            return  # they have moved
    cfg.DATASET.TEST_CLASSES = tuple(classes_of_run(directory))


def classes_of_run(directory):
    """Names, by label, of the classes that the run in `directory` is trained on: from its results, else from its data."""
    if os.path.isfile(os.path.join(directory, RESULTS_FILE)) and (names := read_results(directory).get("classnames")):
        return names
    cfg, path = get_cfg_default(), os.path.join(directory, CONFIG_FILE)
    merge_mapping(cfg, read_yaml(path), path)
    cfg.VERBOSE = False
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return build_dataset(cfg).classnames
    except DataError as error:
        raise ConfigError(
            f"--model-dir {directory} is not finished, and to test it on other images its own are needed for the classes: {error}"
        ) from error


def check_classes(trainer, directory):
    """Raises `ConfigError` if the run in `directory` was trained on other classes and its output side belongs to those."""
    takes_new_classes = getattr(trainer, "takes_new_classes", None)  # not of the family's trainers
    if takes_new_classes is None or not directory or not os.path.isfile(os.path.join(directory, RESULTS_FILE)):
        return
    trained, now = read_results(directory).get("classnames"), trainer.dm.dataset.classnames
    if trained and trained != now and not takes_new_classes(trainer.cfg):
        name = trainer.cfg.TRAINER.NAME
        raise ConfigError(
            f"--model-dir {directory}: {name} was trained on other classes than these ({differing_classes(now, trained)}), and its"
            " label mapping or head belongs to them; only an output side made from the classes' names (CLIP's text features) takes"
            " new ones"
        )


def check_weights(trainer, directory):
    """Raises `WeightsError` if the run in `directory` was trained on other weights of the same backbone than are found
    now. One that is to be tested on another backbone, or at another size, is taken by its word."""
    path = os.path.join(directory, CONFIG_FILE)
    if not directory or not os.path.isfile(path):
        return
    trained = get_cfg_default()
    merge_mapping(trained, read_yaml(path), path)
    if all(lookup(trained, key) == lookup(trainer.cfg, key) for key in ("MODEL.BACKBONE.NAME", "INPUT.SIZE")):
        require_same_weights(weights_sha256_of(directory), trainer.weights_sha256, f"--model-dir {directory}", WEIGHTS)


def load(trainer, directory, epoch):
    """`trainer.load_model`, which the family's trainers override, so that it finds what a run of ours left."""
    names = trainer.get_model_names()
    if not names:
        return  # a zero-shot method
    if not directory:
        raise ConfigError("--eval-only needs --model-dir, the output directory of a run")
    folder = os.path.join(directory, names[0])
    number = (newest_checkpoint(folder) or "").rpartition("-")[2]
    if epoch is None and number.isdecimal() and not os.path.isfile(os.path.join(folder, BEST_MODEL)):
        epoch = int(number)  # without an epoch, the family's own look for the best model only
    try:
        trainer.load_model(directory, epoch=epoch)
    except FileNotFoundError as error:
        raise WeightsError(f"--model-dir {directory}: {error}; choose another one with --load-epoch") from error
    except RuntimeError as error:  # torch's own, from a trainer that loads with `load_state_dict`
        if "loading state_dict" not in str(error):
            raise
        problem = " ".join(str(error).splitlines()[-1].split()).rstrip(".")
        raise WeightsError(
            f"--model-dir {directory} does not fit this model: {problem}; use the configuration it was trained with"
        ) from error


def settle(cfg):
    """Check the whole configuration and fill in what follows from it, before anything is built."""
    validate_cfg(cfg)
    resolve_cfg(cfg)


def build(args, cfg):
    """The trainer, with every random generator seeded before it is built."""
    if cfg.SEED < 0:
        cfg.SEED = distributed.from_main(secrets.randbelow(2**31))
        print(f"Drew the seed {cfg.SEED}")
    cfg.freeze()
    set_random_seed(cfg.SEED)
    if cfg.VERBOSE:
        show_settings(args, cfg)
    return build_trainer(cfg)
