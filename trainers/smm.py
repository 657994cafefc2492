"""SMM: sample-specific multi-channel masks (Cai et al., ICML 2024)."""

from yacs.config import CfgNode as CN

from dassl_vr.config.ranges import RATE, Range
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import VisualReprogramming, add_reprogramming_keys
from dassl_vr.reprogramming.upsampling import INTERPOLATIONS


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer, with the paper's values for ResNets (section 5 and appendix)."""
    node = add_reprogramming_keys(cfg, "SMM")
    # Options: smm, single_channel (one mask for the three colours), only_mask (the mask itself is added, without a pattern)
    node.METHOD = "smm"
    # Convolutions of the mask generator: 5 or 6
    node.LAYERS = 5
    # Side of the square that shares a mask value, a power of two: up to 16 with 5 layers, up to 32 with 6
    node.PATCH_SIZE = 8
    # Factor on the channels of the generator's convolutions but the last, such as 0.5 or 4
    node.WIDTH = 1.0
    # From mask to image size. Options: patch (values are copied over their squares, the paper's), bilinear, bicubic
    node.INTERPOLATION = "patch"
    # Start of the generator. Options: random (the paper's), ones (the first mask is 1 everywhere: SMM starts as the full watermark)
    node.MASK_INIT = "random"
    # Learning rate of the generator and its factor at the epochs of OPTIM.STEPSIZE; the pattern's are OPTIM.LR and OPTIM.GAMMA
    node.MASK_LR = 0.01
    node.MASK_GAMMA = 0.1


@TRAINER_REGISTRY.register()
class SMM(VisualReprogramming):
    """x + up(f_mask(x)) * delta in front of a frozen classifier, delta and the mask generator trained with rates of their own."""

    choices = {
        "METHOD": ("smm", "single_channel", "only_mask"),
        "INTERPOLATION": tuple(INTERPOLATIONS),
        "MASK_INIT": ("random", "ones"),
    }
    ranges = {"WIDTH": Range(above=0, most=64), "MASK_LR": RATE, "MASK_GAMMA": RATE}
