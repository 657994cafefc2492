"""What the pictures of a model show, in words that are true of its method."""

import inspect

import torch

from ..deploy import PromptedModel
from ..engine import TRAINER_REGISTRY
from ..prompting import AdaptedBackbone
from ..reprogramming.pictures import pattern_of
from .look import Look
from .seen import input_prompt_of


def about_model(model: PromptedModel) -> list[str]:
    """What the method is: the first paragraphs of the trainer's docstring and the f_in's, and what was trained."""
    trainer = TRAINER_REGISTRY.get(model.details.cfg.TRAINER.NAME)
    f_in = input_prompt_of(model)
    texts = [_first_paragraph(trainer), "" if f_in is None else _first_paragraph(type(f_in))]
    parts = []
    for name, module in model.details.modules.items():
        number = sum(parameter.numel() for parameter in module.parameters())
        parts.append(f"`{name}` ({number:,} parameter{'s' * (number != 1)})")
    texts.append(f"Trained: {', '.join(parts)}." if parts else "Nothing is trained.")
    return list(dict.fromkeys(filter(None, texts)))


def _first_paragraph(cls):
    return " ".join(inspect.cleandoc(vars(cls).get("__doc__") or "").partition("\n\n")[0].split())


def about_pictures(look: Look) -> list[tuple[str, str]]:
    """[(name of a kind of picture, what it shows)] for the rows of images."""
    model, shown = look.model, look.pictures
    f_in, frozen = input_prompt_of(model), model.details.backbone.frozen
    own = {} if f_in is None else f_in.captions()
    side = "{} x {}".format(*look.x.shape[-2:])
    terms = []
    if look.prepares:
        terms = [("image", f"Resized to {side} pixels, as the backbone would see it without the method.")]
    room = " smaller, on black, so that there is room around it" if "vr_pad" in model.details.cfg.INPUT.TRANSFORMS else ""
    views = 1 if f_in is None else f_in.views
    several = f" {views} views side by side, each of which goes through the backbone." if views > 1 else ""
    if shown is None:
        terms.append(("input", f"{_prepared(look, side, room)} The backbone sees these very pixels: {_where_it_learns(model)}"))
    else:
        terms.append(("input", f"{_prepared(look, side, room)}{several}"))
        if shown.masks:
            numbers = torch.cat([mask.flatten() for _, mask in shown.masks])
            colours = "Over the image in grey: red above 0, blue below, the bare image at 0"
            scale = f"{colours}; {_range(numbers)}, one scale for all images."
            terms.append(("mask", f"{own.get('mask', 'What the method makes of this image.')} {scale}"))
        change = own.get("change", "All that the method does to the input.")
        terms.append(
            (
                "change",
                f"{change} Result minus input, stretched to be seen: grey where they are the same, one scale for all images.",
            )
        )
        terms.append(("result", f"What the {'frozen' if frozen else 'trained'} backbone sees."))
    if look.before is not None:
        terms.append(("before", f"What is likeliest without the method ({look.before_what}), with probabilities."))
    terms.append(("after", "The likeliest classes to the trained model; the true class is marked where it is known."))
    return terms


def _prepared(look, side, room):
    if look.prepares and not room:
        return "The image as it is prepared for the method."
    return f"The image{room or f', resized to {side} pixels'}."


def _where_it_learns(model):
    if not model.details.modules:
        return "nothing is trained."
    if getattr(model.network, "changes_images", False):
        return "what is learned acts inside of its image tower and its text tower."
    if any(isinstance(module, AdaptedBackbone) for module in model.network.modules()):
        return "what is learned acts inside of it."
    if not model.details.backbone.frozen:
        return "its own weights are trained."
    return "what is learned lies behind it, or in the text."


def alt_of_picture(heading: str, picture: torch.Tensor) -> str:
    """What a picture of a row is, with the numbers of a mask."""
    if picture.dim() == 2:
        mean = "" if picture.min() == picture.max() else f", mean {float(picture.mean()):.2g}"
        return f"{heading}, {_range(picture)}{mean}"
    return heading


def _range(numbers):
    if numbers.min() == numbers.max():
        return f"{float(numbers.min()):.2g} everywhere"
    return f"values from {float(numbers.min()):.2g} to {float(numbers.max()):.2g}"


@torch.no_grad()
def alt_of_pattern(model: PromptedModel) -> str:
    """What the figure of the pattern shows, with its size and range."""
    pattern = pattern_of(input_prompt_of(model)).float()
    _, height, width = pattern.shape
    used = 100 * float((pattern != 0).any(dim=0).float().mean())
    return f"The pattern in colour and by colour: {height} x {width} pixels, {_range(pattern)}, {used:.0f} % of the pixels not zero"
