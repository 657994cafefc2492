"""A trained model's features of test images for TensorBoard's projector."""

import colorsys
import math

import torch
from torch.nn import functional as F

from ..data.samplers import class_balanced_order
from ..methods import PromptLearning
from ..reprogramming.pictures import unnormalize
from ..utils.text import one_line
from .features import features_before_after
from .samples import prepared_batches

IMAGES = 300  # or more, so that every class is there
COMPONENTS = 32  # principal components that are written
THUMBNAILS = 140_000  # pixels of all together: a run's TensorBoard files are to stay below 3 MB
FRAME = 2  # pixels


@torch.no_grad()
def write_projector(trainer: PromptLearning) -> None:
    """Write features of a class-balanced sample of the test images, without and with the prompt, to a run's TensorBoard.

    Each point has its class as a name and a number to colour by, and a thumbnail with a frame in the colour of its class.
    """
    from ..deploy.load import model_of

    model, items = model_of(trainer), tested_items(trainer)
    number = max(IMAGES, trainer.num_classes)
    chosen = sorted(class_balanced_order(items)[:number], key=lambda position: items[position].label)
    labels, thumbnails = [], []
    side = max(4, min(28, math.isqrt(THUMBNAILS // len(chosen)))) - 2 * FRAME

    def batches():
        cfg = trainer.cfg
        for x, plain in prepared_batches(model, [items[position] for position in chosen], labels):
            shown = unnormalize(plain, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
            thumbnails.append(F.interpolate(shown, (side, side), mode="area").cpu())
            yield x, plain

    features = features_before_after(model, batches())
    if not features:
        return
    names = [[one_line(model.classnames[label]), label] for label in labels]
    framed = _framed(torch.cat(thumbnails), torch.tensor(labels), len(model.classnames))
    for heading, columns in features.items():
        trainer._writer.add_embedding(
            _principal_components(columns),
            metadata=names,
            metadata_header=["class", "number of the class"],
            label_img=framed,
            global_step=trainer.steps_done(),
            tag=heading.partition(" (")[0],
        )


def tested_items(trainer: PromptLearning) -> list:
    """The images that a run is tested on, a list of `Datum`; a search for settings leaves the test split alone."""
    dataset = trainer.dm.dataset
    return dataset.val if trainer.cfg.TEST.SPLIT == "val" and dataset.val else dataset.test


def _principal_components(features):
    """(N, D) -> (N, COMPONENTS or fewer) float64 with two decimals, the largest with a deviation of 10."""
    centred = features.double() - features.double().mean(dim=0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    scores = left[:, :COMPONENTS] * values[:COMPONENTS]
    return (10 * scores / scores[:, 0].std(correction=0).clamp(min=1e-12)).round(decimals=2)


def _framed(thumbnails, labels, number):
    """Thumbnails (N, 3, H, W) with a frame in the colour of their class, of `number` classes."""
    hues = [colorsys.hsv_to_rgb(label / number, 0.9, 0.5 + 0.4 * (label % 2)) for label in range(number)]
    framed = torch.tensor(hues)[labels][:, :, None, None].expand(-1, -1, *(side + 2 * FRAME for side in thumbnails.shape[2:]))
    framed = framed.clone()
    framed[:, :, FRAME:-FRAME, FRAME:-FRAME] = thumbnails
    return framed
