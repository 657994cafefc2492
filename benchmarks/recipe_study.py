"""What each part of SMM's best recipe is worth, and how the recipe does against others; see docs/recipe.md.

    python benchmarks/recipe_study.py --root /usr/share/datasets                                    # parts, on validation images
    python benchmarks/recipe_study.py --root /usr/share/datasets --variants best LinearProbe --test # against others, on test images

Accuracy on validation images; `--test` measures the runs on the test images instead, which is for the last table, not for choosing.
Each run has one core and a directory below --out; finished runs are not repeated. The differences are those to the first variant,
with the same seed; the interval is Student's, for 95 %.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import contextlib
import math
import operator
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from scipy.stats import t
from tabulate import tabulate

from dassl_vr import build_cfg, data, run
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.errors import EXIT_PREEMPTED, RunInterrupted, UserError
from dassl_vr.utils.signals import ending_with_parent

DATASETS = ("StudyDigits", "StudyFashion")
SMM = "TRAINER.SMM."
CROPS = ("vr_squash", "vr_crop", "vr_flip", "normalize")
# Variant -> (trainer, what follows the backbone in the recipe's name, settings). Those of the recipe differ from it in one thing;
# * is its own mapping
VARIANTS = {
    "best": ("SMM", "_best", {}),
    "LinearProbe": ("LinearProbe", "", {}),
    "no prompt": ("SMM", "_best", {"OPTIM.LR": 1e-9, SMM + "MASK_LR": 1e-9}),
    "start only": ("SMM", "_best", {SMM + "MAPPING": "*_start"}),
    "end only": ("SMM", "_best", {SMM + "MAPPING": "*_end"}),
    "neither": ("SMM", "_best", {SMM + "MAPPING": "head"}),
    "sure start": ("SMM", "_best", {SMM + "MAPPING": "*_sure"}),
    "images only": ("SMM", "_best", {SMM + "MAPPING": "lda"}),
    "wide crops": ("SMM", "_best", {"INPUT.TRANSFORMS": CROPS, "INPUT.MARGIN": -1}),
    "narrow crops": ("SMM", "_best", {"INPUT.TRANSFORMS": CROPS, "INPUT.MARGIN": 4}),
    "TrivialAugment": ("SMM", "_best", {"INPUT.TRANSFORMS": ("vr_squash", "trivialaugment", "normalize")}),
    "rates x 2": ("SMM", "_best", None),
    "rates / 2": ("SMM", "_best", None),
    "ones": ("SMM", "_best", {SMM + "MASK_INIT": "ones"}),
    "SMM": ("SMM", "", {}),
    "SMM head": ("SMM", "_head", {}),
    "VR full": ("VR", "", {}),
    "VR acavp": ("VR", "_acavp", {}),
    "VR autovp": ("VR", "_autovp", {}),
    "VR lorvp": ("VR", "_lorvp", {}),
    "VR ar": ("VR", "_ar", {}),
    "VR attrvr": ("VR", "_attrvr", {}),
    "VR rvp": ("VR", "_rvp", {}),
    "SMM rvp": ("SMM", "_rvp", {}),
    "SMM attrvr": ("SMM", "_attrvr", {}),
    "CoOp": ("CoOp", "", {}),
    "MaPLe": ("MaPLe", "", {}),
}
FACTORS = {"rates x 2": 2, "rates / 2": 0.5}
PLUGIN = str(Path(__file__).with_name("recipe_data.py"))


def start_worker():
    """Once in each process: a core of its own, an end with the process that started it, and the study's data sets."""
    torch.set_num_threads(1)
    if end_with_parent := ending_with_parent():
        end_with_parent()
    load_plugins([PLUGIN])


