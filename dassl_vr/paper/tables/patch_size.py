"""Figure 4: SMM with patches of several sizes."""

from ..table import PAPER_REGISTRY, PaperTable, Variant

PATCH_SIZES = (1, 2, 4, 8, 16, 32)


@PAPER_REGISTRY.register(name="patch_size")
class PatchSize(PaperTable):
    title = "SMM with patches of 1 to 32 pixels per side (figure 4)"
    rows = "patch"

    def variants(self) -> list[Variant]:
        return [Variant(str(size), "SMM", tag=f"patch{size}", settings=_settings(size)) for size in PATCH_SIZES]


def _settings(size):
    settings = {"TRAINER.SMM.PATCH_SIZE": size}
    return settings | {"TRAINER.SMM.LAYERS": 6} if size == 32 else settings  # five layers have four pools
