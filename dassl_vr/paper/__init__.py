"""The tables of the SMM paper (Cai et al., ICML 2024): what each trains, what it shows, and the numbers that it publishes.

A table is a file in `tables`, which is found automatically, or in a plug-in:

    @PAPER_REGISTRY.register(name="margins")
    class Margins(PaperTable):
        title = "SMM with several margins"
        backbones, datasets = ("rn18",), ("cifar10",)

        def variants(self) -> list[Variant]:
            return [Variant(f"margin {n}", "SMM", tag=f"margin{n}", settings={"INPUT.MARGIN": n}) for n in (16, 32)]
"""

from .table import DATASETS, PAPER_REGISTRY, PaperTable, Published, Quick, Variant, paper_table, published_for, published_of
from .tables import load_tables

load_tables()
