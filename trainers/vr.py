"""VR: visual reprogramming with one mask for all images: Pad (Chen et al., CVPR 2023) and the watermarks of the SMM paper."""

from yacs.config import CfgNode as CN

from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.methods import VisualReprogramming, add_reprogramming_keys
from dassl_vr.reprogramming import INPUT_REGISTRY


def extend_cfg(cfg: CN) -> None:
    """The keys of this trainer."""
    node = add_reprogramming_keys(cfg, "VR")
    # Any f_in of INPUT_REGISTRY: pad (a border around the image at its native side), narrow, medium, full (a frame of S/8, S/4, the
    # whole image), and the others that docs/methods.md lists; one of a plug-in
    node.METHOD = "full"
    for name in INPUT_REGISTRY.registered_names():
        INPUT_REGISTRY.get(name).add_keys(node)


@TRAINER_REGISTRY.register()
class VR(VisualReprogramming):
    """What is learned changes the input image, in front of a frozen classifier; `METHOD` says how."""

    choices = {"METHOD": INPUT_REGISTRY}
    variants = {}  # those that `compared_as` adds
