"""t-SNE of training images at the output layer before the mapping: no prompt and all methods in one figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...names import TSNE_SAMPLES
from ...reprogramming.classifier import FeatureSource, ReprogrammedClassifier
from ..features import FEW, PROMPTED, UNPROMPTED, features_of, scatter_figure
from .base import FIGURES, MissingError, PaperFigure, Task, TrainedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@FIGURES.register(name="features")
class OutputFeatures(PaperFigure):
    number, what = "6", "outputs before the mapping (t-SNE)"

    def __init__(self, task: Task):
        super().__init__(task)
        self.plain, self.panels, self.labels, self.classnames = {}, {}, None, []

    def look(self, run: TrainedRun) -> None:
        if run.number or not isinstance(run.model.network, ReprogrammedClassifier):
            return
        features, labels = features_of(run.model, run.data.dataset.train_x, TSNE_SAMPLES)
        if len(labels) < FEW or (self.labels is not None and labels.tolist() != self.labels.tolist()):
            return  # another seed of a few-shot task has other images
        if PROMPTED not in features:  # a head on frozen features has nothing of its own to show
            return
        self.labels, self.classnames = labels, run.model.classnames
        of_head = isinstance(run.model.network.source, FeatureSource)  # which reads another layer than a label mapping
        self.plain.setdefault(f"{UNPROMPTED}: what a head reads" if of_head else UNPROMPTED, features[UNPROMPTED])
        self.panels[run.name if run.prompts else f"{run.name} (fine-tuning)"] = features[PROMPTED]

    def draw(self) -> Iterator[tuple[str, Figure]]:
        if not self.panels:
            raise MissingError(f"it needs a model that changes what the backbone puts out, and {FEW} training images or more")
        plain = {heading: self.plain[heading] for heading in sorted(self.plain)}
        yield "features", scatter_figure({**plain, **self.panels}, self.labels, self.classnames, self.task.title)
