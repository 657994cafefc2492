"""What `MAPPING_PASS reuse` does to accuracy: runs that differ in nothing else, on real data with real weights.

    python benchmarks/mapping_pass.py [--trainers SMM VR] [--seeds 1 2 3] [--output DIR] [--opts KEY VALUE ...]

Each pair trains on digits in front of lite0 with the trainer's recipe. `exact` looks at all training images before each epoch,
`reuse` at what training saw in the epoch before. KEY VALUE change both. Finished runs in DIR are not trained again.
"""

from checkout import REPOSITORY

# isort: split
import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tabulate import tabulate

from dassl_vr.cli.train import main as train


def run(trainer, mapping_pass, seed, directory, opts):
    """(test accuracy in percent, seconds in epochs) of one run."""
    out = Path(directory, f"{trainer}-{mapping_pass}-seed{seed}")
    if not (out / "results.json").is_file():
        status = train(
            ["--trainer", trainer, "--seed", str(seed), "--output-dir", str(out), "--resume", str(out)]
            + ["--config-file", str(REPOSITORY / f"configs/trainers/{trainer}/lite0.yaml")]
            + ["--dataset-config-file", str(REPOSITORY / "configs/datasets/digits.yaml")]
            + [f"TRAINER.{trainer}.MAPPING_PASS", mapping_pass, "TEST.TRAIN_GAP", "False", *opts]
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
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--output", help="keep the runs here (default: nowhere)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="of the configuration")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for trainer in args.trainers:
            runs = {
                mapping_pass: [run(trainer, mapping_pass, seed, args.output or temporary, args.opts) for seed in args.seeds]
                for mapping_pass in ("exact", "reuse")
            }
            accuracy = {name: [accuracy for accuracy, _ in results] for name, results in runs.items()}
            seconds = {name: sum(seconds for _, seconds in results) for name, results in runs.items()}
            differences = [b - a for a, b in zip(accuracy["exact"], accuracy["reuse"], strict=True)]
            times = seconds["exact"] / seconds["reuse"]
            rows.append([trainer, *(spread(accuracy[name]) for name in runs), spread(differences), f"{times:.2f}"])
    print(tabulate(rows, ["trainer", "exact, %", "reuse, %", "reuse - exact", "times as fast"]))


if __name__ == "__main__":
    main()
