"""How sure of single images a model is under several masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ..canvas import figure_text, new_figure, without_ticks
from ..look import look_at
from ..samples import spread
from ..seen import input_prompt_of
from .base import FIGURES, MissingError, PaperFigure, Task, TrainedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANDIDATES = 60  # test images
SHOWN = 3  # those whose true class is most sensitive to the mask


@FIGURES.register(name="confidence")
class Confidence(PaperFigure):
    number, what = "1", "confidence of one image under several masks"

    def __init__(self, task: Task):
        super().__init__(task)
        self.plain = self.labels = None
        self.classnames = []
        self.inputs, self.masks, self.probabilities = {}, {}, {}  # by the name of the method

    def look(self, run: TrainedRun) -> None:
        if run.number or not run.prompts:
            return
        images, labels = spread(run.data.dataset.test, CANDIDATES)
        if not images or input_prompt_of(run.model) is None:
            return
        look = look_at(run.model, images, [""] * len(images), labels)
        if look.pictures is None or not look.pictures.masks:
            return
        self.plain, self.inputs[run.name] = look.unprompted().mean(dim=1), look.pictures.inputs.mean(dim=1)
        self.labels, self.classnames = labels, run.model.classnames
        self.masks[run.name] = torch.stack([mask for _, mask in look.pictures.masks]).mean(dim=0)  # over colours
        self.probabilities[run.name] = look.probabilities

    def draw(self) -> Iterator[tuple[str, Figure]]:
        if len(self.masks) < 2:
            raise MissingError("it needs two methods with masks, or more, whose models and test images are there")
        of_truth = torch.stack([chance[torch.arange(len(self.labels)), self.labels] for chance in self.probabilities.values()])
        rows = (of_truth.amax(dim=0) - of_truth.amin(dim=0)).argsort(descending=True, stable=True)[:SHOWN].tolist()
        figure = new_figure(1.75 * (len(self.masks) + 1), 2.1 * len(rows) + 0.9)
        grid = figure.subplots(len(rows), len(self.masks) + 1, squeeze=False)
        for line, row in zip(grid, rows):
            truth = int(self.labels[row])
            line[0].imshow(self.plain[row].numpy(), cmap="gray", vmin=0, vmax=1)
            line[0].set_xlabel(f"true class: {figure_text(self.classnames[truth], 16)}", fontsize=8)
            for axes, name in zip(line[1:], self.masks):
                mask, chances = self.masks[name][row], self.probabilities[name][row]
                limit = max(float(self.masks[name].abs().max()), 1e-12)  # of all images, so that they compare
                axes.imshow(self.inputs[name][row].numpy(), cmap="gray", vmin=0, vmax=1)
                axes.imshow(mask.numpy(), cmap="bwr", vmin=-limit, vmax=limit, alpha=0.5)
                best = int(chances.argmax())
                said = f"predicted: {figure_text(self.classnames[best], 16)}\nconfidence {100 * chances[best]:.0f} %"
                axes.set_xlabel(said, fontsize=8, color="tab:green" if best == truth else "tab:red")
        for axes, heading in zip(grid[0], ["image", *self.masks]):
            axes.set_title("\n".join(figure_text(line, 20) for line in heading.split(", ")), fontsize=9)
        for axes in grid.flat:
            without_ticks(axes)
        figure.suptitle(
            f"Confidence under different masks: {figure_text(self.task.title)}\n"
            "(green: right, red: wrong; masks red above 0, blue below)\none scale of masks for each method",
            fontsize=10,
        )
        yield "confidence", figure
