"""What to type next: after a run that ended, and after one that was interrupted."""

import contextlib
import importlib.util
import itertools
import os
import shlex
from collections.abc import Iterator

from yacs.config import CfgNode

from ..engine import TRAINER_REGISTRY, SimpleTrainer
from ..engine.events import EVENTS
from ..engine.run_directory import CONFIG_FILE, can_continue, is_elsewhere
from ..methods import PromptLearning
from ..plugins import loaded_files
from ..utils import distributed
from ..utils.arguments import CHECKOUT, beside_python, interpreter, program, same_command, stands_for_another
from ..utils.errors import Interrupted, RunInterrupted
from ..utils.logger import Logger

LOOK = "look"  # where the pictures of visualize.py are to go


def print_next_commands(cfg: CfgNode) -> None:
    """Print the commands that use the finished run in `cfg.OUTPUT_DIR`, as far as its trainer has a use for them."""
    run, plugins = shlex.quote(cfg.OUTPUT_DIR), "".join(f" {word}" for word in _plugin_words())
    commands = {}
    if issubclass(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), PromptLearning):
        commands["predict"] = f"{program('predict')} {run} IMAGES{plugins}"
        if importlib.util.find_spec("matplotlib"):
            commands["visualize"] = f"{program('visualize')} {run} --out {_new_directory(LOOK)}{plugins}"
    if os.path.isdir(os.path.join(cfg.OUTPUT_DIR, EVENTS)):
        tensorboard = beside_python("tensorboard") or f"{interpreter()} -m tensorboard.main"
        commands["curves"] = f"{tensorboard} --logdir {run}"
    for what, command in commands.items():
        print(f"  {what:<9}  {command}")


def _plugin_words():
    return [word for path in loaded_files() for word in ("--plugin", shlex.quote(path))]


def _new_directory(name):
    numbered = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
    return next(path for path in numbered if not os.path.lexists(path))


@contextlib.contextmanager
def saying_how_to_continue(cfg: CfgNode, log: Logger, trainer: SimpleTrainer | None = None) -> Iterator[None]:
    """Add to what interrupts the run of `cfg` in the block how it is continued, also in the log.

    Args:
        trainer: of a run that has begun.

    Raises:
        RunInterrupted: a signal asked it to end.
        Interrupted: Ctrl-C.
    """
    try:
        yield
    except (RunInterrupted, KeyboardInterrupt) as error:
        place = f"in epoch {trainer.epoch + 1} of {trainer.max_epoch}" if trainer else "before training began"
        said = f"{str(error) or f'interrupted {place}'}; {how_to_continue(cfg)}"
        with contextlib.suppress(OSError):  # the log may be what cannot be written
            log.note(said)
        raise (RunInterrupted if isinstance(error, RunInterrupted) else Interrupted)(said) from error


def how_to_continue(cfg: CfgNode) -> str:
    """What to type after the run of `cfg` was interrupted, and what that does."""
    out = cfg.OUTPUT_DIR
    if stands_for_another():
        return f"to continue: {same_command()}"
    if is_elsewhere(cfg) and not can_continue(out):
        return f"nothing was saved since it was resumed from {cfg.RESUME}; start the same command again with another --output-dir"
    if not os.path.isfile(os.path.join(out, CONFIG_FILE)):
        return "nothing was saved yet; start the same command again"
    if distributed.local_world_size() != distributed.world_size():
        return f"to continue: the same command on each machine, with --resume {shlex.quote(out)}"
    words = ["--config-file", os.path.join(out, CONFIG_FILE), "--output-dir", out, "--resume", out]
    return f"to continue: {' '.join([_trainer(), *_plugin_words(), *map(shlex.quote, words)])}"


def _trainer():
    """What starts train.py in as many processes as this run has."""
    if not distributed.is_parallel():
        return program("train")
    torchrun = beside_python("torchrun") or f"{interpreter()} -m torch.distributed.run"
    file = CHECKOUT / "train.py"
    what = shlex.quote(os.path.relpath(file)) if file.is_file() else "-m dassl_vr.cli.train"
    return f"{torchrun} --nproc_per_node {distributed.world_size()} {what}"
