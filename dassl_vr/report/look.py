"""What a trained model does to some images, as figures: `visualize.py` and TensorBoard show them."""

import contextlib
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..backbones.from_cfg import backbone_from_cfg
from ..data.datasets import read_item_image
from ..data.transforms import plain_pipeline
from ..prompting import ContextPrompts, FixedClassifier, MultimodalClassifier, fill_in
from ..reprogramming.classifier import FeatureSource, ReprogrammedClassifier, source_on
from ..reprogramming.pictures import masks_of, pattern_to_rgb, unnormalize
from ..utils.images import UnreadableImageError
from .analysis import random_indices
from .canvas import figure_text, new_figure
from .figures import scatter_figure

TOP = 5  # classes in the bar charts
MAPPED = 40  # target classes in the picture of the mapping
FEW = 10  # images below which t-SNE shows nothing
EDGES = 3  # source classes a target class there, where several count


@dataclass
class Look:
    """A model and what it makes of N images.

    Attributes:
        model: a `PromptedModel` with `details`.
        x: (N, 3, S, S) as the prompt gets them; `plain` the same unprompted: resized to the model's side and normalized.
        names: N, of the images; `labels`: (N,) their classes, or None where these are not known.
        before: N lists of (class, probability) of the unprompted model, or None where it has no classes.
        before_what: what these classes are.
        after: N lists of (class, probability).
    """

    model: object
    x: torch.Tensor
    plain: torch.Tensor
    names: list
    labels: torch.Tensor | None
    before: list | None
    before_what: str
    after: list

    @property
    def f_in(self):
        """The input transformation, or None where nothing is done to the pixels."""
        f_in = getattr(self.model.network, "f_in", None)
        return None if f_in is None or f_in.changes_nothing else f_in

    def to_rgb(self, images):
        cfg = self.model.details.cfg
        return unnormalize(images, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD).cpu()


@torch.no_grad()
def look_at(model, images, names, labels=None):
    """The `Look` of a model at PIL images."""
    device, size = model.device, model.batch_size
    x = model.normalize(model.preprocess(images).to(device))
    plain = plain_images(model, images, x)
    unprompted = UnpromptedModel(model)
    before = None
    if unprompted.classes:
        scores = torch.cat([unprompted.logits(part) for part in plain.split(size)]).softmax(dim=1)
        before = _top(scores, unprompted.classes)
    after = torch.cat([model.network(part) for part in x.split(size)]).float().softmax(dim=1)
    return Look(model, x, plain, list(names), labels, before, unprompted.what, _top(after, model.classnames))


def plain_images(model, images, x):
    """(N, 3, S, S) images as the backbone would see them without any prompt: `x`, but for methods that make room around them."""
    cfg = model.details.cfg
    if "vr_pad" not in cfg.INPUT.TRANSFORMS:
        return x
    pipeline = plain_pipeline(cfg, normalize="normalize" in cfg.INPUT.TRANSFORMS)
    return torch.stack([pipeline(image) for image in images]).to(model.device)


class UnpromptedModel:
    """The pre-trained model as it was: its own classes, or for a CLIP the target classes in the data set's template."""

    def __init__(self, model):
        cfg, backbone = model.details.cfg, model.details.backbone
        if not backbone.frozen:  # fine-tuned: the model before that is built anew
            backbone = backbone_from_cfg(cfg, backbone.precision).to(model.device)
        self.backbone = backbone
        if backbone.kind == "clip":
            self.classes, self.what = model.classnames, "CLIP without training"
            network = FixedClassifier(backbone, [[fill_in(cfg.DATASET.TEMPLATE, name)] for name in model.classnames])
            self.logits = network.to(model.device)
        else:
            self.classes, self.what = backbone.source_classes, "source classes"
            self.logits = backbone.logits


def _top(probabilities, classes):
    values, indices = probabilities.float().cpu().topk(min(TOP, len(classes)), dim=1)
    return [[(classes[i], v) for v, i in zip(*row, strict=True)] for row in zip(values.tolist(), indices.tolist(), strict=True)]


