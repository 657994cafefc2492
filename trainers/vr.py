"""VR: visual reprogramming with one mask for all images: Pad (Chen et al., CVPR 2023) and the watermarks of the SMM paper."""

from dassl_vr.data.transforms import pad_side
from dassl_vr.engine import TRAINER_REGISTRY, TrainerX, VisualReprogramming
from dassl_vr.engine.visual_reprogramming import add_reprogramming_keys
from dassl_vr.reprogramming import FRAMES, Pad, Watermark, frame_width

METHODS = ("pad", *FRAMES)


def extend_cfg(cfg):
    """The keys of this trainer."""
    node = add_reprogramming_keys(cfg, "VR")
    # Options: pad (a border around the image at its native side), narrow, medium, full (a frame of S/8, S/4, the whole image)
    node.METHOD = "full"


@TRAINER_REGISTRY.register()
class VR(VisualReprogramming, TrainerX):
    """A pattern under a shared mask in front of a frozen classifier."""

    choices = {"METHOD": METHODS}
    variants = {method: {"METHOD": method} for method in FRAMES}  # pad where it has a recipe

    @classmethod
    def build_input(cls, cfg, size):
        method = cls.options_in(cfg).METHOD
        pad = method == "pad"
        if pad != ("vr_pad" in cfg.INPUT.TRANSFORMS):
            needs = "needs vr_pad in" if pad else "does not go with vr_pad in"
            raise ValueError(f"METHOD {method} {needs} INPUT.TRANSFORMS (see configs/trainers/VR/*_pad.yaml)")
        if pad:
            return Pad(size, pad_side(cfg), cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
        return Watermark(size, frame_width(size, method))
