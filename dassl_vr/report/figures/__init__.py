"""The figures of the SMM paper, drawn from a set of runs as PNG files: a file of this folder for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...deploy import load_prompted
from ...engine import TRAINER_REGISTRY
from ...methods import VisualReprogramming
from ...utils.errors import ConfigError, UserError
from ...utils.modules import modules_in
from ...utils.places import new_directory
from ...utils.text import say
from ..canvas import Drawn, described, new_figure
from ..canvas import save as save_figure
from ..loss_change import LossChange
from ..runs import Group
from ..samples import data_of
from .base import FIGURES, FINE_TUNING, MissingError, PaperFigure, Task, TrainedRun

modules_in(__name__, __path__)  # every file registers what it defines

WITH_PLUGIN = "; if it is of a plug-in, add --plugin FILE"

__all__ = ["FIGURES", "PaperFigure", "draw_all"]


def draw_all(groups: Sequence[Group], directory: str | Path, equalize: bool = False) -> tuple[list[Drawn], list[list[LossChange]]]:
    """Draw every figure that `groups` have the data for, in a directory that must not hold anything yet.

    A line on standard error says what is missing for each of the others. A run whose model cannot be rebuilt is left out of the
    figures that need it, with a line as well.

    Args:
        equalize: spread the histograms of the images in galleries, so that faint patterns are seen.

    Returns:
        (the PNG files, one list of `LossChange` per group)

    Raises:
        ConfigError: matplotlib is missing, or `directory` holds something or cannot be made.
    """
    new_figure(1, 1)  # a missing matplotlib is said before the work begins
    files, changes = [], {}
    with new_directory(directory) as temporary:
        for members in _by_task(groups):
            task = Task(members, equalize)
            runs = sum(len(group.directories) for group in members)
            of_runs = f"{runs} run{'s' * (runs != 1)}, up to a minute each"
            say(f"drawing figures of {members[0].dataset}, {members[0].backbone}: {of_runs} ...")
            files += _draw_task(task, temporary)
            changes |= {id(group): task.changes.get(name, []) for group, name in zip(members, task.names)}
    files = [replace(file, path=Path(directory, file.path.name)) for file in files]
    return files, [changes[id(group)] for group in groups]


def _by_task(groups):
    tasks = {}
    for group in groups:
        tasks.setdefault((group.dataset, group.backbone), []).append(group)
    return tasks.values()


def _draw_task(task, directory):
    kinds = sorted((FIGURES.get(name) for name in FIGURES.registered_names()), key=lambda kind: int(kind.number.split()[0]))
    figures = [kind(task) for kind in kinds]
    for group, name in zip(task.groups, task.names):
        for number, seed in enumerate(sorted(group.directories)):
            try:
                run = _load(group, name, seed, number)
                for figure in figures:
                    figure.look(run)
            except UserError as error:
                remedy = WITH_PLUGIN if "unknown" in str(error) else ""
                say(f"warning: no model of {group.directories[seed]} in the figures: {error}{remedy}")
    files = []
    for figure in figures:
        try:
            for kind, picture in figure.draw():
                path = directory / f"{task.stem}-{kind}.png"
                save_figure(picture, path)
                caption = f"{figure.what}: {task.title}. As {figure.published_as} of the SMM paper."
                files.append(Drawn(path, caption[0].upper() + caption[1:], described(picture)))
        except MissingError as missing:
            verb = "are" if " " in figure.number else "is"
            say(f"note: {figure.published_as} of the paper ({figure.what}) {verb} not drawn for {task.title}: {missing}")
    return files


def _load(group, name, seed, number):
    model = load_prompted(group.directories[seed])
    trainer = model.details.cfg.TRAINER.NAME
    tunes = trainer in FINE_TUNING
    if not tunes and not issubclass(TRAINER_REGISTRY.get(trainer), VisualReprogramming):
        raise ConfigError(f"{trainer} is not a visual-reprogramming trainer, nor one of {', '.join(FINE_TUNING)}")
    return TrainedRun(group, name, seed, number, model, data_of(model), prompts=not tunes)