# ----------------------------------------------------------------------------------------------------- one image
@torch.no_grad()
def image_figure(look, index):
    """One image: input, masks as heat maps on it, what is added, result; the likeliest classes before and after."""
    x = look.x[index : index + 1]
    f_in, columns, masks = look.f_in, [("input", look.to_rgb(x)[0])], []
    if f_in is not None:
        masks = [(name, mask[0].float().cpu()) for name, mask in masks_of(f_in, x)]
        columns += masks
        heading = "mask x pattern" if masks and f_in.pattern() is not None else "added"
        columns.append((heading, pattern_to_rgb(f_in.added(x))[0].cpu()))
        columns.append(("result", look.to_rgb(f_in(x))[0]))
    charts = [("after: " + figure_text(f"classes of {look.model.details.cfg.DATASET.NAME}", 28), look.after[index])]
    if look.before is not None:
        charts.insert(0, (f"before: {look.before_what}", look.before[index]))

    widths = [1.0] * len(columns) + [1.4] * len(charts)
    figure = new_figure(1.45 * len(columns) + 2.5 * len(charts), 2.3 if masks else 2.1)
    grid = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    limit = max((float(mask.abs().max()) for _, mask in masks), default=1.0)
    grey = columns[0][1].mean(dim=0).numpy()
    shown = None
    for axes, (heading, picture) in zip(grid, columns):
        if picture.dim() == 2:  # a mask: white at zero, over the image in grey
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
            shown = axes.imshow(picture.numpy(), cmap="bwr", vmin=-limit, vmax=limit, alpha=0.65)
        else:
            axes.imshow(picture.permute(1, 2, 0).numpy())
        _no_ticks(axes)
        axes.set_title(heading, fontsize=9)
    if shown is not None:
        colours = figure.colorbar(shown, ax=list(grid[1 : 1 + len(masks)]), location="bottom", fraction=0.06, aspect=40, pad=0.03)
        colours.ax.tick_params(labelsize=7)
    truth = None if look.labels is None else look.model.classnames[int(look.labels[index])]
    for axes, (heading, classes) in zip(grid[len(columns) :], charts):
        _bars(axes, heading, classes, truth)
    of_class = "" if truth is None else f" (true class: {figure_text(truth, 34)})"
    figure.suptitle(figure_text(look.names[index]) + of_class, fontsize=10)
    return figure


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
def pattern_figure(model):
    """The pattern alone: in colour, and each channel with its sign; None where there is none."""
    f_in = getattr(model.network, "f_in", None)
    pattern = None if f_in is None else f_in.pattern()
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
        _no_ticks(axes)
    figure.colorbar(shown, ax=list(grid[1:]), location="right", fraction=0.03)
    return figure


def mapping_edges(model):
    """[(target class, source class, share)], strongest first for each target class; [] where there is no mapping of labels."""
    if not isinstance(model.network, ReprogrammedClassifier):
        return []
    names, sources = model.classnames, model.network.backbone.source_classes
    return [(names[target], sources[source], share) for target, source, share in model.network.f_out.edges(EDGES)]


def mapping_figure(model):
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
def features_before_after(model, batches):
    """{heading: (N, D)} of images for t-SNE: unprompted and prompted, or once where the method leaves them as they are.

    With a reprogrammed classifier these are the outputs of its source, before the label mapping; else image features.

    Args:
        batches: of (x, plain) as in `Look`.
    """
    network, pretrained = model.network, UnpromptedModel(model).backbone
    directions = model.details.backbone.kind == "clip"  # features of a CLIP are compared by their directions
    if isinstance(network, ReprogrammedClassifier):
        source = network.backbone
        before, after = source_on(source, pretrained).logits, lambda x: source.logits(network.f_in(x))
        directions = directions and isinstance(source, FeatureSource)
    else:
        before, after = pretrained.features, network.image_features if isinstance(network, MultimodalClassifier) else None
    parts = [(before(plain), after(x) if after else None) for x, plain in batches]
    if not parts:
        return {}
    features = [torch.cat(column).float().cpu() for column in zip(*parts, strict=True) if column[0] is not None]
    if directions:
        features = [F.normalize(column, dim=1) for column in features]
    if len(features) == 1 or torch.allclose(*features, atol=1e-5):
        return {"image features (this method leaves them as they are)": features[0]}
    return {"without the prompt": features[0], "with the prompt": features[1]}


def random_items(items, number):
    """`number` of a list of `Datum` (or all), drawn at random, always the same ones."""
    return [items[position] for position in random_indices(len(items), number).tolist()]


def features_figure_of(model, items, title):
    """t-SNE of `features_before_after` of the images of a list of `Datum`; those that cannot be read are left out, and below `FEW`
    there is no figure (None)."""
    labels = []

    def batches():  # as they are needed: thousands of photographs are not held at once
        for start in range(0, len(items), model.batch_size):
            images = []
            for item in items[start : start + model.batch_size]:
                with contextlib.suppress(UnreadableImageError):
                    images.append(read_item_image(item))
                    labels.append(item.label)
            if images:
                x = model.normalize(model.preprocess(images).to(model.device))
                yield x, plain_images(model, images, x)

    features = features_before_after(model, batches())
    if len(labels) < FEW:
        return None
    return scatter_figure(features, torch.tensor(labels), model.classnames, title)


@torch.no_grad()
def context_words(model, number=3):
    """For prompts of text: [(context vector, [(nearest word, distance), ...])]; [] for other methods, or a vocabulary that cannot
    be spelled out. A class-specific context gives those of the first class."""
    prompts = getattr(model.network, "prompts", None)
    backbone = model.details.backbone
    decoder = getattr(getattr(backbone, "_tokenizer", None), "decoder", None)
    if not isinstance(prompts, ContextPrompts) or not decoder:
        return []
    context = prompts.context if prompts.context.dim() == 2 else prompts.context[0]
    tokens = torch.tensor(sorted(decoder), device=context.device)
    distances = torch.cdist(context.float(), backbone.token_embeddings(tokens).float())  # (M, vocabulary)
    values, indices = distances.topk(number, dim=1, largest=False)
    words = [[decoder[int(tokens[i])].replace("</w>", "") for i in row] for row in indices.tolist()]
    return [(position + 1, list(zip(*row, strict=True))) for position, row in enumerate(zip(words, values.tolist(), strict=True))]


def _no_ticks(axes):
    axes.set_xticks([])
    axes.set_yticks([])
