"""Table 4: how many parameters SMM trains, beside those of the backbone. Nothing is trained for it."""

from collections.abc import Sequence

import torch

from ...backbones import backbone_spec, build_backbone
from ...reprogramming.inputs import INPUT_REGISTRY
from ...runs.cells import Cell, recipe_cfg
from ..table import PAPER_REGISTRY, PaperTable, Quick

# (parameters of the generator, in percent of the backbone's)
PUBLISHED = {"rn18": (26_499, 0.23), "rn50": (26_499, 0.10), "vit_b32": (102_339, 0.12)}


@PAPER_REGISTRY.register(name="parameters")
class Parameters(PaperTable):
    title = "parameters of the mask generator, the pattern and the backbone (table 4)"
    backbones, datasets = ("rn18", "rn50", "vit_b32"), ()
    quick = Quick(backbones=("lite0", "tiny_vit"), datasets=())

    def own_rows(self, backbones: Sequence[str]) -> list[dict[str, str]]:
        return [_row(name) for name in backbones]


def _row(name):
    cfg = recipe_cfg(Cell("SMM", "", "", name))
    size = cfg.INPUT.SIZE[0] or backbone_spec(name).input_size
    with torch.device("meta"):  # shapes alone
        f_in = INPUT_REGISTRY.get("smm").from_cfg(cfg.TRAINER.SMM, size)
    frozen = build_backbone(name, pretrained=False, verbose=False).num_parameters
    generator, pattern = (sum(p.numel() for p in parts) for parts in (f_in.generator.parameters(), (f_in.delta,)))
    published, share = PUBLISHED.get(name, (None, None))
    return {
        "backbone": name,
        "layers": str(cfg.TRAINER.SMM.LAYERS),
        "generator": f"{generator:,}",
        "paper": f"{published:,}" if published else "",
        "pattern": f"{pattern:,}",
        "backbone's": f"{frozen:,}",
        "generator, % of backbone": f"{100 * generator / frozen:.2f}",
        "paper's %": f"{share:.2f}" if share else "",
    }
