"""The change of each training sample's loss against the unprompted model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from ..canvas import TITLE, colours, figure_text, new_figure
from ..loss_change import BaselineCache, LossChange, loss_change
from .base import FIGURES, FINE_TUNING, MissingError, PaperFigure, Task, TrainedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@FIGURES.register(name="loss_change")
class SampleLosses(PaperFigure):
    number, what = "2", "change of each training sample's loss"

    def __init__(self, task: Task):
        super().__init__(task)
        self.baselines = BaselineCache()

    def look(self, run: TrainedRun) -> None:
        change = loss_change(run.model, run.data, self.baselines.get(run.model, run.data))
        self.task.changes.setdefault(run.name, []).append(change)

    def draw(self) -> Iterator[tuple[str, Figure]]:
        names = [
            f"{name} (fine-tuning)" if group.trainer in FINE_TUNING else name
            for group, name in zip(self.task.groups, self.task.names)
        ]
        changes = [self.task.changes.get(name, []) for name in self.task.names]
        figure = loss_change_figure(changes, names, self.task.title)
        if figure is None:
            raise MissingError("it needs runs whose models and training images are there")
        yield "loss_change", figure


def loss_change_figure(changes: Sequence[Sequence[LossChange]], names: Sequence[str], task: str) -> Figure | None:
    """The change of each training sample's loss against the unprompted model, sorted; None without any.

    Args:
        changes: one list a method, of the `LossChange` of its runs; their samples are pooled.
    """
    if not any(changes):
        return None
    figure = new_figure(9, 4.8)
    axes = figure.add_subplot()
    for runs, name, colour in zip(changes, names, colours(len(names))):
        if runs:
            change = torch.cat([run.change for run in runs]).sort().values
            share = 100 * sum(run.rises for run in runs) / len(change)
            position = [100 * (index + 0.5) / len(change) for index in range(len(change))]
            axes.plot(position, change.tolist(), color=colour, label=f"{figure_text(name)}: rises for {share:.1f} %")
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xlim(0, 100)
    axes.set_xlabel("training samples in %, sorted by their change")
    axes.set_ylabel("loss of the trained model minus loss before")
    axes.set_title(f"Change of each sample's training loss\n{figure_text(task, TITLE)}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure
