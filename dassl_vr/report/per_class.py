"""A method's accuracy on each class, and its confusion matrix."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.predictions import read_predictions
from ..utils.errors import DataError
from ..utils.places import new_directory
from ..utils.text import say
from .runs import Group, names_within_tasks
from .tables import mean_std, with_what_differs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .canvas import Drawn

NUMBERED, NAMED = 20, 60  # number of classes up to which a figure shows each count, each name


@dataclass
class Confusion:
    """The runs of a method, one for each seed.

    Attributes:
        counts: (S, K, K) images; rows are true classes, columns predicted ones.
    """

    group: Group
    classnames: list[str]
    counts: np.ndarray

    @classmethod
    def of(cls, group: Group) -> Confusion:
        """Raises `DataError` where predictions are missing, or of other classes in another seed."""
        from sklearn.metrics import confusion_matrix  # here: two seconds, which other tables save

        counts = []
        names = next(iter(group.runs.values())).get("classnames")
        for _, directory in sorted(group.directories.items()):
            kept = read_predictions(directory)
            known, classes = kept.labelled, kept.probabilities.shape[1]
            names = names or [f"class {label}" for label in range(classes)]
            if not known.any() or classes != len(names):
                raise DataError(
                    f"{directory}: has predictions of {classes} classes, {int(known.sum())} images with a label; expected"
                    f" {len(names)} classes, and labels"
                )
            counts.append(confusion_matrix(kept.label[known], kept.predicted[known], labels=range(classes)))
        return cls(group, list(names), np.stack(counts))

    def in_words(self, number: int = 3) -> str:
        """How many classes there are, and the pairs that were confused most often, over all seeds."""
        counts, names = self.counts.sum(axis=0), self.classnames
        counts = counts - np.diag(counts.diagonal())
        order = np.argsort(-counts, axis=None, kind="stable")[:number]
        pairs = [place for place in zip(*np.unravel_index(order, counts.shape)) if counts[place]]
        shown = ", ".join(f"{names[true]} taken for {names[said]} ({counts[true, said]})" for true, said in pairs)
        return f"Confusion matrix of {len(names)} classes. Most often: {shown or 'nothing was confused'}"


def confusions(groups: Sequence[Group]) -> list[Confusion]:
    """Of all groups whose runs have predictions; the others are named on standard error. Raises `DataError` if none has."""
    found, problems = [], []
    for group in groups:
        try:
            found.append(Confusion.of(group))
        except DataError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    for problem in problems:
        say(f"warning: left out of the classes: {problem}")
    return found


def per_class_table(found: Sequence[Confusion]) -> tuple[list[str], list[list[str]]]:
    """(headers, rows) of text: for each method and class with test images its number of images, the accuracy on them (recall), the
    precision, F1, each as mean and deviation over seeds, and the class that it is most often taken for, with the share of its
    images over all seeds."""
    rows = []
    for confusion in found:
        group, counts = confusion.group, confusion.counts
        right, true, said = counts.diagonal(axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)  # (S, K) each
        for label in np.flatnonzero(true.sum(axis=0)).tolist():
            wrong = counts.sum(axis=0)[label].copy()
            wrong[label] = 0
            taken = confusion.classnames[wrong.argmax()] if wrong.any() else ""
            share = f"{100 * wrong.max() / true[:, label].sum():.1f}" if wrong.any() else ""
            cells = (right[:, label], true[:, label]), (right[:, label], said[:, label])
            rows.append({
                **{"data": group.dataset, "backbone": group.backbone, "method": group.name, "recipe": group.tag},
                "class": confusion.classnames[label],
                "images": f"{int(true[0, label]):,}",
                **{name: _percent(*cell) for name, cell in zip(("accuracy %", "precision %"), cells)},
                "F1 %": _percent(2 * right[:, label], true[:, label] + said[:, label]),
                "most often taken for": taken,
                "of its images %": share,
            })  # fmt: skip
    return with_what_differs(rows, {"method", "class", "images", "accuracy %"}, ("data", "backbone", "recipe"))


def _percent(parts, wholes):
    """Mean and deviation over seeds; where there is nothing to divide by, 0."""
    values = [100 * float(part) / whole if whole else 0.0 for part, whole in zip(parts, wholes.tolist())]
    return mean_std(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def draw_confusions(found: Sequence[Confusion], directory: str | Path) -> list[Drawn]:
    """Draw each confusion matrix as a PNG file in a directory that must not hold anything yet.

    Raises:
        ConfigError: matplotlib is missing, or `directory` holds something or cannot be made.
    """
    from .canvas import Drawn, new_figure, save  # here: tables do not need matplotlib
    from .figures.base import file_name

    new_figure(1, 1)  # a missing matplotlib is said before anything is made
    names = names_within_tasks([confusion.group for confusion in found])
    files = []
    with new_directory(directory) as temporary:
        for number, (confusion, name) in enumerate(zip(found, names), start=1):
            group = confusion.group
            stem = file_name(f"{group.dataset}-{group.backbone}-{name}")
            file = f"{stem}.png" if f"{stem}.png" not in files else f"{stem}-{number}.png"
            save(confusion_figure(confusion, name), temporary / file)
            files.append(file)
    captions = [f"{confusion.group.dataset}, {confusion.group.backbone}: {name}" for confusion, name in zip(found, names)]
    return [
        Drawn(Path(directory, file), caption, f"{caption}. {confusion.in_words()}")
        for file, caption, confusion in zip(files, captions, found)
    ]


def confusion_figure(confusion: Confusion, name: str) -> Figure:
    """The shares of the images of each class that are taken for each class, over all seeds."""
    from .canvas import figure_text, new_figure

    counts = confusion.counts.sum(axis=0)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(min=1)  # (K, K), rows sum to 100
    number = len(shares)
    side = min(14.0, max(4.0, 0.45 * number + 2))
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    if number <= NAMED:
        texts = [figure_text(text, 24) for text in confusion.classnames]
        axes.set_xticks(range(number), texts, rotation=90, fontsize=8)
        axes.set_yticks(range(number), texts, fontsize=8)
    if number <= NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if share:
                colour = "white" if share > 50 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    group = confusion.group
    axes.set_title(figure_text(f"{group.dataset}, {group.backbone}: {name}"), fontsize=10)
    figure.colorbar(picture, ax=axes, label="% of the images of a class", shrink=0.7)
    return figure
