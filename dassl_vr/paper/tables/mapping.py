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
        registered = {name: MAPPING_REGISTRY.get(name) for name in MAPPING_REGISTRY.registered_names()}
        known = [name for name, mapping in registered.items() if mapping.reads == LABELS and mapping.in_paper_table]
        mappings = [*PUBLISHED, *sorted(set(known) - set(PUBLISHED))]
        ways = (("VR", "full"), ("SMM", ""))
        return [
            Variant(name, trainer, method, f"mapping-{name}", {f"TRAINER.{trainer}.MAPPING": name}, column=column)
            for (trainer, method), column in zip(ways, self.pair)
            for name in mappings
        ]
