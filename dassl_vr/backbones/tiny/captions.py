"""The captions that the small CLIP is trained on: each names the class of an image, and perhaps its colours."""

from dassl_vr.datasets.fashion_mnist import CLASSNAMES

from . import GROUND_COLOURS, OBJECT_COLOURS

CLASSES = (*CLASSNAMES, *"0123456789")
FIRST_DIGIT = len(CLASSNAMES)

_ANY = ("{}", "a {}.", "a photo of a {}.", "a picture of a {}.", "an image of the {}.")
_CLOTHES = ("a photo of a {}, a piece of clothing.", "a photo of the {}.")
_DIGITS = ('a photo of the number: "{}".', "a photo of the digit {}.", "a handwritten {}.")
_COLOURED = ("a {object} {}.", "a photo of a {object} {}.", "a photo of a {} on {ground} ground.", "a {} on {ground}.")
_COLOURED += ("a {object} {} on {ground}.", "a photo of a {object} {} on {ground} ground.")


def class_templates(label: int) -> tuple[str, ...]:
    """Templates that name nothing but the class `label`."""
    return _ANY + (_CLOTHES if label < FIRST_DIGIT else _DIGITS)


def templates(label: int) -> tuple[str, ...]:
    """All templates for the class `label`."""
    return class_templates(label) + _COLOURED


def caption(template: str, label: int, object_colour: int = 0, ground_colour: int = 0) -> str:
    """The template filled in with the names of a class, an object colour and a ground colour (given as numbers)."""
    colours = {"object": list(OBJECT_COLOURS)[object_colour], "ground": list(GROUND_COLOURS)[ground_colour]}
    return template.format(CLASSES[label], **colours)
