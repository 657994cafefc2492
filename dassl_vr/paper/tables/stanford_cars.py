"""Table 12: a data set on which every way to reprogram these backbones fails."""

from ..table import PAPER_REGISTRY
from .methods import Methods


@PAPER_REGISTRY.register(name="stanford_cars")
class StanfordCars(Methods):
    title = "the shared masks and SMM on StanfordCars, three backbones (table 12)"
    backbones, datasets = ("rn18", "rn50", "vit_b32"), ("stanford_cars",)
