"""Checks of a merged configuration before anything is built."""

from ..utils.errors import ConfigError
from ..utils.registry import nearest

CHOICES = {
    "INPUT.INTERPOLATION": ("nearest", "bilinear", "bicubic"),
    "DATASET.SUBSAMPLE_CLASSES": ("all", "base", "new"),
    "DATASET.ON_BAD_IMAGE": ("error", "skip"),
    "DATASET.GREY_BITS": (0, *range(8, 17)),
    "DATALOADER.STORE": ("auto", "memory", "disk", "off"),
    "MODEL.BACKBONE.NORM": ("weights", "config"),
    "OPTIM.NAME": ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"),
    "OPTIM.LR_SCHEDULER": ("single_step", "multi_step", "cosine"),
    "OPTIM.WARMUP_TYPE": ("linear", "ramp", "constant"),
    "TRAIN.PRECISION": ("auto", "fp32", "bf16", "fp16"),
    "TRAIN.COUNT_ITER": ("train_x", "train_u", "smaller_one"),
    "TEST.SPLIT": ("test", "val"),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
}
POSITIVE = (
    "DATALOADER.K_TRANSFORMS",
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    "DATALOADER.TRAIN_X.N_INS",
    "DATALOADER.TRAIN_U.N_INS",
    "DATALOADER.TRAIN_U.BATCH_SIZE",
    "DATALOADER.TEST.BATCH_SIZE",
    "DATASET.NATIVE_SIZE",
    "OPTIM.MAX_EPOCH",
    "TRAIN.PRINT_FREQ",
    "TRAIN.RESUME_FREQ",
    "TEST.VAL_FREQ",
)
NOT_NEGATIVE = (
    "DATALOADER.TRAIN_X.N_DOMAIN",
    "DATALOADER.TRAIN_U.N_DOMAIN",
    "DATASET.BATCH_LIMIT",
    "DATASET.VAL_PERCENT",
    "DATALOADER.STORE_MEMORY",
    "OPTIM.LR",
    "OPTIM.WEIGHT_DECAY",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.RESUME_BATCHES",
    "TRAIN.PICTURE_FREQ",
)


NUMBERS = ("OPTIM.STEPSIZE", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD")
NAMES = ("INPUT.TRANSFORMS", "DATASET.SOURCE_DOMAINS", "DATASET.TARGET_DOMAINS", "OPTIM.NEW_LAYERS")


def lookup(cfg, dotted):
    """The value of `A.B.C` in `cfg`."""
    for part in dotted.split("."):
        cfg = cfg[part]
    return cfg


def choice_problems(cfg, choices):
    """One sentence for each key of `choices` ({dotted key: allowed values}) that holds something else."""
    problems = []
    for key, allowed in choices.items():
        value = lookup(cfg, key)
        if value not in allowed:
            hint = nearest(str(value), allowed)
            did_you_mean = f" (did you mean '{hint}'?)" if hint else ""
            problems.append(f"{key} is '{value}'{did_you_mean}; it takes one of {', '.join(map(str, allowed))}")
    return problems


def validate_cfg(cfg):
    """Check the engine's own keys. Raises `ConfigError` with every problem found, in one line."""
    problems = choice_problems(cfg, CHOICES)
    # `not (a > b)` rather than `a <= b`, which is false for NaN
    problems += [f"{key} is {lookup(cfg, key)}; it must be above 0" for key in POSITIVE if not lookup(cfg, key) > 0]
    problems += [f"{key} is {lookup(cfg, key)}; it must not be negative" for key in NOT_NEGATIVE if not lookup(cfg, key) >= 0]
    for keys, types, what in ((NUMBERS, (int, float), "numbers"), (NAMES, str, "names")):
        for key in keys:
            if not all(isinstance(entry, types) for entry in lookup(cfg, key)):
                problems.append(f"{key} is {lookup(cfg, key)}; it takes {what}")
    size = cfg.INPUT.SIZE
    if len(size) != 2 or any(not isinstance(s, int) or s < 0 for s in size):
        problems.append(f"INPUT.SIZE is {size}; it takes height and width in pixels, such as (224, 224)")
    if "{}" not in cfg.DATASET.TEMPLATE:
        problems.append(f"DATASET.TEMPLATE is '{cfg.DATASET.TEMPLATE}'; it takes a sentence with {{}} for the class's name")
    if not cfg.OPTIM.STEPSIZE:
        problems.append(f"OPTIM.STEPSIZE is {cfg.OPTIM.STEPSIZE}; it takes epochs or shares of the run, such as (0.5, 0.72)")
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.INPUT[key]) != 3:
            problems.append(f"INPUT.{key} has {len(cfg.INPUT[key])} numbers; it takes three, one a colour channel")
    if any(isinstance(s, (int, float)) and not s > 0 for s in cfg.INPUT.PIXEL_STD):
        problems.append(f"INPUT.PIXEL_STD is {cfg.INPUT.PIXEL_STD}; its numbers must be above 0")
    for key, least in (("INPUT.MARGIN", -1), ("DATALOADER.NUM_WORKERS", -1)):
        if lookup(cfg, key) < least:
            problems.append(f"{key} is {lookup(cfg, key)}; it must be {least} (automatic) or more")
    if cfg.DATASET.VAL_PERCENT >= 1:
        problems.append(f"DATASET.VAL_PERCENT is {cfg.DATASET.VAL_PERCENT}; it is a share, below 1")
    if cfg.SEED >= 2**63:
        problems.append(f"SEED is {cfg.SEED}; it must be below 2 ** 63")
    if not cfg.OUTPUT_DIR:
        problems.append("OUTPUT_DIR is empty; name the directory that the run's files go to (--output-dir)")
    if problems:
        raise ConfigError("; ".join(problems))
