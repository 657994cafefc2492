"""What grows with the number of images and of epochs, and how long a run takes to begin.

    python benchmarks/growth.py [--images 250 500 1000 2000 4000] [--size 64] [--epochs 12]

Epochs of SMM (exact label mapping, training, test on half as many images) in front of lite0 with real weights, the image store on
disk; each number of images in a process of its own. Then the demo's setting from the start of the process to its first step.
"""

from checkout import REPOSITORY

# isort: split
import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate
from throughput import Ours, config, write_images

from dassl_vr.plugins import load_plugins
from dassl_vr.utils.cores import cpu_cores
from dassl_vr.utils.environment import collect_env_info

BACKBONE = ["MODEL.BACKBONE.PRETRAINED", True, "DATALOADER.STORE", "disk"]


def memory():
    """(bytes of this process's own, all resident ones with the pages of mapped files)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(status[key].split()[0]) * 1024 for key in ("RssAnon", "VmRSS"))


def measure(images, size, batch, epochs, results):
    """In a process of its own: [(seconds, memory after it)] of each epoch."""
    torch.set_num_threads(cpu_cores())
    load_plugins()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        write_images(directory, images, images // 2)
        cfg = config("SMM", directory, directory, "lite0", size, batch, *BACKBONE, "DATALOADER.STORE_DIR", f"{directory}/store")
        ours = Ours(cfg)
        for _ in range(epochs):
            seconds, _, _ = ours.epoch()
            rows.append((seconds, *memory()))
    results.put(rows)


def in_a_process(*arguments):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(*arguments, results))
    process.start()
    rows = results.get()
    process.join()
    return rows


def seconds_to_first_step(directory):
    """From the start of `train.py` with the demo's setting to the line about its first training step, mapping pass included."""
    command = [sys.executable, str(REPOSITORY / "train.py"), "--trainer", "SMM", "--seed", "1", "--output-dir", f"{directory}/run"]
    command += ["--config-file", str(REPOSITORY / "configs/trainers/SMM/lite0.yaml")]
    command += ["--dataset-config-file", str(REPOSITORY / "configs/datasets/digits.yaml")]
    command += ["DATASET.NUM_SHOTS", "60", "TRAIN.PRINT_FREQ", "1"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=directory) as process:
        for line in process.stdout:
            if line.startswith("epoch [1/"):
                seconds = time.perf_counter() - start
                process.kill()
                return seconds
    raise SystemExit("the run ended before its first step")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[250, 500, 1000, 2000, 4000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=12, help="of the smallest number of images; the others take 3")
    args = parser.parse_args()
    print(collect_env_info(), end="\n\n")
    rows = []
    for position, images in enumerate(args.images):
        epochs = in_a_process(images, args.size, args.batch, args.epochs if position == 0 else 3)
        if position == 0:
            grown = [[number + 1, *(value / 1e6 for value in row[1:])] for number, row in enumerate(epochs)]
        best = min(seconds for seconds, *_ in epochs[1:])
        rows.append([images, best, 1000 * best / images, max(own for _, own, _ in epochs) / 1e6])
    print(tabulate(rows, ["images", "s an epoch", "ms an image", "memory of its own, MB"], floatfmt=".2f"), end="\n\n")
    print(f"{args.images[0]} images, epoch by epoch")
    print(tabulate(grown, ["after epoch", "memory of its own, MB", "with mapped files, MB"], floatfmt=".1f"), end="\n\n")
    with tempfile.TemporaryDirectory() as directory:
        print(f"The demo's setting: {seconds_to_first_step(directory):.1f} s to the first step")


if __name__ == "__main__":
    main()
