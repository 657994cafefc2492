"""Table 3: what the pattern, the mask, and its three channels contribute."""

from ..table import PAPER_REGISTRY, PaperTable, Variant


@PAPER_REGISTRY.register(name="ablation")
class Ablation(PaperTable):
    title = "only the pattern, only the mask, one channel, and SMM (table 3)"

    def variants(self) -> list[Variant]:
        # `x + delta` without a mask is the full watermark
        only = [Variant(name, "SMM", name) for name in ("only_mask", "single_channel")]
        return [Variant("only_delta", "VR", "full"), *only, Variant("smm", "SMM")]
