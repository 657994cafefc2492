"""What TensorBoard shows of a trained model at the end of a run: the figures of `visualize.py`, and features in the projector."""

import importlib.util

from ..engine.charts import TRAINED, attempt
from ..methods import PromptLearning
from .projector import tested_items, write_projector

SHOWN = 4  # test images
DPI = 80  # of the figures: a run's TensorBoard files are to stay below 3 MB


def show_in_tensorboard(trainer: PromptLearning) -> None:
    """Write figures and features of a trained model to its run's TensorBoard; does nothing without a writer, and no figures without
    matplotlib.

    The run is finished by then, so a failure here is only a warning."""
    if trainer._writer is None or not isinstance(trainer, PromptLearning):
        return
    print("drawing figures ...", flush=True)
    attempt("the features in TensorBoard's projector", write_projector, trainer)
    if importlib.util.find_spec("matplotlib"):
        attempt("the figures at the end of the run", _show, trainer)


def _show(trainer):
    # here: matplotlib is slow to import
    from ..deploy.load import model_of
    from ..names import TSNE_SAMPLES
    from .canvas import pixels
    from .features import features_figure
    from .look import look_at, mapping_figure, pattern_figure, stacked_figure, title_of
    from .samples import spread

    model, dataset = model_of(trainer), trainer.dm.dataset
    images, labels = spread(tested_items(trainer), SHOWN)
    order = labels.argsort(stable=True)
    images, labels = [images[position] for position in order.tolist()], labels[order]
    look = look_at(model, images, [f"test image {number}" for number in range(1, len(images) + 1)], labels)
    figures = {f"1 image {number + 1}": stacked_figure(look, number) for number in range(len(images))}
    figures |= {"2 pattern": pattern_figure(model), "3 label mapping": mapping_figure(model)}
    figures["4 features"] = features_figure(model, dataset.train_x, TSNE_SAMPLES, title_of(model))
    step = trainer.steps_done()
    for name, figure in figures.items():
        if figure is not None:
            figure.set_dpi(DPI)
            trainer._writer.add_image(f"{TRAINED}/{name}", pixels(figure), step, dataformats="HWC")
