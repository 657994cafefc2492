"""Figures of what a trained model does to some images, for `visualize.py` and TensorBoard."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ..deploy import PromptedModel
from ..prompting import ContextPrompts
from ..reprogramming.pictures import PromptPictures, named_edges, pattern_of, pattern_to_rgb, unnormalize
from .canvas import figure_text, new_figure, without_ticks
from .seen import input_prompt_of, pictures_of, run_and_record
from .unprompted import UnpromptedModel, plain_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = 5  # classes in the bar charts
MAPPED = 40  # target classes in the picture of the mapping
EDGES = 3  # source classes a target class there, where several count


@dataclass
class Look:
    """A model and its outputs for N images.

    Attributes:
        model: a `PromptedModel` with `details`.
        x: (N, 3, S, S) as the prompt gets them; `plain` the same unprompted: resized to the model's side and normalized.
        seen: what the backbone saw of them, see `run_and_record`.
        names: N, of the images; `labels`: (N,) their classes, or None where these are not known.
        before: N lists of (class, probability) of the unprompted model, or None where it has no classes.
        before_what: what these classes are.
        probabilities: (N, K) of the model's classes.
    """

    model: PromptedModel
    x: torch.Tensor
    plain: torch.Tensor
    seen: torch.Tensor
    names: list
    labels: torch.Tensor | None
    before: list | None
    before_what: str
    probabilities: torch.Tensor

    @functools.cached_property
    def after(self) -> list[list[tuple[str, float]]]:
        """N lists of (class, probability), the likeliest ones."""
        return _top(self.probabilities, self.model.classnames)

    def unprompted(self) -> torch.Tensor:
        """The images as they would be without a prompt, (N, 3, S, S) RGB."""
        return self._rgb(self.plain)

    def _rgb(self, x):
        cfg = self.model.details.cfg
        return unnormalize(x, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD).cpu()

    @functools.cached_property
    def pictures(self) -> PromptPictures | None:
        """What the model does to all of the images; None where the backbone sees them as they are."""
        return pictures_of(self.model, self.x, self.seen)

    @functools.cached_property
    def prepares(self) -> bool:
        """The prompt gets the images otherwise than an unprompted model would: on a canvas with room around them."""
        return not torch.equal(self.x, self.plain)

    def panels(self, indices: Sequence[int]) -> list[tuple[str, torch.Tensor]]:
        """[(heading, pictures of some of the images)] from the image to what the backbone sees: (B, 3, S, S) RGB, masks (B, S, S).

        "image" is there where the prompt gets another "input".
        """
        rows, shown = list(indices), self.pictures
        found = [("image", self._rgb(self.plain[rows]))] if self.prepares else []
        if shown is None:
            return [*found, ("input", self._rgb(self.x[rows]))]
        masks = [(name, mask[rows]) for name, mask in shown.masks]
        return [*found, ("input", shown.inputs[rows]), *masks, ("change", shown.added[rows]), ("result", shown.results[rows])]

    @property
    def limit(self) -> float:
        """The largest magnitude of all masks of all images; 1 without."""
        return 1.0 if self.pictures is None else self.pictures.limit

    def truth(self, index: int) -> str | None:
        """The class of an image, if it is known."""
        return None if self.labels is None else self.model.classnames[int(self.labels[index])]


@torch.no_grad()
def look_at(model: PromptedModel, images: Sequence[Image.Image], names: Sequence[str], labels: torch.Tensor | None = None) -> Look:
    """The `Look` of a model at PIL images."""
    x = model.normalize(model.preprocess(images).to(model.device))
    plain = plain_images(model, images, x)
    unprompted = UnpromptedModel(model)
    before = None
    if unprompted.classes:
        scores = torch.cat([unprompted.logits(part) for part in plain.split(model.batch_size)]).softmax(dim=1)
        before = _top(scores, unprompted.classes)
    logits, seen = run_and_record(model, x)
    return Look(model, x, plain, seen, list(names), labels, before, unprompted.what, logits.softmax(dim=1).cpu())


def _top(probabilities, classes):
    values, indices = probabilities.float().cpu().topk(min(TOP, len(classes)), dim=1)
    return [[(classes[i], v) for v, i in zip(*row, strict=True)] for row in zip(values.tolist(), indices.tolist(), strict=True)]


def title_of(model: PromptedModel) -> str:
    """The trainer, with the method where that is another name, the data set and the backbone."""
    cfg = model.details.cfg
    method = cfg.TRAINER.get(cfg.TRAINER.NAME.upper(), {}).get("METHOD", "")
    name = cfg.TRAINER.NAME + (f" ({method})" if method and method.lower() != cfg.TRAINER.NAME.lower() else "")
    return f"{name} on {model.details.data_name}, {cfg.MODEL.BACKBONE.NAME}"


# ---------------------------------------------------------------------------------------------------- the images
def image_figure(look: Look, index: int) -> Figure:
    """`images_figure` of one image."""
    return images_figure(look, [index], _title(look, index))


def stacked_figure(look: Look, index: int) -> Figure:
    """`image_figure` with the pictures above the charts, for a place that is not wide."""
    columns, charts, truth = look.panels([index]), _charts(look), look.truth(index)
    figure = new_figure(6.4, 3.8)
    above, below = figure.subfigures(2, 1, height_ratios=(1.0, 1.25))
    grid = above.subplots(1, len(columns), squeeze=False)
    grey = dict(columns)["input"].mean(dim=1)[0].numpy()
    for axes, (heading, pictures) in zip(grid[0], columns):
        shown = _picture(axes, pictures[0], grey, look.limit)
        axes.set_title(heading.replace(", ", "\n") if len(columns) > 4 else heading, fontsize=9)
        if pictures.dim() == 3:
            colours = shown
    if any(pictures.dim() == 3 for _, pictures in columns):
        above.colorbar(colours, ax=list(grid[0]), location="right", fraction=0.03, pad=0.01).ax.tick_params(labelsize=7)
    for axes, (heading, classes) in zip(below.subplots(1, len(charts), squeeze=False)[0], charts):
        _bars(axes, heading, classes[index], truth)
    figure.suptitle(_title(look, index), fontsize=10)
    return figure


def images_figure(
    look: Look, indices: Sequence[int], title: str, adjust: Callable[[torch.Tensor], torch.Tensor] = torch.clone
) -> Figure:
    """A row for each image: input, masks as heat maps on it, what is changed, result; the likeliest classes before and after.

    Masks have the scale of all images of the `Look`, and so has the change.

    `adjust` is done to the pictures in colour, (B, 3, S, S) RGB.
    """
    columns, limit = look.panels(indices), look.limit
    masks = sum(pictures.dim() == 3 for _, pictures in columns)
    grey_inputs = dict(columns)["input"].mean(dim=1)
    columns = [(heading, pictures if pictures.dim() == 3 else adjust(pictures)) for heading, pictures in columns]
    charts = _charts(look)

    rows, widths = len(indices), [1.0] * len(columns) + [1.4] * len(charts)
    figure = new_figure(1.45 * len(columns) + 2.5 * len(charts), 1.65 * rows + (0.65 if masks else 0.45))
    grid = figure.subplots(rows, len(widths), width_ratios=widths, squeeze=False)
    shown = None
    for row, index in enumerate(indices):
        grey = grey_inputs[row].numpy()
        for axes, (heading, pictures) in zip(grid[row], columns):
            drawn = _picture(axes, pictures[row], grey, limit)
            shown = drawn if pictures.dim() == 3 else shown
            if row == 0:
                axes.set_title(heading, fontsize=9)
        for axes, (heading, classes) in zip(grid[row][len(columns) :], charts):
            _bars(axes, heading if row == 0 else "", classes[index], look.truth(index))
        if rows > 1:
            truth = look.truth(index)
            of_class = "" if truth is None else f"\ntrue: {figure_text(truth, 18)}"
            grid[row][0].set_ylabel(figure_text(look.names[index], 24) + of_class, fontsize=8)
    if shown is not None:
        places = list(grid[:, : len(columns)].flat)  # of all pictures, so that all stay in line
        size = {"fraction": 0.06 / rows, "pad": 0.03 / rows, "aspect": 40, "shrink": masks / len(columns)}
        colours = figure.colorbar(shown, ax=places, location="bottom", **size)
        colours.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    return figure


def _title(look, index):
    truth = look.truth(index)
    return figure_text(look.names[index]) + ("" if truth is None else f" (true class: {figure_text(truth, 34)})")


def _charts(look):
    """[(heading, N lists of (class, probability))]; on two lines, for no room is made for a heading wider than its chart."""
    charts = [(f"after: classes of\n{figure_text(look.model.details.data_name, 24)}", look.after)]
    return charts if look.before is None else [(f"before:\n{look.before_what}", look.before), *charts]


def _picture(axes, picture, grey, limit):
    """Draw (3, H, W) RGB, or a mask (H, W): white at zero, over the image in grey, whose colours are returned."""
    without_ticks(axes)
    if picture.dim() == 3:
        return axes.imshow(picture.permute(1, 2, 0).numpy())
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
    return axes.imshow(picture.numpy(), cmap="bwr", vmin=-limit, vmax=limit, alpha=0.65)


def _bars(axes, heading, classes, truth):
    names, values = [figure_text(name, 22) for name, _ in classes], [100 * value for _, value in classes]
    colours = ["tab:green" if name == truth else "tab:blue" for name, _ in classes]
    axes.barh(range(len(names)), values, color=colours, height=0.7)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 128)  # room for the numbers behind the bars
    axes.set_xticks([0, 50, 100])
    axes.tick_params(axis="x", labelsize=7)
    for row, value in enumerate(values):
        axes.text(value + 2, row, f"{value:.0f} %" if value >= 0.5 else "< 1 %", va="center", fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(heading, fontsize=9)


# ------------------------------------------------------------------------------------------------------ the model
@torch.no_grad()
def pattern_figure(model: PromptedModel) -> Figure | None:
    """The pattern alone: in colour, and each channel with its sign; None where there is none."""
    f_in = input_prompt_of(model)
    pattern = None if f_in is None else pattern_of(f_in)
    if pattern is None:
        return None
    pattern = pattern.float().cpu()
    figure = new_figure(10.5, 2.9)
    grid = figure.subplots(1, 4)
    grid[0].imshow(pattern_to_rgb(pattern).permute(1, 2, 0).numpy())
    grid[0].set_title("pattern, grey = 0", fontsize=9)
    limit = max(float(pattern.abs().max()), 1e-12)
    for axes, channel, colour in zip(grid[1:], pattern, ("red", "green", "blue")):
        shown = axes.imshow(channel.numpy(), cmap="bwr", vmin=-limit, vmax=limit)
        axes.set_title(f"pattern, {colour}", fontsize=9)
    for axes in grid:
        without_ticks(axes)
    figure.colorbar(shown, ax=list(grid[1:]), location="right", fraction=0.03)
    return figure


def mapping_edges(model: PromptedModel) -> list[tuple[str, str, float]]:
    """[(target class, source class, share)], strongest first for each target class; [] where there is no mapping of labels."""
    return named_edges(model.network, model.classnames, EDGES)


def mapping_figure(model: PromptedModel) -> Figure | None:
    """The label mapping as a bipartite picture, source classes left, target classes right; None where there is none."""
    edges = mapping_edges(model)
    if not edges:
        return None
    targets = model.classnames[:MAPPED]
    edges = [edge for edge in edges if edge[0] in targets]
    sources = list(dict.fromkeys(source for _, source, _ in edges))  # in the order of the targets: lines hardly cross
    rows = max(len(targets), len(sources))
    figure = new_figure(7.5, 0.9 + 0.24 * rows)
    axes = figure.add_subplot()

    def height(position, number):
        return (position + 0.5) * rows / number

    places = {name: height(position, len(sources)) for position, name in enumerate(sources)}
    ends = {name: height(position, len(targets)) for position, name in enumerate(targets)}
    strongest = max(share for *_, share in edges)
    for target, source, share in edges:
        strength = share / max(strongest, 1e-12)
        axes.plot(
            [0, 1], [places[source], ends[target]], color=f"C{targets.index(target) % 10}", linewidth=0.6 + 2 * strength, alpha=0.75
        )
    for x, side, names in ((-0.03, "right", places), (1.03, "left", ends)):
        for name, y in names.items():
            axes.text(x, y, figure_text(name, 34), ha=side, va="center", fontsize=8)
    axes.set_xlim(-1.0, 2.0)
    axes.set_ylim(rows, 0)
    axes.set_axis_off()
    left = len(model.classnames) - len(targets)
    more = f" (the first {len(targets)} of {len(model.classnames)})" if left else ""
    axes.set_title(f"source class of the backbone   →   target class{more}", fontsize=10)
    return figure


@torch.no_grad()
def context_words(model: PromptedModel, number: int = 3) -> list[tuple[int, list[tuple[str, float]]]]:
    """For prompts of text: [(context vector, [(nearest word, distance), ...])]; [] for other methods, or a vocabulary that cannot
    be spelled out. A class-specific context gives those of the first class."""
    prompts = getattr(model.network, "prompts", None)
    backbone = model.details.backbone
    decoder = getattr(getattr(backbone, "tokenizer", None), "decoder", None)
    if not isinstance(prompts, ContextPrompts) or not decoder:
        return []
    context = prompts.context if prompts.context.dim() == 2 else prompts.context[0]
    tokens = torch.tensor(sorted(decoder), device=context.device)
    distances = torch.cdist(context.float(), backbone.token_embeddings(tokens).float())  # (M, vocabulary)
    values, indices = distances.topk(number, dim=1, largest=False)
    words = [[decoder[int(tokens[i])].replace("</w>", "") for i in row] for row in indices.tolist()]
    return [(position + 1, list(zip(*row, strict=True))) for position, row in enumerate(zip(words, values.tolist(), strict=True))]
