"""The figures of `visualize.py` in TensorBoard, at the end of a run."""

import importlib.util

from ..engine.charts import attempt
from ..methods import PromptLearning

SHOWN = 4  # test images


def show_in_tensorboard(trainer: PromptLearning) -> None:
    """Write the figures of a trained model to its run's TensorBoard; does nothing without matplotlib or a writer.

    The run is finished by then, so a failure here is only a warning."""
    if trainer._writer is not None and isinstance(trainer, PromptLearning) and importlib.util.find_spec("matplotlib"):
        attempt("the figures at the end of the run", _show, trainer)


def _show(trainer):
    # here: matplotlib is slow to import
    from ..deploy.load import model_of
    from ..names import TSNE_SAMPLES
    from .canvas import pixels
    from .features import features_figure
    from .look import image_figure, look_at, mapping_figure, pattern_figure, title_of
    from .samples import spread

    model, dataset = model_of(trainer), trainer.dm.dataset
    images, labels = spread(dataset.test, SHOWN)
    look = look_at(model, images, [f"test image {number}" for number in range(1, SHOWN + 1)][: len(images)], labels)
    figures = {f"look/1 image {number + 1}": image_figure(look, number) for number in range(len(images))}
    figures |= {"look/2 pattern": pattern_figure(model), "look/3 label mapping": mapping_figure(model)}
    figures["look/4 features"] = features_figure(model, dataset.train_x, TSNE_SAMPLES, title_of(model))
    step = trainer.steps_done()
    for tag, figure in figures.items():
        if figure is not None:
            trainer._writer.add_image(tag, pixels(figure), step, dataformats="HWC")
