"""Images a second of the ordinary loader and of the image store, side by side, and the memory that each takes.

    python benchmarks/data.py [--images 2000] [--epochs 3] [--workers 2]

Both give the same training batches for the recipe `vr_squash vr_crop vr_flip normalize` at 224 pixels, from JPEGs of
256 x 256 pixels that are made for it. Two things are timed: the uint8 batches, which is what the store stands in for
(the rest happens on the accelerator where there is one), and the finished batches on this machine's CPU.

Epoch 1 reads each file, decodes and resizes it, with the store as without. Beside the uint8 batches stands what libjpeg-turbo
allows: torchvision's `decode_jpeg` on the bytes of the same files, in a thread for each core, with nothing else to do.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torchvision.io import ImageReadMode, decode_jpeg

from dassl_vr.config import get_cfg_default, merge_list
from dassl_vr.data import BatchLoader, DatasetWrapper, Datum, Pipeline, build_sampler, build_transform
from dassl_vr.data.store import ImageStores
from dassl_vr.utils.cores import cpu_cores
from dassl_vr.utils.environment import collect_env_info

RECIPE = ("vr_squash", "vr_crop", "vr_flip", "normalize")


def make_images(directory, count):
    """`count` JPEGs of smooth colours with some noise, about 30 KB each, like photographs."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        path = Path(directory, f"{number:05d}.jpg")
        Image.fromarray(noisy).save(path, quality=90)
        items.append(Datum(path, number % 10, 0, str(number % 10)))
    return items


def memory_of_processes():
    """Bytes that this process and its children hold for themselves (proportional share of what they share)."""
    pids = ["self", *(child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split())]
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


class PeakMemory:
    """The highest `memory_of_processes` inside the block, minus that before it."""

    def __enter__(self):
        self.before = self.peak = memory_of_processes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.2):
            self.peak = max(self.peak, memory_of_processes())

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.extra = self.peak - self.before


def measure(how, finished, directory, items, args):
    """Seconds of each epoch, and extra memory."""
    torch.set_num_threads(cpu_cores())
    cfg = get_cfg_default()
    merge_list(cfg, ["SEED", 0, "INPUT.SIZE", (224, 224), "INPUT.TRANSFORMS", RECIPE, "DATALOADER.STORE", how])
    pipeline = build_transform(cfg)
    if not finished:
        pipeline = Pipeline(pipeline.image_ops, [], deterministic=True, repeatable=True)
    seconds = []
    with PeakMemory() as memory:
        loader = BatchLoader(
            DatasetWrapper(cfg, items, transform=pipeline, is_train=True),
            build_sampler("RandomSampler", cfg, items),
            args.batch_size,
            num_workers=args.workers,
            persistent=True,
            stores=ImageStores(cfg, directory, "benchmark"),
        )
        for epoch in range(args.epochs):
            loader.set_epoch(epoch)
            start = time.perf_counter()
            count = sum(len(batch["label"]) for batch in loader)
            seconds.append(time.perf_counter() - start)
            assert count == len(items)
    return seconds, memory.extra


def decode_alone(items):
    """Seconds that torchvision takes to decode all files, whose bytes are in memory already."""
    torch.set_num_threads(1)
    files = [torch.frombuffer(bytearray(Path(item.impath).read_bytes()), dtype=torch.uint8) for item in items]
    with ThreadPoolExecutor(cpu_cores()) as pool:
        start = time.perf_counter()
        for image in pool.map(lambda file: decode_jpeg(file, ImageReadMode.RGB), files):
            assert image.shape == (3, 256, 256)
        return time.perf_counter() - start


def start_workers_by(method):
    """A spawned process would spawn its loader's workers too, each of which imports torch for seconds; in a run they are forked."""
    multiprocessing.set_start_method(method, force=True)


def apart(function, *arguments):
    """`function(*arguments)` in a new process, which has nothing of what others have loaded."""
    usual = multiprocessing.get_start_method()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_workers_by, [usual]) as pool:
        return pool.submit(function, *arguments).result()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3, help="at least 2; the best one after the first counts")
    parser.add_argument("--workers", type=int, default=cpu_cores(), help="of the ordinary loader (default: one a core)")
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    print(collect_env_info(), end="\n\n")
    with tempfile.TemporaryDirectory() as directory:
        items = make_images(directory, args.images)
        for finished in (False, True):
            rows, rate = [], {}
            for how, label in (
                ("off", f"ordinary loader, {args.workers} workers"),
                ("memory", "store in memory"),
                ("disk", "store on disk"),
            ):
                seconds, memory = apart(measure, how, finished, directory, items, args)
                rate[how] = len(items) / min(seconds[1:])
                rows.append([label, len(items) / seconds[0], rate[how], rate[how] / rate["off"], memory / 1e6])
            if not finished:
                label = f"decode_jpeg alone, {cpu_cores()} threads"
                rows.append([label, len(items) / apart(decode_alone, items), None, None, None])
            print("Finished batches, on the CPU" if finished else "uint8 batches")
            headers = ["", "epoch 1, images/s", "later, images/s", "times the loader", "memory, MB"]
            print(tabulate(rows, headers, floatfmt=".1f"), end="\n\n")


if __name__ == "__main__":
    main()
