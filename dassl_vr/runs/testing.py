"""Testing what a run has trained."""

import contextlib
import io
import os

from yacs.config import CfgNode

from ..backbones.weights import require_same_weights
from ..config import get_cfg_default, merge_mapping, read_yaml
from ..config.validate import lookup
from ..data import DATASET_REGISTRY, build_dataset, root_is_data
from ..data.datasets.names import differing_classes
from ..engine.results import RESULTS_FILE, read_results, write_results
from ..engine.run_directory import CONFIG_FILE, WEIGHTS, check_place, check_unused, hold_unused, holds_images_of, weights_sha256_of
from ..engine.trainer import BEST_MODEL, SimpleTrainer
from ..utils import distributed
from ..utils.checkpoint import newest_checkpoint
from ..utils.errors import ConfigError, DataError, WeightsError
from ..utils.logger import Logger
from .settings import settle
from .training import begin, build


def evaluate(
    cfg: CfgNode, directory: str | os.PathLike, *, epoch: int | None = None, output_dir: str = "", heading: str = ""
) -> dict:
    """Test what the run in `directory` has trained, on the split `cfg.TEST.SPLIT`. `cfg` stays as it is.

    Args:
        cfg: as a rule `build_cfg(trained=directory)`, with what is to be different.
        directory: output directory of the run; "" for a method that learns nothing.
        epoch: of the checkpoint (default: the best by validation, else the newest).
        output_dir: leave a log and `results.json` in this new directory.
        heading: text for the head of the log.

    Returns:
        The metrics, `accuracy` and `macro_f1` in percent among them.

    Raises:
        UserError: in one line, what is wrong and what to do.
    """
    cfg, directory = cfg.clone(), os.fspath(directory)
    cfg.defrost()
    with distributed.process_group(cfg.DEVICE, cfg.USE_CUDA):
        if directory and not os.path.isdir(directory):
            raise ConfigError(f"--model-dir {directory}: no such directory; expected the output directory of a run")
        if output_dir and distributed.is_main():
            check_place(output_dir)
            check_unused(output_dir)
        if output_dir or directory:
            cfg.OUTPUT_DIR = output_dir or directory  # for a confusion matrix, if one is asked for
        settle(cfg)
        trained_on = _check_trainer(cfg, directory)
        with Logger() as log:
            trainer = build(cfg, heading)
            check_classes(trainer, directory)
            check_weights(trainer, directory)
            load(trainer, directory, epoch)
            if not output_dir:
                trainer.test()
                return dict(trainer.results[cfg.TEST.SPLIT])
            with hold_unused(cfg.OUTPUT_DIR) if distributed.is_main() else contextlib.nullcontext():
                trainer.test()
                begin(cfg, log)
                write_results(trainer, eval_only=True, trained_on=trained_on)
                return dict(trainer.results[cfg.TEST.SPLIT])


def _check_trainer(cfg, directory):
    """The data set that the run in `directory` was trained on, "" if not known; raises `ConfigError` for another trainer."""
    path = os.path.join(directory, CONFIG_FILE)
    if not directory or not os.path.isfile(path):
        return ""
    trained = read_yaml(path)
    name = trained.get("TRAINER", {}).get("NAME", cfg.TRAINER.NAME)
    if name != cfg.TRAINER.NAME:
        raise ConfigError(f"{directory} was trained with {name}, not with {cfg.TRAINER.NAME}; leave --trainer out")
    test_whole_if_other_images(cfg, directory, trained)
    return trained.get("DATASET", {}).get("NAME", "")


def test_whole_if_other_images(cfg: CfgNode, directory: str, trained: dict) -> None:
    """Have a folder of images that are not those of the run in `directory` tested whole, under the labels of that run.

    Args:
        trained: content of the run's configuration file.
    """
    if cfg.DATASET.TEST_CLASSES or not root_is_data(cfg.DATASET.NAME):
        return
    theirs = trained.get("DATASET", {})
    if DATASET_REGISTRY.canonical_name(cfg.DATASET.NAME) == theirs.get("NAME"):
        if os.path.realpath(theirs.get("ROOT", "")) == os.path.realpath(cfg.DATASET.ROOT):
            return
        if holds_images_of(directory, cfg.DATASET.ROOT):
            return  # they have moved
    cfg.DATASET.TEST_CLASSES = tuple(classes_of_run(directory))


def classes_of_run(directory: str) -> list[str]:
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
            f"--model-dir {directory} is not finished, and its own images are needed for the names of its classes: {error}"
        ) from error


def check_classes(trainer: SimpleTrainer, directory: str) -> None:
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


def check_weights(trainer: SimpleTrainer, directory: str) -> None:
    """Raises `WeightsError` if the run in `directory` was trained on other weights of the same backbone than are found
    now. One that is to be tested on another backbone, or at another size, is accepted as it is."""
    path = os.path.join(directory, CONFIG_FILE)
    if not directory or not os.path.isfile(path):
        return
    trained = get_cfg_default()
    merge_mapping(trained, read_yaml(path), path)
    if all(lookup(trained, key) == lookup(trainer.cfg, key) for key in ("MODEL.BACKBONE.NAME", "INPUT.SIZE")):
        require_same_weights(weights_sha256_of(directory), trainer.weights_sha256, f"--model-dir {directory}", WEIGHTS)


def load(trainer: SimpleTrainer, directory: str, epoch: int | None) -> None:
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
