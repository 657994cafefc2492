"""Figures of a set of runs, as PNG files."""

import re
import statistics
from pathlib import Path

import torch

from ..reprogramming.pictures import masks_of, pattern_to_rgb, unnormalize
from ..utils.errors import UserError
from ..utils.places import new_directory
from ..utils.text import say
from .analysis import BaselineCache, features_before_and_after, load_run, loss_change, sample_batches, tsne
from .canvas import figure_text, new_figure
from .canvas import save as save_figure
from .runs import distinct_names

TSNE_SAMPLES = 5000  # training images, as in the SMM paper
GALLERY_IMAGES = 5
SHORT = 18  # characters of a class in a legend
LEGEND_CLASSES = 20  # above that, a legend of classes is no help


def draw_all(groups, directory):
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
                    trainer = load_run(group.directories[seed])
                    changes[id(group)].append(loss_change(trainer, baselines.get(trainer)))
                    if number == 0:
                        save(gallery_figure(trainer, f"{name} on {task}, seed {seed}"), f"{_file_name(name)}-gallery")
                        save(features_figure(trainer, f"{name} on {task}, seed {seed}"), f"{_file_name(name)}-features")
                except UserError as error:
                    say(f"warning: no model of {group.directories[seed]} in the figures: {error}")
        if figure := loss_change_figure([changes[id(group)] for group in members], names, task):
            save(figure, "loss_change")
    return files, [changes[id(group)] for group in groups]


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


def _colours(number):
    import matplotlib

    palette = matplotlib.colormaps["tab10" if number <= 10 else "tab20"]
    return [palette(index % palette.N) for index in range(number)]


# ------------------------------------------------------------------------------------------------- from results.json
def patch_size_figure(groups, task):
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
    for group, colour in zip(masks, _colours(len(masks) + 1)[1:]):
        axes.axhline(group.mean("accuracy"), color=colour, linestyle="--", label=figure_text(group.name))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.set_xlabel("side of a patch in pixels")
    axes.set_ylabel("test accuracy in %")
    axes.set_title(f"Patch size: {figure_text(task)} (mean ± std over seeds)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


def curves_figure(groups, names, task):
    """Training loss and accuracy by epoch: the mean over seeds, and the range between them; None without a history."""
    figure = new_figure(11, 4.5)
    panels = figure.subplots(1, 2)
    drawn = False
    for group, name, colour in zip(groups, names, _colours(len(groups))):
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
def loss_change_figure(changes, names, task):
    """The change of each training sample's loss against the unprompted model, sorted; None without any.

    Args:
        changes: one list a method, of the `LossChange` of its runs; their samples are pooled.
    """
    if not any(changes):
        return None
    figure = new_figure(9, 4.8)
    axes = figure.add_subplot()
    for runs, name, colour in zip(changes, names, _colours(len(names))):
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


@torch.no_grad()
def gallery_figure(trainer, title):
    """A row a test image: input, mask (by channel, where the channels differ), pattern, what is added, result."""
    parts = list(sample_batches(trainer, GALLERY_IMAGES))
    images, labels = (torch.cat([getattr(part, key) for part in parts]) for key in ("images", "labels"))
    f_in = trainer.model.f_in
    mean, std = trainer.cfg.INPUT.PIXEL_MEAN, trainer.cfg.INPUT.PIXEL_STD
    predicted = trainer.model(images).argmax(dim=1).tolist()
    columns = [("input", unnormalize(images, mean, std))]
    masks = masks_of(f_in, images)
    limit = max((float(mask.abs().max()) for _, mask in masks), default=1.0)
    columns += masks
    if f_in.pattern() is not None:
        columns.append(("pattern", pattern_to_rgb(f_in.pattern()).expand_as(images)))
    columns.append(("added", pattern_to_rgb(f_in.added(images))))
    columns.append(("result", unnormalize(f_in(images), mean, std)))

    rows = len(images)
    figure = new_figure(1.55 * len(columns) + 1.4, 1.75 * rows + 0.9)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, (heading, pictures) in enumerate(columns):
        for row, picture in enumerate(pictures.cpu()):
            axes = grid[row][column]
            axes.set_xticks([])
            axes.set_yticks([])
            if picture.dim() == 2:  # a mask: real numbers, white at zero
                shown = axes.imshow(picture.numpy(), cmap="bwr", vmin=-limit, vmax=limit)
            else:
                axes.imshow(picture.permute(1, 2, 0).numpy())
            if row == 0:
                axes.set_title(heading, fontsize=10)
    for row, (target, prediction) in enumerate(zip(labels.tolist(), predicted)):
        truth, said = (figure_text(trainer.lab2cname[index], SHORT) for index in (target, prediction))
        grid[row][0].set_ylabel(f"true: {truth}", fontsize=9)
        grid[row][-1].set_xlabel(f"predicted: {said}", fontsize=9, color="green" if target == prediction else "red")
    if masks:
        figure.colorbar(shown, ax=grid, location="right", fraction=0.03, label="mask")
    figure.suptitle(figure_text(title))
    return figure


def features_figure(trainer, title):
    """t-SNE of the pre-trained model's outputs for up to `TSNE_SAMPLES` training images, without and with the prompt."""
    before, after, labels = features_before_and_after(trainer, TSNE_SAMPLES)
    names = [trainer.lab2cname[target] for target in range(trainer.num_classes)]
    return scatter_figure({"without the prompt": before, "with the prompt": after}, labels, names, title)


def scatter_figure(panels, labels, names, title):
    """t-SNE of several sets of features of the same images, side by side.

    Args:
        panels: {heading: (N, D)}.
        labels: (N,) classes, for the colours.
        names: of the classes.
    """
    few = len(names) <= LEGEND_CLASSES
    figure = new_figure(5.5 * len(panels) + (1.5 if few else 0), 5.2)
    colours = _colours(len(names)) if few else _hues(len(names))
    size = 18 if len(labels) < 1000 else 5
    for number, (axes, (heading, features)) in enumerate(zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items())):
        points = tsne(features)
        for target, colour in enumerate(colours):
            mine = points[(labels == target).numpy()]
            name = figure_text(names[target], SHORT) if few and number == 0 else None
            axes.scatter(mine[:, 0], mine[:, 1], s=size, color=[colour], linewidths=0, label=name)
        axes.set_title(heading, fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
    what = f"{len(labels)} images" + ("" if few else f", a colour for each of {len(names)} classes")
    figure.suptitle(f"Features (t-SNE): {figure_text(title)}\n{what}")
    if few:
        figure.legend(loc="outside right upper", markerscale=2 if size < 10 else 1)
    return figure


def _hues(number):
    import matplotlib

    return [matplotlib.colormaps["hsv"](index / number) for index in range(number)]
