"""Columns that several tables show besides the accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..report.runs import Group
    from .table import Published


def parameters(group: Group, published: Published | None) -> str:
    """Number of trained parameters."""
    return f"{next(iter(group.runs.values()))['params_trainable']:,}"


def train_accuracy(group: Group, published: Published | None) -> str:
    """Accuracy on the training images in percent."""
    value = group.mean("accuracy_train")
    return "" if value is None else f"{value:.1f}"


def published_train_accuracy(group: Group, published: Published | None) -> str:
    """The paper's accuracy on the training images in percent."""
    return "" if published is None or published.train is None else f"{published.train:.1f}"


def seconds(group: Group, published: Published | None) -> str:
    """Seconds of training per epoch."""
    value, epochs = group.mean("seconds_train"), next(iter(group.runs.values()))["epochs"]
    return "" if value is None or not epochs else f"{value / epochs:.2f}"


TRAINED = {"trained": parameters}
TRAIN_ACCURACY = {"train %": train_accuracy, "paper's train %": published_train_accuracy}
SECONDS = {"s per epoch": seconds}
