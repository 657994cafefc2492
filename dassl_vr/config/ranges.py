"""What the values of the configuration's keys may be, beside `defaults.py`: `validate_cfg` reads it."""

import math
from dataclasses import dataclass

LARGE = 10**9  # no count, size or rate of a run comes near it
LARGEST_SIDE = 8192  # of an image in pixels


@dataclass(frozen=True)
class Range:
    """The numbers that a key takes: finite ones within bounds.

    Attributes:
        least, most: the bounds, allowed themselves.
        above, below: bounds that are not allowed themselves.
        entries: the length of the list, for keys that hold one; None = any.
        whole: the entries are whole numbers. (A single value has the type of its default anyway.)
    """

    least: float = -LARGE
    most: float = LARGE
    above: float | None = None
    below: float | None = None
    entries: int | None = None
    whole: bool = False

    def problem(self, value: object) -> str:
        """What `value` (a number, or a list of numbers) must be instead, as a clause; "" if it is in range."""
        if not isinstance(value, (list, tuple)):
            return self._problem_of(value)
        if self.entries is not None and len(value) != self.entries:
            return f"it takes a list of {self.entries} numbers"
        kind = "whole numbers" if self.whole else "numbers"
        if not all(is_number(entry) and (isinstance(entry, int) or not self.whole) for entry in value):
            return f"it takes {kind}"
        problem = next(filter(None, map(self._problem_of, value)), "")
        return problem.replace("it must", "each entry must", 1)

    def _problem_of(self, number):
        if not is_finite(number):
            return "it must be a finite number"
        if self.above is not None and number <= self.above:
            return f"it must be above {self.above}"
        if number < self.least:
            return "it must not be negative" if self.least == 0 else f"it must be {self.least} or more"
        if self.below is not None and number >= self.below:
            return f"it must be below {self.below}"
        return f"it must be {self.most} or less" if number > self.most else ""


ANY = Range()
AMOUNT = Range(0)  # 0 mostly means none
COUNT = Range(above=0)
SIZE_OR_AUTOMATIC = Range(-1, LARGEST_SIDE)
SHARE = Range(0, 1)
DECAY = Range(0, below=1)  # momentum and the like: at 1 nothing is ever forgotten
RATE = Range(0, 10**6)  # learning rates and their factors
BATCH = Range(above=0, most=10**6)
SIDE = Range(1, LARGEST_SIDE)
TOKENS = Range(1, 1000)  # of a prompt

