"""What `MAPPING_PASS reuse` does to accuracy: runs that differ in nothing else, on real data with real weights.

    python benchmarks/mapping_pass.py [--trainers SMM VR] [--datasets digits fashion_mnist] [--root data] [--backbone lite0]
                                      [--seeds 1 2 3] [--output DIR] [--opts KEY VALUE ...]

Each pair trains with the trainer's recipe for the backbone. `exact` looks at all training images before each epoch, `reuse` at what
training saw in the epoch before. KEY VALUE change both. Finished runs in DIR are not trained again, so seeds may be shared out over
several commands; one more, with all of them, prints the table.
"""

from checkout import REPOSITORY

# isort: split
import argparse
import itertools
import json
import statistics
import tempfile
from pathlib import Path

from tabulate import tabulate

from dassl_vr.cli.train import main as train
from dassl_vr.report.runs import mean_interval


def run(args, directory, dataset, trainer, mapping_pass, seed):
    """(test accuracy in percent, seconds in epochs) of one run."""
    out = Path(directory, dataset, args.backbone, f"{trainer}-{mapping_pass}", f"seed{seed}")
    if not (out / "results.json").is_file():
        status = train(
            ["--trainer", trainer, "--seed", str(seed), "--output-dir", str(out), "--resume", str(out)]
            + ["--config-file", str(REPOSITORY / f"configs/trainers/{trainer}/{args.backbone}.yaml")]
            + ["--dataset-config-file", str(REPOSITORY / f"configs/datasets/{dataset}.yaml"), "--root", args.root]
            + [f"TRAINER.{trainer}.MAPPING_PASS", mapping_pass, "TEST.TRAIN_GAP", "False", *args.opts]
        )
        if status:
            raise SystemExit(status)
    results = json.loads((out / "results.json").read_text())
    return results["accuracy"], sum(epoch["seconds"] for epoch in results["history"])


def spread(values):
    """Mean and standard deviation as text."""
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", default=["SMM", "VR"])
    parser.add_argument("--datasets", nargs="+", default=["digits"], help="files of configs/datasets")
    parser.add_argument("--root", default="data", help="where data sets are that are not part of a package")
    parser.add_argument("--backbone", default="lite0", help="one that the trainers have a recipe for")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--output", help="keep the runs here (default: nowhere)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="of the configuration")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for dataset, trainer in itertools.product(args.datasets, args.trainers):
            runs = {
                mapping_pass: [run(args, args.output or temporary, dataset, trainer, mapping_pass, seed) for seed in args.seeds]
                for mapping_pass in ("exact", "reuse")
            }
            accuracy = {name: [accuracy for accuracy, _ in results] for name, results in runs.items()}
            seconds = {name: sum(seconds for _, seconds in results) for name, results in runs.items()}
            differences = [b - a for a, b in zip(accuracy["exact"], accuracy["reuse"], strict=True)]
            times = seconds["exact"] / seconds["reuse"]
            means = (spread(accuracy[name]) for name in runs)
            interval = mean_interval(differences)
            between = "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"
            rows.append([trainer, dataset, *means, spread(differences), between, f"{times:.2f}"])
    headers = ["trainer", "data", "exact, %", "reuse, %", "reuse - exact", "95 % interval of its mean", "times as fast"]
    print(tabulate(rows, headers))


if __name__ == "__main__":
    main()
