"""Training and test accuracy by epoch, with and without sample-specific masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...engine.epoch_tests import curve_key
from ..canvas import colours, figure_text, new_figure
from .base import FIGURES, MissingError, PaperFigure
from .training_curves import curve_of, draw_curve, label_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEST = curve_key("test")
PANELS = {"acc": "training accuracy in %", TEST: "test accuracy in %\n(a curve: it selects nothing)"}


@FIGURES.register(name="train_and_test")
class TrainAndTest(PaperFigure):
    number, what = "12", "training and test accuracy per epoch, with and without SMM"

    def draw(self) -> Iterator[tuple[str, Figure]]:
        tested = [(group, name) for group, name in zip(self.task.groups, self.task.names) if curve_of(group, TEST)]
        if len({group.trainer == "SMM" for group, _ in tested}) < 2:
            raise MissingError("it needs runs of SMM and of a method without it that were trained with TEST.TEST_CURVE True")
        figure = new_figure(12, 4.5)
        for axes, (key, what) in zip(figure.subplots(1, 2), PANELS.items()):
            for (group, name), colour in zip(tested, colours(len(tested))):
                style = "-" if group.trainer == "SMM" else "--"
                draw_curve(axes, group, key, color=colour, linestyle=style, label=figure_text(name) if key == TEST else None)
            label_axes(axes, what)
        figure.suptitle(f"With SMM (solid) and without (dashed), mean and range over seeds\n{figure_text(self.task.title)}")
        figure.legend(loc="outside right upper")
        yield "train_and_test", figure
