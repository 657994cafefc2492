"""Tables 1 and 2: the shared masks and SMM."""

from ..table import PAPER_REGISTRY, PaperTable, Variant

SHARED = ("pad", "narrow", "medium", "full")


@PAPER_REGISTRY.register(name="methods")
class Methods(PaperTable):
    title = "the shared masks pad, narrow, medium, full, and SMM (tables 1 and 2)"

    def variants(self) -> list[Variant]:
        return [*(Variant(name, "VR", name) for name in SHARED), Variant("smm", "SMM")]
