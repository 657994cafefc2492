"""Table 10: SMM against the full watermark under every label mapping of the backbone's classes."""

from ...reprogramming.mappings import LABELS, MAPPING_REGISTRY
from ..table import PAPER_REGISTRY, PaperTable, Variant

PUBLISHED = ("rlm", "flm", "ilm")


@PAPER_REGISTRY.register(name="mapping")
class Mapping(PaperTable):
    title = "the full watermark and SMM with every label mapping: without, with, improvement (table 10)"
    rows = "mapping"
    pair = ("without", "with")

    def variants(self) -> list[Variant]:
        known = [name for name in MAPPING_REGISTRY.registered_names() if MAPPING_REGISTRY.get(name).reads == LABELS]
        mappings = [*PUBLISHED, *sorted(set(known) - set(PUBLISHED))]
        ways = (("VR", "full"), ("SMM", ""))
        return [
            Variant(name, trainer, method, f"mapping-{name}", {f"TRAINER.{trainer}.MAPPING": name}, column=column)
            for (trainer, method), column in zip(ways, self.pair)
            for name in mappings
        ]
