"""The backbone of a run, from its configuration."""

import torch
from yacs.config import CfgNode

from .base import FrozenBackbone
from .build import build_backbone


def backbone_from_cfg(cfg: CfgNode, precision: str = "fp32", frozen: bool = True) -> FrozenBackbone:
    """The backbone that `cfg.MODEL.BACKBONE` describes, for images of `cfg.INPUT.SIZE`.

    Its random start (MODEL.BACKBONE.PRETRAINED False) depends on `cfg.SEED` alone, and what is built after it is not touched by it.
    Its `weights_sha256` is known.
    """
    node = cfg.MODEL.BACKBONE
    with torch.random.fork_rng(devices=[]):  # built on the CPU; `torch.manual_seed` would seed the accelerators too
        torch.default_generator.manual_seed(cfg.SEED % 2**63)
        return build_backbone(
            node.NAME,
            pretrained=node.PRETRAINED,
            weights=node.WEIGHTS,
            weights_entry=node.WEIGHTS_ENTRY,
            size=cfg.INPUT.SIZE[0],
            frozen=frozen,
            precision=precision,
            fold=node.FOLD,
            channels_last=node.CHANNELS_LAST,
            compiled=cfg.TRAIN.COMPILE,
            verbose=cfg.VERBOSE,
            checksum=True,
            check_side=False,  # `engine.build.check_side` does for new runs; old ones are taken as they are
        )
