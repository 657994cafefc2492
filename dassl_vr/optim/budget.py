"""How long a run is whose length follows from its data."""

from yacs.config import CfgNode


def epochs_for(optim_cfg: CfgNode, images: int, classes: int, batches: int) -> int:
    """Epochs that come nearest to OPTIM.BATCHES_PER_SHOT batches for each training image per class, at least one.

    With few shots these are the iterations of CLIP-LoRA (Zanella and Ben Ayed 2024, section 5: 500 per shot), to half an epoch.

    Args:
        optim_cfg: a node with the keys of `cfg.OPTIM`.
        images, classes: of the training set.
        batches: per epoch.
    """
    return max(1, round(optim_cfg.BATCHES_PER_SHOT * images / (classes * batches)))
