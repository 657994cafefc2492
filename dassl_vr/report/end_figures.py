"""The figures of `visualize.py` in TensorBoard, at the end of a run."""

import importlib.util

from ..engine.charts import attempt
from ..methods import PromptLearning
from ..reprogramming.classifier import inner_backbone

SHOWN = 4  # test images


def show_in_tensorboard(trainer):
    """Write what there is to see of a trained model to its run's TensorBoard; nothing without matplotlib or a writer.

    The run is finished by then: what fails here is a warning."""
    if trainer._writer is not None and isinstance(trainer, PromptLearning) and importlib.util.find_spec("matplotlib"):
        attempt("the figures at the end of the run", _show, trainer)


def _show(trainer):
    # here: matplotlib is slow to import
    from ..deploy.load import Details
    from ..deploy.model import PromptedModel
    from .canvas import pixels
    from .figures import TSNE_SAMPLES
    from .look import features_figure_of, image_figure, look_at, mapping_figure, pattern_figure, random_items
    from .page import spread, title_of

    cfg, dm = trainer.cfg, trainer.dm
    trainer.set_model_mode("eval")
    model = PromptedModel(trainer.model, dm.tfm_test, dm.dataset.classnames, cfg.DATALOADER.TEST.BATCH_SIZE).eval()
    model.details = Details(cfg, {}, inner_backbone(trainer.model), {})
    images, labels = spread(dm.dataset.test, SHOWN)
    look = look_at(model, images, [f"test image {number}" for number in range(1, SHOWN + 1)][: len(images)], labels)
    figures = {f"look/1 image {number + 1}": image_figure(look, number) for number in range(len(images))}
    figures |= {"look/2 pattern": pattern_figure(model), "look/3 label mapping": mapping_figure(model)}
    figures["look/4 features"] = features_figure_of(model, random_items(dm.dataset.train_x, TSNE_SAMPLES), title_of(model))
    step = trainer.steps_done()
    for tag, figure in figures.items():
        if figure is not None:
            trainer._writer.add_image(tag, pixels(figure), step, dataformats="HWC")
