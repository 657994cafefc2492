"""Table 8: UCF101 on a transformer with the rates of table 2, and with better ones."""

from ..table import PAPER_REGISTRY, PaperTable, Quick, Variant
from .learning_rates import rate_variant


@PAPER_REGISTRY.register(name="ucf101_rates")
class Ucf101Rates(PaperTable):
    title = "two rates of the mask generator, ViT-B/32, UCF101 (table 8)"
    backbones, datasets = ("vit_b32",), ("ucf101",)
    quick = Quick(backbones=("tiny_vit",))
    rows = "generator"

    def variants(self) -> list[Variant]:
        return [rate_variant(0.001, 1.0), rate_variant(0.01, 0.1)]
