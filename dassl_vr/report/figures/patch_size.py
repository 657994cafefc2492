"""Accuracy against the side of a patch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..canvas import TITLE, colours, figure_text, new_figure
from ..runs import Group
from .base import FIGURES, MissingError, PaperFigure, file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@FIGURES.register(name="patch_size")
class PatchSize(PaperFigure):
    number, what = "4", "accuracy against patch size"

    def draw(self) -> Iterator[tuple[str, Figure]]:
        groups, drawn = self.task.groups, False
        for tag in dict.fromkeys(map(_tag_without_patch, groups)):
            alike = [group for group in groups if _tag_without_patch(group) == tag]
            if figure := patch_size_figure(alike, ", ".join([self.task.title, tag] if tag else [self.task.title])):
                drawn = True
                yield "-".join([file_name(tag), "patch_size"] if tag else ["patch_size"]), figure
        if not drawn:
            raise MissingError("it needs runs of SMM with two patch sizes or more (reproduce patch_size makes them)")


def _tag_without_patch(group):
    """What the tags of all patch sizes of one recipe have in common: "" for `default` and `patch4`, `a` for `a` and `a-patch4`."""
    return re.sub(r"(^|-)patch\d+$|^default$", "", group.tag)


def patch_size_figure(groups: Sequence[Group], task: str) -> Figure | None:
    """Accuracy of SMM against the side of its patches, with shared masks as lines; None below two patch sizes."""
    groups = [group for group in groups if group.mapping == "ilm" and group.mean("accuracy") is not None]
    by_patch = {
        group.options["PATCH_SIZE"]: group
        for group in groups
        if group.trainer == group.method.upper() == "SMM" and "PATCH_SIZE" in group.options
    }
    if len(by_patch) < 2:
        return None
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    sides = sorted(by_patch)
    means = [by_patch[side].mean("accuracy") for side in sides]
    errors = [by_patch[side].std("accuracy") or 0.0 for side in sides]
    axes.errorbar(sides, means, errors, marker="o", capsize=4, linewidth=2, label="SMM")
    masks = [group for group in groups if group.trainer == "VR"]
    for group, colour in zip(masks, colours(len(masks) + 1)[1:]):
        axes.axhline(group.mean("accuracy"), color=colour, linestyle="--", label=figure_text(group.name))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.minorticks_off()
    axes.set_xlabel("side of a patch in pixels")
    axes.set_ylabel("test accuracy in %")
    axes.set_title(f"Patch size (mean ± std over seeds)\n{figure_text(task, TITLE)}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure
