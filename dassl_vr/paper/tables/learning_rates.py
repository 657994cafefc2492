"""Table 7: the rate of the mask generator on a transformer, and whether it decays."""

from ..table import PAPER_REGISTRY, PaperTable, Quick, Variant

RATES, DECAYS = (0.1, 0.01, 0.001, 0.0001), (1.0, 0.1)


def rate_variant(rate: float, decay: float) -> Variant:
    """SMM with another rate of its generator, and the factor at the two epochs at which rates fall."""
    settings = {"TRAINER.SMM.MASK_LR": rate, "TRAINER.SMM.MASK_GAMMA": decay}
    return Variant(f"rate {rate:g}, decay {decay:g}", "SMM", tag=f"rate{rate:g}-decay{decay:g}", settings=settings)


@PAPER_REGISTRY.register(name="learning_rates")
class LearningRates(PaperTable):
    title = "rates of the mask generator with and without decay, ViT-B/32, CIFAR10 (table 7)"
    backbones, datasets = ("vit_b32",), ("cifar10",)
    quick = Quick(backbones=("tiny_vit",))
    rows = "generator"

    def variants(self) -> list[Variant]:
        return [rate_variant(rate, decay) for rate in RATES for decay in DECAYS]
