"""What each method does to some test images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torchvision.transforms.functional import equalize

from ...data import DataManager
from ...deploy import PromptedModel
from ...utils.errors import DataError
from ..canvas import figure_text, new_figure, without_ticks
from ..look import Look, images_figure, look_at
from ..samples import spread
from .base import FIGURES, MissingError, PaperFigure, Task, TrainedRun, file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GALLERY_IMAGES = 5


def look_at_tests(model: PromptedModel, data: DataManager, number: int = GALLERY_IMAGES) -> Look:
    """A model at some test images, of all classes alike. Raises `DataError` if none can be read."""
    images, labels = spread(data.dataset.test, number)
    if not images:
        raise DataError(f"none of {len(data.dataset.test)} test images can be read")
    return look_at(model, images, [f"test image {place}" for place in range(1, len(images) + 1)], labels)


def equalized(pictures: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) RGB in [0, 1], each channel of each with its histogram spread evenly."""
    return equalize((pictures * 255).round().to(torch.uint8)).float() / 255


@FIGURES.register(name="methods_gallery")
class MethodsGallery(PaperFigure):
    """The same images under every method, and SMM's masks of them."""

    number, what = "5", "the same images under every method"

    def __init__(self, task: Task):
        super().__init__(task)
        self.inputs, self.truths, self.columns, self.masks = None, [], {}, {}

    def look(self, run: TrainedRun) -> None:
        if run.number or not run.prompts:
            return
        look = look_at_tests(run.model, run.data)
        shown = look.pictures
        if shown is None:
            return
        if self.inputs is None:
            self.inputs = look.unprompted()
            self.truths = [run.model.classnames[label] for label in look.labels.tolist()]
        self.columns[run.name] = shown.results
        if run.group.trainer == "SMM" and shown.masks:
            channels = torch.stack([mask for _, mask in (shown.masks * 3)[:3]], dim=1)  # one channel is grey
            low, high = channels.amin(), channels.amax()  # of all images, so that they compare
            self.masks[f"mask of\n{run.name}"] = (channels - low) / (high - low).clamp(min=1e-12)

    def draw(self) -> Iterator[tuple[str, Figure]]:
        if not self.columns:
            raise MissingError("it needs a run with a pattern in its images, whose model and test images are there")
        adjust = equalized if self.task.equalize else torch.clone
        columns = {"original": self.inputs, **self.columns, **self.masks}
        rows = len(self.inputs)
        figure = new_figure(1.5 * len(columns) + 0.4, 1.55 * rows + 0.8)
        grid = figure.subplots(rows, len(columns), squeeze=False)
        for column, (heading, pictures) in enumerate(columns.items()):
            for row, picture in enumerate(adjust(pictures)):
                axes = grid[row][column]
                axes.imshow(picture.permute(1, 2, 0).numpy())
                without_ticks(axes)
                if row == 0:
                    axes.set_title("\n".join(figure_text(line, 20) for line in heading.replace(", ", "\n").split("\n")), fontsize=9)
                if column == 0:
                    axes.set_ylabel(f"true: {figure_text(self.truths[row], 18)}", fontsize=8)
        how = "\n(histograms equalized)" if self.task.equalize else ""
        figure.suptitle(f"{figure_text(self.task.title)}{how}", fontsize=10)
        yield "gallery", figure


@FIGURES.register(name="gallery")
class Galleries(PaperFigure):
    """For each method the images, its masks of them, what it adds, the result and the likeliest classes."""

    number, what = "13 to 23", "what a method does to images of a data set"

    def __init__(self, task: Task):
        super().__init__(task)
        self.figures = {}

    def look(self, run: TrainedRun) -> None:
        if run.number == 0 and run.prompts:
            title = f"{run.name} on {self.task.title}, seed {run.seed}"
            self.figures[f"{file_name(run.name)}-gallery"] = gallery_figure(run.model, run.data, title, self.task.equalize)

    def draw(self) -> Iterator[tuple[str, Figure]]:
        if not self.figures:
            raise MissingError("it needs a visual-reprogramming run whose model and test images are there")
        yield from self.figures.items()


def gallery_figure(model: PromptedModel, data: DataManager, title: str, equalize: bool = False) -> Figure:
    """What a model does to some test images: `look.images_figure`, an image in each row."""
    look = look_at_tests(model, data)
    if equalize:
        title = f"{title} (histograms equalized)"
    return images_figure(look, range(len(look.names)), title, equalized if equalize else torch.clone)
