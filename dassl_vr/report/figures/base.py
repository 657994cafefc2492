"""What a figure of the SMM paper is here, and the runs that it is drawn from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...data import DataManager
from ...deploy import PromptedModel
from ...utils.registry import Registry
from ..loss_change import LossChange
from ..runs import Group, distinct_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = Registry("figure")
# Trainers that fine-tune the pre-trained model, or put a head on it, in place of prompting it
FINE_TUNING = ("FullFT", "LinearProbe", "LoRA")


class MissingError(Exception):
    """The runs at hand do not allow a figure; the text says what they lack."""


@dataclass
class Task:
    """The runs on one data set and backbone.

    Attributes:
        changes: {name of a group: one `LossChange` per run}, for the table beside the figures.
    """

    groups: Sequence[Group]
    equalize: bool = False
    changes: dict[str, list[LossChange]] = field(default_factory=dict)

    def __post_init__(self):
        self.names = distinct_names(self.groups)
        self.title = f"{self.groups[0].dataset}, {self.groups[0].backbone}"
        self.stem = file_name(f"{self.groups[0].dataset}-{self.groups[0].backbone}")


@dataclass
class TrainedRun:
    """A finished run with its model, as the figures that need one see it.

    Attributes:
        name: of its group, unique within the task; `number`: 0 for the first seed of the group.
        prompts: it is a visual-reprogramming run; otherwise one of FINE_TUNING.
    """

    group: Group
    name: str
    seed: int
    number: int
    model: PromptedModel
    data: DataManager
    prompts: bool


class PaperFigure:
    """A figure of the paper for one task: a subclass in a file of this folder, which is found by itself.

    Each run's model is loaded once, shown to all figures (`look`), and let go; then each figure is drawn (`draw`).

    Attributes:
        number: in the paper, also the order here; `what`: its subject in a few words.
    """

    number = ""
    what = ""

    def __init__(self, task: Task):
        self.task = task

    @property
    def published_as(self) -> str:
        """`figure 5`, `figures 13 to 23`."""
        return f"figure{'s' * (' ' in self.number)} {self.number}"

    def look(self, run: TrainedRun) -> None:
        """Take what the figure needs of a run's model."""

    def draw(self) -> Iterator[tuple[str, Figure]]:
        """(end of the file's name, figure) of each picture. Raises `MissingError`."""
        raise NotImplementedError


def file_name(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w+.-]+", "_", text)[:100]
