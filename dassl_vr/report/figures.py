"""Figures of a set of runs, as PNG files."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..data import DataManager
from ..deploy import PromptedModel, load_prompted
from ..engine import TRAINER_REGISTRY
from ..methods import VisualReprogramming
from ..utils.errors import ConfigError, DataError, UserError
from ..utils.places import new_directory
from ..utils.text import say
from .canvas import colours, figure_text, new_figure
from .canvas import save as save_figure
from .features import TSNE_SAMPLES, features_figure
from .look import images_figure, look_at
from .loss_change import BaselineCache, LossChange, loss_change
from .runs import Group, distinct_names
from .samples import data_of, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GALLERY_IMAGES = 5


def draw_all(groups: Sequence[Group], directory: str | Path) -> tuple[list[Path], list[list[LossChange]]]:
    """Draw every figure that `groups` have the data for, in a directory that must not hold anything yet.

    A run whose model cannot be rebuilt is left out of the figures that need it, with a line on standard error.

    Returns:
        (paths of the PNG files, one list of `LossChange` a group)

    Raises:
        ConfigError: matplotlib is missing, or `directory` holds something or cannot be made.
    """
    new_figure(1, 1)  # a missing matplotlib is said before the work begins
    with new_directory(directory) as temporary:
        names, changes = _draw_all(groups, temporary)
    return [Path(directory, name) for name in names], changes


def _draw_all(groups, directory):
    """(file names, one list of `LossChange` a group)"""
    files, changes = [], {}
    baselines = BaselineCache()
    for members in _by_task(groups):
        names = distinct_names(members)
        task = f"{members[0].dataset}, {members[0].backbone}"
        stem = f"{members[0].dataset}-{members[0].backbone}"

        def save(figure, kind, stem=stem):
            path = directory / f"{_file_name(stem)}-{kind}.png"
            save_figure(figure, path)
            files.append(path.name)

        for tag in dict.fromkeys(map(_tag_without_patch, members)):
            alike = [group for group in members if _tag_without_patch(group) == tag]
            if figure := patch_size_figure(alike, ", ".join([task, tag] if tag else [task])):
                save(figure, "-".join([_file_name(tag), "patch_size"] if tag else ["patch_size"]))
        if figure := curves_figure(members, names, task):
            save(figure, "curves")
        for group, name in zip(members, names):
            changes[id(group)] = []
            for number, seed in enumerate(sorted(group.directories)):
                try:
                    model = _load(group.directories[seed])
                    data = data_of(model)
                    changes[id(group)].append(loss_change(model, data, baselines.get(model, data)))
                    if number == 0:
                        title = f"{name} on {task}, seed {seed}"
                        save(gallery_figure(model, data, title), f"{_file_name(name)}-gallery")
                        if figure := features_figure(model, data.dataset.train_x, TSNE_SAMPLES, title):
                            save(figure, f"{_file_name(name)}-features")
                except UserError as error:
                    say(f"warning: no model of {group.directories[seed]} in the figures: {error}")
        if figure := loss_change_figure([changes[id(group)] for group in members], names, task):
            save(figure, "loss_change")
    return files, [changes[id(group)] for group in groups]


def _load(directory):
    model = load_prompted(directory)
    name = model.details.cfg.TRAINER.NAME
    if not issubclass(TRAINER_REGISTRY.get(name), VisualReprogramming):
        raise ConfigError(f"{directory}: {name} is not a visual-reprogramming trainer: there is no prompted image to show")
    return model


def _by_task(groups):
    tasks = {}
    for group in groups:
        tasks.setdefault((group.dataset, group.backbone), []).append(group)
    return tasks.values()


def _tag_without_patch(group):
    """What the tags of all patch sizes of one recipe have in common: "" for `default` and `patch4`, `a` for `a` and `a-patch4`."""
    return re.sub(r"(^|-)patch\d+$|^default$", "", group.tag)


def _file_name(text):
    return re.sub(r"[^\w+.-]+", "_", text)[:100]


# ------------------------------------------------------------------------------------------------- from results.json
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
    axes.set_xlabel("side of a patch in pixels")
    axes.set_ylabel("test accuracy in %")
    axes.set_title(f"Patch size: {figure_text(task)} (mean ± std over seeds)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


def curves_figure(groups: Sequence[Group], names: Sequence[str], task: str) -> Figure | None:
    """Training loss and accuracy by epoch: the mean over seeds, and the range between them; None without a history."""
    figure = new_figure(11, 4.5)
    panels = figure.subplots(1, 2)
    drawn = False
    for group, name, colour in zip(groups, names, colours(len(groups))):
        for axes, key in zip(panels, ("loss", "acc")):
            curves = [[epoch.get(key) for epoch in run.get("history") or []] for run in group.runs.values()]
            curves = [curve for curve in curves if curve and None not in curve]
            by_epoch = list(zip(*curves))  # as long as the shortest
            if not by_epoch:
                continue
            drawn = True
            epochs = range(1, len(by_epoch) + 1)
            mark = "." if len(by_epoch) < 20 else ""
            entry = figure_text(name) if key == "loss" else None  # one legend for both panels
            axes.plot(epochs, [statistics.fmean(v) for v in by_epoch], color=colour, marker=mark, label=entry)
            axes.fill_between(epochs, [min(v) for v in by_epoch], [max(v) for v in by_epoch], color=colour, alpha=0.1, linewidth=0)
    if not drawn:
        return None
    for axes, what in zip(panels, ("training loss", "training accuracy in %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.suptitle(f"Training: {figure_text(task)} (mean and range over seeds)")
    figure.legend(loc="outside right upper")
    return figure


# -------------------------------------------------------------------------------------------------- from the models
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
    axes.set_ylabel("loss with the prompt minus loss without")
    axes.set_title(f"Change of each sample's training loss: {figure_text(task)}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


def gallery_figure(model: PromptedModel, data: DataManager, title: str) -> Figure:
    """What a model does to some test images: `look.images_figure`, an image in each row."""
    images, labels = spread(data.dataset.test, GALLERY_IMAGES)
    if not images:
        raise DataError(f"none of {len(data.dataset.test)} test images can be read")
    names = [f"test image {number}" for number in range(1, len(images) + 1)]
    return images_figure(look_at(model, images, names, labels), range(len(images)), title)