def train(out, root, variant, dataset, shots, backbone, seed, epochs, test):
    """One run; gives its accuracy in percent, or None for a variant that differs in nothing, or with the reason on the screen."""
    trainer, suffix, settings = VARIANTS[variant]
    recipe = f"configs/trainers/{trainer}/{backbone}{suffix}.yaml"
    name = variant.replace("/", "by").replace(" ", "_")
    tag = f"ep{epochs}-{shots}shots" + (f"-{name}" if suffix == "_best" else "")  # what the run is called in tables
    directory = Path(out, "test" if test else "val", dataset, name, backbone, tag, f"seed{seed}")
    cfg = build_cfg([recipe])
    if settings is None:
        rate = cfg.OPTIM.LR * FACTORS[variant]
        settings = {"OPTIM.LR": rate, SMM + "MASK_LR": rate}
    mapping = cfg.TRAINER.SMM.MAPPING
    settings = {key: value.replace("*", mapping) if isinstance(value, str) else value for key, value in settings.items()}
    if settings and all(operator.attrgetter(key)(cfg) == value for key, value in settings.items()):
        return None  # the recipe itself
    fixed = {
        "TRAINER.NAME": trainer,
        "DATASET.NAME": dataset,
        "DATASET.ROOT": root,
        "DATASET.NUM_SHOTS": shots,
        "SEED": seed,
        "OPTIM.MAX_EPOCH": epochs,
        "OUTPUT_DIR": str(directory),
        "RESUME": str(directory) if directory.is_dir() else "",
        "TEST.SPLIT": "test" if test else "val",
        "DATALOADER.NUM_WORKERS": 0,
        "TEST.VAL_CURVE": False,
        "TEST.TRAIN_GAP": False,
        "TRAIN.END_FIGURES": False,
        "TRAIN.PICTURE_FREQ": 1000,
    }
    if suffix in ("_attrvr", "_rvp"):
        banks = Path(data.__file__).parent / "banks"  # descriptions of the classes, which come with the package
        subject = "fashion_mnist" if "Fashion" in dataset else "digits"
        files = [str(banks / f"{subject}_{kind}.json") for kind in ("des", "dist")]
        fixed[f"TRAINER.{trainer}.DESCRIPTIONS"] = files
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            return run(build_cfg([recipe], {**fixed, **settings}))["accuracy"]
    except UserError as error:
        print(f"{directory}: {error}", file=sys.stderr, flush=True)
        return None
    except RunInterrupted:  # the study was ended; a worker of its pool would wait for more work
        os._exit(EXIT_PREEMPTED)


def mean_and_spread(values):
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def mean_and_interval(differences):
    """The mean of paired differences with Student's interval of 95 %."""
    count = len(differences)
    half = t.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count) if count > 1 else math.nan
    return f"{statistics.fmean(differences):+.1f} ± {half:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="directory that holds fashion-mnist")
    parser.add_argument("--out", default="output/recipe_study")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:14], metavar="NAME", help=", ".join(VARIANTS)
    )
    parser.add_argument("--datasets", nargs="+", default=DATASETS, metavar="NAME", help=f"default: {', '.join(DATASETS)}")
    parser.add_argument("--shots", nargs="+", type=int, default=[14], help="training images of each class")
    parser.add_argument("--backbones", nargs="+", default=["tiny_vit", "tiny_clip", "lite0"], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    places = [(d, n, b) for d in args.datasets for n in args.shots for b in args.backbones]
    grid = [(v, *place, s) for place in places for s in args.seeds for v in args.variants]
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), start_worker) as pool:
        runs = {key: pool.submit(train, args.out, args.root, *key, args.epochs, args.test) for key in grid}
        found = {}
        for number, (key, future) in enumerate(runs.items(), start=1):
            found[key] = future.result()
            print(f"[{number}/{len(grid)}] {' '.join(map(str, key))}: {found[key]}", flush=True)
    split = "test" if args.test else "validation"
    print(f"\nAccuracy in percent on {split} images, {args.epochs} epochs, seeds {' '.join(map(str, args.seeds))}\n")
    rows = []
    for variant in args.variants:
        means, gains = [], []
        for place in places:
            values = {seed: found[variant, *place, seed] for seed in args.seeds if found[variant, *place, seed] is not None}
            first = {seed: found[args.variants[0], *place, seed] for seed in values}
            means.append(mean_and_spread(list(values.values())) if values else "")
            gains += [values[seed] - first[seed] for seed in values if first[seed] is not None]
        rows.append([variant, *means, mean_and_interval(gains) if gains and variant != args.variants[0] else ""])
    names = [f"{dataset.removeprefix('Study')} {shots}, {backbone}" for dataset, shots, backbone in places]
    print(tabulate(rows, [f"{args.epochs} epochs", *names, f"to {args.variants[0]}"], tablefmt="github"))


if __name__ == "__main__":
    main()
