"""One run shared by several processes: whether it learns the same, and how much faster it is.

    python benchmarks/scaling.py [--arrangements 1x1 1x2 2x1 4x1] [--repeats 3] [--output DIR] [--json FILE] [--opts KEY VALUE ...]

An arrangement is processes x threads of each. Every one trains SMM on digits in front of lite0 with the recipe, through
`torchrun train.py` and with the same global batch, and is compared with the first: its loss epoch by epoch, and the images a second
of its training passes, in turns. KEY VALUE change all of them. Where there are GPUs, each process takes one.
"""

from checkout import REPOSITORY

# isort: split
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

from dassl_vr.utils.cores import cpu_cores
from dassl_vr.utils.environment import collect_env_info


def arrangement(text):
    """ "2x1" -> (2, 1)"""
    processes, _, threads = text.partition("x")
    if not (processes.isdigit() and threads.isdigit() and int(processes) and int(threads)):
        raise argparse.ArgumentTypeError(f"'{text}'; expected PROCESSESxTHREADS, such as 2x1")
    return int(processes), int(threads)


def train(processes, threads, directory, opts):
    """The results of one run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [str(REPOSITORY / "train.py"), "--trainer", "SMM", "--seed", "1", "--output-dir", str(directory)]
    command += ["--config-file", str(REPOSITORY / "configs/trainers/SMM/lite0.yaml")]
    command += ["--dataset-config-file", str(REPOSITORY / "configs/datasets/digits.yaml")]
    command += ["TEST.TRAIN_GAP", "False", "TRAIN.END_FIGURES", "False", "VERBOSE", "False", *opts]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads((directory / "results.json").read_text())


def speed(results):
    """Training images a second, of the epochs behind the first, which reads the images."""
    return statistics.median(epoch["images_per_second"] for epoch in results["history"][1:])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [(1, 1), (1, 2), (2, 1), (4, 1)]
    parser.add_argument("--arrangements", nargs="+", type=arrangement, default=default, metavar="PxT")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--output", type=Path, help="keep the runs here (default: nowhere)")
    parser.add_argument("--json", metavar="FILE", help="write here what the last table shows")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="of the configuration")
    args = parser.parse_args(argv)
    print(collect_env_info(), f"cores: {cpu_cores()}", sep="\n", end="\n\n")
    turns = []
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(args.repeats):
            place = (args.output or Path(temporary)) / f"turn{turn}"
            turns.append([train(p, t, place / f"{p}x{t}", args.opts) for p, t in args.arrangements])
    names = [f"{p}x{t}" for p, t in args.arrangements]
    curves = [[epoch["loss"] for epoch in results["history"]] for results in turns[0]]
    rows = [[number, *losses] for number, losses in enumerate(zip(*curves, strict=True), 1)]
    rows.append(["test accuracy, %", *(results["accuracy"] for results in turns[0])])
    print(tabulate(rows, ["loss of epoch", *names], floatfmt=".4f"), end="\n\n")
    apart = [max(abs(a - b) / abs(b) for a, b in zip(curve, curves[0], strict=True)) for curve in curves]
    print(tabulate([["largest relative difference of a loss", *apart]], ["", *names], floatfmt=".1e"), end="\n\n")
    rates = [[speed(results) for results in turn] for turn in turns]
    rows = []
    for number, name in enumerate(names):
        ratio = statistics.median(turn[number] / turn[0] for turn in rates)
        seconds = statistics.median(statistics.median(e["seconds"] for e in turn[number]["history"][1:]) for turn in turns)
        rows.append([name, statistics.median(turn[number] for turn in rates), ratio, seconds])
    headers = ["processes x threads", "training images/s", f"times {names[0]}", "s an epoch, mapping pass included"]
    print(tabulate(rows, headers, floatfmt=("", ".1f", ".2f", ".2f")))
    if args.json:
        Path(args.json).write_text(json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
