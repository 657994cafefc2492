"""What every run writes to TensorBoard about itself, so that runs can be distinguished and share charts.

TensorBoard's time series open with the first two groups of tags in the alphabet. These are to be how well a run
learns, `train` and `val`. All else has names that come after.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from ..data import name_of_data
from ..utils.errors import LostProcessError, RunInterrupted
from ..utils.text import one_line, printable, say
from .events import EventWriter

if TYPE_CHECKING:
    from .trainer import SimpleTrainer

FINAL = "values at the end"  # group of what is measured once
PROMPT = "what the prompt does"  # group of pictures over training
TRAINED = "when trained"  # group of figures at the end
WORKINGS = "workings"  # group of curves about the training itself
POINTS = 500  # about as many, at most, make a curve of a run

# Chart -> regular expression of its tags: one line per run, so that rival methods share a chart
CHARTS = {
    "accuracy": {
        "validation accuracy in %": ["Multiline", ["val/accuracy$"]],
        "training accuracy in % (of the batches)": ["Multiline", ["train/acc$"]],
        "test accuracy in %": ["Multiline", ["test/accuracy$", f"{FINAL}/accuracy$"]],
    },
    "training": {
        "loss": ["Multiline", ["train/loss$"]],
        "learning rates": ["Multiline", [f"{WORKINGS}/lr/.+"]],
        "images per second": ["Multiline", [f"{WORKINGS}/images_per_second"]],
    },
}
# Its table of hyperparameters shows five columns unless asked for more: first those that are marked so, by their names
SHOWN = ("backbone", "dataset", "mapping", "method", "trainer")


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


def on_curve(step: int, gap: int, total: int) -> bool:
    """Whether the numbers of training batch `step` of `total` are written, where those of every `gap`-th are at hand."""
    return step * POINTS // total > (step - gap) * POINTS // total


def write_layout(writer: EventWriter | None) -> None:
    """Group the scalars of all runs into charts (TensorBoard's page "custom scalars")."""
    if writer is not None:  # the main process has one
        attempt("TensorBoard's custom scalars", writer.add_custom_scalars, CHARTS)


def write_outcome(trainer: "SimpleTrainer") -> None:
    """How good the run became, as points, and as its line in TensorBoard's table of hyperparameters beside what it was."""
    cfg = trainer.cfg
    section = cfg.TRAINER.get(cfg.TRAINER.NAME.upper(), {})
    hparams = {
        "trainer": cfg.TRAINER.NAME,
        "method": section.get("METHOD", cfg.TRAINER.NAME.lower()),
        "mapping": section.get("MAPPING", ""),
        "dataset": name_of_data(cfg),
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "seed": cfg.SEED,
        "shots": cfg.DATASET.NUM_SHOTS,
        "lr": cfg.OPTIM.LR,
        "epochs": trainer.max_epoch,
        "batch_size": cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
    }
    metrics = trainer.results.get(cfg.TEST.SPLIT, {})
    if trainer._writer is None or not metrics:
        return
    hparams = {key: value if isinstance(value, (bool, int, float)) else printable(str(value)) for key, value in hparams.items()}
    attempt("TensorBoard's table of hyperparameters", _write_hparams, trainer._writer, hparams, metrics)
    for name, value in metrics.items():
        trainer.write_scalar(f"{FINAL}/{name}", value, trainer.steps_done())
    for name, value in trainer.results.get("train", {}).items():  # TEST.TRAIN_GAP
        trainer.write_scalar(f"{FINAL}/{name} on training images", value, trainer.steps_done())


def _write_hparams(writer, hparams, metrics):
    # `add_hparams` would open a writer of its own
    experiment, *session = hparams_summaries(hparams, {f"{FINAL}/{name}": value for name, value in metrics.items()})
    described = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(described.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in SHOWN
    for column in content.experiment.metric_infos:
        column.display_name = column.name.tag.removeprefix(f"{FINAL}/")
    described.content = content.SerializeToString()
    for summary in (experiment, *session):
        writer.file_writer.add_summary(summary)
