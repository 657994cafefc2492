"""Training loss and accuracy by epoch, and accuracy on the validation images where it was noted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...engine.epoch_tests import curve_key
from ..canvas import colours, figure_text, new_figure
from ..runs import Group
from .base import FIGURES, MissingError, PaperFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Entry of an epoch's history -> what it is
PANELS = {
    "loss": "training loss",
    "acc": "training accuracy in %",
    curve_key("val"): "validation accuracy in %",
}


@FIGURES.register(name="curves")
class Curves(PaperFigure):
    number, what = "11", "training accuracy and loss"

    def draw(self) -> Iterator[tuple[str, Figure]]:
        figure = curves_figure(self.task.groups, self.task.names, self.task.title)
        if figure is None:
            raise MissingError("it needs runs with epochs of training, whose history is in results.json")
        yield "curves", figure


def curves_figure(groups: Sequence[Group], names: Sequence[str], task: str) -> Figure | None:
    """Loss and accuracies by epoch: the mean over seeds, and the range between them; None without a history."""
    there = [key for key in PANELS if any(curve_of(group, key) for group in groups)]
    if not there:
        return None
    figure = new_figure(5.5 * len(there), 4.5)
    named = set()
    for axes, key in zip(figure.subplots(1, len(there), squeeze=False)[0], there):
        for group, name, colour in zip(groups, names, colours(len(groups))):
            label = None if name in named else figure_text(name)  # one legend for all panels
            if draw_curve(axes, group, key, color=colour, label=label):
                named.add(name)
        label_axes(axes, PANELS[key])
    figure.suptitle(f"Training, mean and range over seeds\n{figure_text(task)}")
    figure.legend(loc="outside right upper")
    return figure


def curve_of(group: Group, key: str) -> dict[int, list[float]]:
    """{epoch: values of `key` over the seeds} of the epochs for which all runs with a history have one."""
    curves = [
        {epoch.get("epoch", place): epoch[key] for place, epoch in enumerate(run["history"], start=1) if epoch.get(key) is not None}
        for run in group.runs.values()
        if run.get("history")
    ]
    curves = [curve for curve in curves if curve]
    return {epoch: [curve[epoch] for curve in curves] for epoch in sorted(set.intersection(*map(set, curves)))} if curves else {}


def draw_curve(axes: Axes, group: Group, key: str, **style: object) -> bool:
    """Draw one curve with the range over seeds, if there is one."""
    curve = curve_of(group, key)
    if not curve:
        return False
    epochs, values = list(curve), list(curve.values())
    axes.plot(epochs, [statistics.fmean(v) for v in values], marker="." if len(epochs) < 20 else "", **style)
    axes.fill_between(epochs, [min(v) for v in values], [max(v) for v in values], color=style["color"], alpha=0.1, linewidth=0)
    return True


def label_axes(axes: Axes, what: str) -> None:
    """Name the axes of a panel of curves."""
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
