"""Table 14: a trained head alone, and with SMM in front of the backbone, under SMM's recipe."""

from ..columns import TRAINED
from ..table import PAPER_REGISTRY, PaperTable, Variant


@PAPER_REGISTRY.register(name="finetuning")
class Finetuning(PaperTable):
    title = "a trained head alone, and SMM with one, ResNet-50, the same recipe (table 14)"
    backbones = ("rn50",)
    columns = TRAINED

    def variants(self) -> list[Variant]:
        head = Variant("head", "LinearProbe", tag="smm-recipe", recipe_of="SMM")
        return [head, Variant("smm + head", "SMM", tag="mapping-head", settings={"TRAINER.SMM.MAPPING": "head"})]
