"""Keys that nothing but the Dassl family's files read or set: its YAML files, data sets and trainers, brought in by `--plugin`."""

from yacs.config import CfgNode as CN


def extend_cfg(cfg: CN) -> None:
    """Add the keys with their defaults."""
    # Kept because the family's YAML files may set it; not used
    cfg.VERSION = 1

    # Total number of labelled images, for semi-supervised data sets
    cfg.DATASET.NUM_LABELED = -1
    # For the family's own STL10, CIFAR10-C/100-C and semi-supervised data sets
    cfg.DATASET.STL10_FOLD = -1
    cfg.DATASET.CIFAR_C_TYPE = ""
    cfg.DATASET.CIFAR_C_LEVEL = 1
    cfg.DATASET.ALL_AS_UNLABELED = False

    cfg.MODEL.HEAD = CN()
    # A network between backbone and classifier, for trainers that build the family's `SimpleNet`
    cfg.MODEL.HEAD.NAME = ""
    cfg.MODEL.HEAD.HIDDEN_LAYERS = ()
    cfg.MODEL.HEAD.ACTIVATION = "relu"
    cfg.MODEL.HEAD.BN = True
    cfg.MODEL.HEAD.DROPOUT = 0.0
