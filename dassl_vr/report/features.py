"""t-SNE of a backbone's outputs for training images, without and with a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from ..deploy import PromptedModel
from ..prompting import TextPromptedClassifier
from ..reprogramming.classifier import FeatureSource, ReprogrammedClassifier
from .canvas import colours, figure_text, new_figure, without_ticks
from .samples import prepared_batches, random_items
from .unprompted import pretrained_backbone, unprompted_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data import Datum

FEW = 10  # below that many images t-SNE shows nothing
SHORT = 18  # characters of a class in a legend
NEIGHBOURS = 5  # whose classes say how well a panel separates them
COLUMNS = 3  # of panels
UNPROMPTED, PROMPTED = "without the prompt", "with the prompt"
LEGEND_CLASSES = 20  # above that, a legend of classes is no help


def features_figure(model: PromptedModel, items: Sequence[Datum], number: int, title: str) -> Figure | None:
    """t-SNE of `features_of` images; below `FEW` that can be read there is no figure (None)."""
    features, labels = features_of(model, items, number)
    return scatter_figure(features, labels, model.classnames, title) if len(labels) >= FEW else None


def features_of(model: PromptedModel, items: Sequence[Datum], number: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(`features_before_after`, (N,) labels) for `number` of a list of `Datum`, drawn at random; those that cannot be read are left
    out."""
    labels = []
    features = features_before_after(model, prepared_batches(model, random_items(items, number), labels))
    return features, torch.tensor(labels, dtype=torch.int64)


@torch.no_grad()
def features_before_after(model: PromptedModel, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """{heading: (N, D)} of images for t-SNE: unprompted and prompted, or once where the method leaves them as they are.

    With a reprogrammed classifier these are the outputs of its source, of all views of an image, before the label mapping; else
    image features.

    Args:
        batches: of (x, plain), both (B, 3, S, S): images as the prompt gets them, and unprompted.
    """
    network = model.network
    directions = model.details.backbone.kind == "clip"  # features of a CLIP are compared by their directions
    if isinstance(network, ReprogrammedClassifier):
        before, after = unprompted_source(model).logits, lambda x: network.backbone.logits(network.f_in(x))
        directions = directions and isinstance(network.source, FeatureSource)
    else:
        before = pretrained_backbone(model).features
        changed = isinstance(network, TextPromptedClassifier) and network.changes_images
        after = network.image_features if changed else None
    parts = [(before(plain), after(x) if after else None) for x, plain in batches]
    if not parts:
        return {}
    features = [torch.cat(column).float().cpu() for column in zip(*parts, strict=True) if column[0] is not None]
    if directions:
        features = [F.normalize(column, dim=1) for column in features]
    if len(features) == 1 or (features[0].shape == features[1].shape and torch.allclose(*features, atol=1e-5)):
        return {"image features (this method leaves them as they are)": features[0]}
    return {UNPROMPTED: features[0], PROMPTED: features[1]}


def neighbours_accuracy(features: torch.Tensor, labels: torch.Tensor) -> float:
    """How well the classes are separated: the accuracy, in percent, of predicting each sample's class from the majority of its
    `NEIGHBOURS` nearest others (Euclidean distance; a tie goes to the lower label).

    Args:
        features: (N, D).
        labels: (N,) classes.
    """
    number = min(NEIGHBOURS, len(labels) - 1)
    hits = 0
    for rows in torch.arange(len(labels)).split(1000):  # a table of all distances may be large
        distances = torch.cdist(features[rows].double(), features.double())
        distances[torch.arange(len(rows)), rows] = float("inf")
        nearest = labels[distances.topk(number, dim=1, largest=False).indices]  # (rows, number)
        votes = F.one_hot(nearest, int(labels.max()) + 1).sum(dim=1)
        hits += int((votes.argmax(dim=1) == labels[rows]).sum())
    return 100 * hits / len(labels)


def tsne(features: torch.Tensor) -> np.ndarray:
    """(N, D) -> (N, 2) with t-SNE on the first 50 principal components, the same at every call."""
    from sklearn.decomposition import PCA  # here: slow to import
    from sklearn.manifold import TSNE

    features = features.double().numpy()
    components = min(50, *features.shape)
    if components < features.shape[1]:
        features = PCA(components, random_state=0).fit_transform(features)
    perplexity = min(30.0, max(1.0, (len(features) - 1) / 3))
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)


def scatter_figure(panels: dict[str, torch.Tensor], labels: torch.Tensor, names: Sequence[str], title: str) -> Figure:
    """t-SNE of several sets of features of the same images, each with its `neighbours_accuracy`.

    Args:
        panels: {heading: (N, D)}.
        labels: (N,) classes, for the colours.
        names: of the classes.
    """
    few = len(names) <= LEGEND_CLASSES
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(4.6 * columns + (1.5 if few else 0), 4.6 * rows + 0.6)
    palette = colours(len(names)) if few else _hues(len(names))
    size = 18 if len(labels) < 1000 else 5
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, (axes, (heading, features)) in enumerate(zip(grid.flat, panels.items())):
        points = tsne(features)
        for target, colour in enumerate(palette):
            mine = points[(labels == target).numpy()]
            name = figure_text(names[target], SHORT) if few and number == 0 else None
            axes.scatter(mine[:, 0], mine[:, 1], s=size, color=[colour], linewidths=0, label=name)
        measured = f"{NEIGHBOURS}-nearest-neighbour accuracy {neighbours_accuracy(features, labels):.1f} %"
        axes.set_title(f"{figure_text(heading, 60)}\n{measured}", fontsize=10)
    for axes in grid.flat:
        without_ticks(axes)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    what = f"{len(labels):,} random training images" + ("" if few else f", a colour for each of {len(names)} classes")
    figure.suptitle(f"Features (t-SNE): {figure_text(title)}\n{what}")
    if few:
        figure.legend(loc="outside right upper", markerscale=2 if size < 10 else 1)
    return figure


def _hues(number):
    import matplotlib

    return [matplotlib.colormaps["hsv"](index / number) for index in range(number)]
