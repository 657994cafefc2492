"""The setting in which the paper's numbers were measured, and the keys in which a run differs from it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..config.validate import leaves

# Section 5 and appendix A.2, by backbone. The patch size (8) and the pattern's learning rates are the same everywhere
GENERATORS = {
    "rn18": {"LAYERS": 5, "MASK_LR": 0.01, "MASK_GAMMA": 0.1},
    "rn50": {"LAYERS": 5, "MASK_LR": 0.01, "MASK_GAMMA": 0.1},
    "vit_b32": {"LAYERS": 6, "MASK_LR": 0.001, "MASK_GAMMA": 1.0},
}
SIZES = {"rn18": 224, "rn50": 224, "vit_b32": 384, "vit_l16_384": 384}
SMALL_BATCHES = {"dtd": 64, "oxford_pets": 64}
# Keys that older runs lack, with the value that those runs had
ADDED = {"TRAINER.SMM.MASK_INIT": "random", "TRAINER.SMM.WIDTH": 1.0, "TRAINER.SMM.INTERPOLATION": "patch"}
MAX_KEYS = 3  # named in a table, of those in which a run differs
# Names of data sets in runs -> their files in configs/datasets, where these differ
DATASETS = {"describabletextures": "dtd"}


def images_of_the_paper(backbone: str) -> dict[str, Any]:
    """What holds for every number of the paper on `backbone`: {key: value}."""
    setting = {
        "DATASET.NUM_SHOTS": -1,
        "DATASET.SUBSAMPLE_CLASSES": "all",
        "INPUT.SIZE": (SIZES[backbone],) * 2,
        "MODEL.BACKBONE.PRETRAINED": True,
        "TEST.SPLIT": "test",
        "TEST.FINAL_MODEL": "last_step",
    }
    if backbone.startswith("rn"):  # of ViT-B/32 there are two checkpoints, which a note beside the table names
        setting["MODEL.BACKBONE.WEIGHTS"] = ""
    return setting


def recipe_of_the_paper(trainer: str, method: str, backbone: str, dataset: str) -> dict[str, Any]:
    """The recipe of section 5 and appendix A.2 for a method on a backbone and a data set: {key: value}."""
    setting = {
        **images_of_the_paper(backbone),
        "DATALOADER.TRAIN_X.BATCH_SIZE": SMALL_BATCHES.get(dataset, 256),
        "OPTIM.NAME": "adam",
        "OPTIM.LR": 0.01,
        "OPTIM.WEIGHT_DECAY": 0.0,
        "OPTIM.LR_SCHEDULER": "multi_step",
        "OPTIM.STEPSIZE": (0.5, 0.72),
        "OPTIM.GAMMA": 0.1,
        "OPTIM.MAX_EPOCH": 200,
        "INPUT.TRANSFORMS": ("vr_squash", "vr_crop", "vr_flip", "normalize"),
        "INPUT.MARGIN": 32,
        "DATASET.FLIP": True,
    }
    if method == "pad":  # no augmentation
        del setting["INPUT.MARGIN"], setting["DATASET.FLIP"]
        setting["INPUT.TRANSFORMS"] = ("vr_pad", "normalize")
    node = f"TRAINER.{trainer.upper()}"
    if trainer in ("VR", "SMM"):
        setting[f"{node}.MAPPING"] = "ilm"
    if trainer == "SMM":
        generator = {"PATCH_SIZE": 8, "MASK_INIT": "random", "WIDTH": 1.0, "INTERPOLATION": "patch", **GENERATORS[backbone]}
        setting |= {f"{node}.{key}": value for key, value in generator.items()}
    return setting


def differences(config: Mapping, setting: Mapping[str, Any]) -> list[str]:
    """The keys in which a run's configuration is not the published `setting`, in its order.

    Args:
        config: the resolved configuration of a run; empty = unknown, which differs in every key.
    """
    found = {**ADDED, **dict(leaves(config))} if config else {}
    batch, limit = (found.get(key) for key in ("DATALOADER.TRAIN_X.BATCH_SIZE", "DATASET.BATCH_LIMIT"))
    if isinstance(batch, int) and isinstance(limit, int) and limit > 0:
        found["DATALOADER.TRAIN_X.BATCH_SIZE"] = min(batch, limit)
    return [key for key, value in setting.items() if key not in found or plain(found[key]) != plain(value)]


def key_names(keys: Sequence[str]) -> str:
    """The first few of `keys`, and how many more there are."""
    more = len(keys) - MAX_KEYS
    return ", ".join([*keys[:MAX_KEYS], *([f"{more} more"] if more > 0 else [])])


def plain(value: Any) -> Any:
    """A value in a form that compares: numbers as floats, sequences of any kind as lists."""
    if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
        return [plain(entry) for entry in value]
    return float(value) if isinstance(value, (int, float)) else value


def short_name(dataset: str) -> str:
    """One spelling for the name of a data set in a run (`OxfordFlowers`) and of its file in configs/datasets (`oxford_flowers`)."""
    plain = dataset.lower().replace("_", "")
    return DATASETS.get(plain, plain)
