"""What every run writes to TensorBoard about itself, so that runs can be distinguished and share charts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.utils.tensorboard.summary import hparams as hparams_summaries

from ..utils.errors import LostProcessError, RunInterrupted
from ..utils.text import one_line, printable, say
from .events import EventWriter

if TYPE_CHECKING:
    from .trainer import SimpleTrainer

# Chart -> regular expression of its tags: one line per run, so that rival methods share a chart
CHARTS = {
    "accuracy": {
        "test accuracy in %": ["Multiline", ["test/accuracy"]],
        "validation accuracy in %": ["Multiline", ["val/accuracy"]],
        "training accuracy in % (of the batches)": ["Multiline", ["train/acc"]],
        "macro-F1 in %": ["Multiline", ["test/macro_f1"]],
    },
    "training": {
        "loss": ["Multiline", ["train/loss"]],
        "learning rates": ["Multiline", ["train/lr/.+"]],
        "images per second": ["Multiline", ["train/images_per_second"]],
    },
}


def attempt(what: str, draw: Callable[..., object], *arguments: object) -> bool:
    """Call `draw(*arguments)`, which decorates a run: if it fails, a line says so and the run continues.

    Returns:
        Whether it was done.
    """
    try:
        draw(*arguments)
    except (RunInterrupted, LostProcessError):
        raise
    except Exception as error:  # of matplotlib, of scikit-learn, of TensorBoard, of a lack of memory ...
        say(one_line(f"warning: {what} could not be drawn ({type(error).__name__}: {error}); results are not affected"))
        return False
    return True


def write_layout(writer: EventWriter | None) -> None:
    """Group the scalars of all runs into charts (TensorBoard's page "custom scalars")."""
    if writer is not None:  # the main process has one
        attempt("TensorBoard's custom scalars", writer.add_custom_scalars, CHARTS)


def write_hparams(trainer: "SimpleTrainer") -> None:
    """The run's line in TensorBoard's table of hyperparameters: what it was, and how good it became."""
    cfg = trainer.cfg
    section = cfg.TRAINER.get(cfg.TRAINER.NAME.upper(), {})
    hparams = {
        "trainer": cfg.TRAINER.NAME,
        "method": section.get("METHOD", cfg.TRAINER.NAME.lower()),
        "mapping": section.get("MAPPING", ""),
        "dataset": cfg.DATASET.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        "lr": cfg.OPTIM.LR,
        "epochs": trainer.max_epoch,
        "batch_size": cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
    }
    metrics = {f"hparam/{key}": value for key, value in trainer.results.get(cfg.TEST.SPLIT, {}).items()}
    if metrics and trainer._writer is not None:
        hparams = {key: value if isinstance(value, (bool, int, float)) else printable(str(value)) for key, value in hparams.items()}
        attempt("TensorBoard's table of hyperparameters", _write_hparams, trainer._writer, hparams, metrics)


def _write_hparams(writer, hparams, metrics):
    for summary in hparams_summaries(hparams, metrics):  # `add_hparams` would open a writer of its own
        writer.file_writer.add_summary(summary)
    for name, value in metrics.items():
        writer.add_scalar(name, value)
