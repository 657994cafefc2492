"""Which start, label mapping and schedule suit SMM at short budgets? Chosen on validation images; see docs/recipe.md.

    python benchmarks/recipe_study.py --root /usr/share/datasets [--epochs 8] [--variants smm-ilm ones-blm] [--jobs 2] [--test]

Each run is a process of `train.py` with one thread; finished runs are not repeated. `--test` measures the runs on the test images
as well, which is for the table, not for choosing.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tabulate import tabulate

DATASETS = ("StudyDigits", "StudyFashion")
ONES = ["TRAINER.SMM.MASK_INIT", "ones"]
STEPS = ["OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", "(0.5, 0.72)"]


def smm(*settings, mapping="ilm"):
    return "SMM", ["TRAINER.SMM.MAPPING", mapping, *settings]


def full(*settings, mapping="ilm"):
    return "VR", ["TRAINER.VR.MAPPING", mapping, *settings]


# Everything else is as in configs/trainers/*/lite0.yaml: Adam, both rates 0.01, cosine
VARIANTS = {
    "full-ilm": full(),
    "full-blm": full(mapping="blm"),
    "smm-ilm": smm(),
    "smm-blm": smm(mapping="blm"),
    "ones-ilm": smm(*ONES),
    "ones-blm": smm(*ONES, mapping="blm"),
    "ones-blm+": smm(*ONES, mapping="blm+"),
    "ones-blm-steps": smm(*ONES, *STEPS, mapping="blm"),
    "smm-ilm-steps": smm(*STEPS),
    "ones-blm-mask0.003": smm(*ONES, "TRAINER.SMM.MASK_LR", "0.003", mapping="blm"),
    "ones-blm-mask0.001": smm(*ONES, "TRAINER.SMM.MASK_LR", "0.001", mapping="blm"),
    "smm-blm-mask0.003": smm("TRAINER.SMM.MASK_LR", "0.003", mapping="blm"),
    "ones-blm+-mask0.003": smm(*ONES, "TRAINER.SMM.MASK_LR", "0.003", mapping="blm+"),
    "full-blm-lr0.03": full("OPTIM.LR", "0.03", mapping="blm"),
    "ones-blm-lr0.03-mask0.003": smm(*ONES, "OPTIM.LR", "0.03", "TRAINER.SMM.MASK_LR", "0.003", mapping="blm"),
}


def run(out, root, variant, dataset, seed, epochs, test):
    """Train (and test) one run; returns {"val": accuracy, "test": accuracy or None}, or None if it failed."""
    trainer, settings = VARIANTS[variant]
    directory = Path(out, dataset, variant, f"epochs{epochs}", f"seed{seed}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    plugin = ["--plugin", "benchmarks/recipe_data.py"]
    train = ["--trainer", trainer, "--config-file", f"configs/trainers/{trainer}/lite0.yaml", "--root", root, "--seed", str(seed)]
    train += ["--output-dir", str(directory), "--resume", str(directory), "DATASET.NAME", dataset, "VERBOSE", "False"]
    train += ["TEST.SPLIT", "val", "OPTIM.MAX_EPOCH", str(epochs), "TRAIN.PICTURE_FREQ", "1000", *settings]
    commands = {directory: train}
    if test:
        where = ["--eval-only", "--model-dir", str(directory), "--output-dir", str(directory / "test"), "TEST.SPLIT", "test"]
        commands[directory / "test"] = where
    accuracy = []
    for place, arguments in commands.items():
        if not (place / "results.json").is_file():
            done = subprocess.run(
                [sys.executable, "train.py", *plugin, *arguments], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"{place} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                return None
        accuracy.append(json.loads((place / "results.json").read_text())["accuracy"])
    return dict(zip(("val", "test"), (*accuracy, None), strict=False))


def cell(results, split):
    values = [result[split] for result in results if result and result[split] is not None]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="directory that holds fashion-mnist")
    parser.add_argument("--out", default="output/recipe_study")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    grid = [(v, d, s) for s in args.seeds for d in args.datasets for v in args.variants]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda g: run(args.out, args.root, *g, args.epochs, args.test), grid)
        results = dict(zip(grid, results, strict=True))
    rows = []
    for variant in args.variants:
        row = [variant]
        for split in ("val", "test") if args.test else ("val",):
            row += [cell([results[variant, dataset, seed] for seed in args.seeds], split) for dataset in args.datasets]
        rows.append(row)
    splits = ("val", "test") if args.test else ("val",)
    headers = [f"{args.epochs} epochs", *(f"{d.removeprefix('Study')} {split}" for split in splits for d in args.datasets)]
    print(tabulate(rows, headers, tablefmt="github"))


if __name__ == "__main__":
    main()
