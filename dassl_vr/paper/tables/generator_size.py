"""Table 11: mask generators of six sizes."""

from ..columns import TRAIN_ACCURACY, TRAINED
from ..table import PAPER_REGISTRY, PaperTable, Variant

# Factor on the generator's channels -> its parameters
SIZES = {0.5: 7_203, 1: 26_499, 2: 101_379, 4: 396_291, 8: 1_566_723, 16: 6_230_019}


@PAPER_REGISTRY.register(name="generator_size")
class GeneratorSize(PaperTable):
    title = "mask generators of 7,203 to 6,230,019 parameters, ResNet-18, EuroSAT (table 11)"
    datasets = ("eurosat",)
    rows = "generator"
    columns = {**TRAIN_ACCURACY, **TRAINED}

    def variants(self) -> list[Variant]:
        return [
            Variant(f"{number:,}", "SMM", tag=f"width{factor:g}", settings={"TRAINER.SMM.WIDTH": float(factor)})
            for factor, number in SIZES.items()
        ]
