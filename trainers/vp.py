"""VP: visual prompting of CLIP by a pixel frame (Bahng et al., 2022)."""

from yacs.config import CfgNode as CN

from dassl_vr.config.ranges import SIDE
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import VisualReprogramming, add_reprogramming_keys
from dassl_vr.reprogramming import Watermark


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    node = add_reprogramming_keys(cfg, "VP")
    node.MAPPING = "text"
    # Width of the frame in pixels at a side of 224, scaled to other sides
    node.WIDTH = 30
    # Start of the pattern. Options: normal (N(0, 1), the paper's), zeros
    node.INIT = "normal"


@TRAINER_REGISTRY.register()
class VP(VisualReprogramming):
    """A frame of pixels added to the normalized image, in front of a frozen CLIP with its text head."""

    backbone_kinds = ("clip",)
    ranges = {"WIDTH": SIDE}
    choices = {"INIT": ("normal", "zeros")}

    @classmethod
    def build_input(cls, cfg: CN, size: int) -> Watermark:
        options = cls.options_in(cfg)
        return Watermark(size, max(1, round(options.WIDTH * size / 224)), options.INIT)
