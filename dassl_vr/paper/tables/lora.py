"""Table 13: LoRA of rank 6 against SMM on a large transformer, both with a trained head."""

from collections.abc import Mapping
from typing import Any

from ..columns import TRAINED
from ..setting import images_of_the_paper
from ..table import DATASETS, PAPER_REGISTRY, SMALL_SIDE, PaperTable, Quick, Variant


@PAPER_REGISTRY.register(name="lora")
class Lora(PaperTable):
    title = "LoRA and SMM with a trained head, ViT-L at 384, 10 epochs (table 13)"
    backbones = ("vit_l16_384",)
    quick = Quick(backbones=("tiny_vit",))
    columns = TRAINED
    averages = {"average of 32 px": SMALL_SIDE, "average of 128 px": [name for name in DATASETS if name not in SMALL_SIDE]}

    def variants(self) -> list[Variant]:
        smm = Variant("smm + head", "SMM", tag="mapping-head", settings={"TRAINER.SMM.MAPPING": "head"})
        return [Variant("lora", "LoRA", settings={"TRAINER.LORA.MAPPING": "head", "TRAINER.LORA.RANK": 6}), smm]

    def setting(self, variant: Variant, backbone: str, dataset: str) -> Mapping[str, Any]:
        # What the paper states of it; rates and batches are the recipes' own
        setting = {**images_of_the_paper(backbone), "OPTIM.MAX_EPOCH": 10, **variant.settings}
        return setting | {"TRAINER.SMM.LAYERS": 6, "TRAINER.SMM.PATCH_SIZE": 8} if variant.trainer == "SMM" else setting