RANGES = {
    "VERSION": ANY,
    "SEED": Range(-(2**63), 2**63 - 1),
    "INPUT.SIZE": Range(0, LARGEST_SIDE, entries=2, whole=True),
    "INPUT.PIXEL_MEAN": Range(-1000, 1000, entries=3),
    "INPUT.PIXEL_STD": Range(1e-6, 1000, above=0, entries=3),
    "INPUT.MARGIN": SIZE_OR_AUTOMATIC,
    "INPUT.PAD_SIDE": Range(0, LARGEST_SIDE),
    "INPUT.CROP_PADDING": Range(0, LARGEST_SIDE),
    "INPUT.RRCROP_SCALE": Range(most=1, above=0, entries=2),
    "INPUT.CUTOUT_N": Range(0, 1000),
    "INPUT.CUTOUT_LEN": Range(0, LARGEST_SIDE),
    "INPUT.GN_MEAN": Range(-1000, 1000),
    "INPUT.GN_STD": Range(0, 1000),
    "INPUT.RANDAUGMENT_N": Range(0, 100),
    "INPUT.RANDAUGMENT_M": Range(0, 30),
    "INPUT.COLORJITTER_B": Range(0, 1000),
    "INPUT.COLORJITTER_C": Range(0, 1000),
    "INPUT.COLORJITTER_S": Range(0, 1000),
    "INPUT.COLORJITTER_H": Range(0, 0.5),
    "INPUT.RGS_P": SHARE,
    "INPUT.GB_P": SHARE,
    "INPUT.GB_K": SIDE,
    "DATASET.NUM_LABELED": ANY,
    "DATASET.NUM_SHOTS": ANY,
    "DATASET.VAL_PERCENT": DECAY,
    "DATASET.STL10_FOLD": ANY,
    "DATASET.CIFAR_C_LEVEL": ANY,
    "DATASET.NATIVE_SIZE": SIDE,
    "DATASET.BATCH_LIMIT": AMOUNT,
    "DATALOADER.NUM_WORKERS": Range(-1, 512),
    "DATALOADER.STORE_MEMORY": AMOUNT,
    "DATALOADER.K_TRANSFORMS": Range(above=0, most=1000),
    "DATALOADER.TRAIN_X.BATCH_SIZE": BATCH,
    "DATALOADER.TRAIN_X.N_DOMAIN": AMOUNT,
    "DATALOADER.TRAIN_X.N_INS": COUNT,
    "DATALOADER.TRAIN_U.BATCH_SIZE": BATCH,
    "DATALOADER.TRAIN_U.N_DOMAIN": AMOUNT,
    "DATALOADER.TRAIN_U.N_INS": COUNT,
    "DATALOADER.TEST.BATCH_SIZE": BATCH,
    "MODEL.HEAD.HIDDEN_LAYERS": Range(above=0, most=10**6, whole=True),
    "MODEL.HEAD.DROPOUT": DECAY,
    "OPTIM.LR": RATE,
    "OPTIM.WEIGHT_DECAY": RATE,
    "OPTIM.MOMENTUM": DECAY,
    "OPTIM.SGD_DAMPNING": SHARE,
    "OPTIM.RMSPROP_ALPHA": DECAY,
    "OPTIM.ADAM_BETA1": DECAY,
    "OPTIM.ADAM_BETA2": DECAY,
    "OPTIM.ADAM_EPS": Range(0, 1),
    "OPTIM.BASE_LR_MULT": RATE,
    "OPTIM.STEPSIZE": Range(-1),
    "OPTIM.GAMMA": RATE,
    "OPTIM.MAX_EPOCH": Range(0, 10**6),
    "OPTIM.BATCHES_PER_SHOT": Range(above=0, most=10**6),
    "OPTIM.WARMUP_EPOCH": Range(-1),
    "OPTIM.WARMUP_CONS_LR": RATE,
    "OPTIM.WARMUP_MIN_LR": RATE,
    "OPTIM.COSINE_MIN_LR": RATE,
    "TRAIN.CHECKPOINT_FREQ": AMOUNT,
    "TRAIN.RESUME_FREQ": COUNT,
    "TRAIN.RESUME_BATCHES": AMOUNT,
    "TRAIN.PRINT_FREQ": COUNT,
    "TRAIN.PICTURE_FREQ": AMOUNT,
    "TEST.VAL_FREQ": COUNT,
}

CHOICES = {
    "INPUT.INTERPOLATION": ("nearest", "bilinear", "bicubic"),
    "DATASET.SUBSAMPLE_CLASSES": ("all", "base", "new"),
    "DATASET.ON_BAD_IMAGE": ("error", "skip"),
    "DATASET.GREY_BITS": (0, *range(8, 17)),
    "DATALOADER.TRAIN_X.LAST_OF_ONE": ("merge", "drop", "keep"),
    "DATALOADER.STORE": ("auto", "memory", "disk", "device", "off"),
    "MODEL.BACKBONE.NORM": ("weights", "config"),
    "OPTIM.NAME": ("adam", "amsgrad", "sgd", "normalized_sgd", "rmsprop", "radam", "adamw"),
    "OPTIM.LR_SCHEDULER": ("single_step", "multi_step", "cosine"),
    "OPTIM.WARMUP_TYPE": ("linear", "ramp", "constant"),
    "TRAIN.KERNELS": ("auto", "numba", "torch"),
    "TRAIN.PRECISION": ("auto", "fp32", "bf16", "fp16"),
    "TRAIN.COUNT_ITER": ("train_x", "train_u", "smaller_one"),
    "TEST.SPLIT": ("test", "val"),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
}

# Lists of texts
NAMES = ("INPUT.TRANSFORMS", "DATASET.SOURCE_DOMAINS", "DATASET.TARGET_DOMAINS", "DATASET.TEST_CLASSES", "OPTIM.NEW_LAYERS")


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(number: float) -> bool:
    """Whether it is neither NaN nor infinite, and of 64 bits if it is whole."""
    return -(2**63) <= number < 2**63 if isinstance(number, int) else math.isfinite(number)
