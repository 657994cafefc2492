"""Table 5: how a mask value reaches its pixels: by copying, or computed from several."""

from ...reprogramming.upsampling import INTERPOLATIONS, pixel_accesses
from ..columns import SECONDS
from ..table import PAPER_REGISTRY, PaperTable, Variant


def _accesses(group, published):
    size = group.config.get("INPUT", {}).get("SIZE")
    return f"{pixel_accesses(size[0], group.options.get('INTERPOLATION', 'patch')):,}" if size else ""


@PAPER_REGISTRY.register(name="interpolation")
class Interpolation(PaperTable):
    title = "masks enlarged by copying, bilinear and bicubic: accuracy, time, pixel accesses (table 5)"
    datasets = ("cifar10",)
    rows = "interpolation"
    columns = {**SECONDS, "pixel accesses": _accesses}

    def variants(self) -> list[Variant]:
        return [Variant(name, "SMM", tag=name, settings={"TRAINER.SMM.INTERPOLATION": name}) for name in INTERPOLATIONS]
