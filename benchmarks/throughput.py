"""How fast training is: beside a textbook loop, and beside what the frozen backbone alone allows.

    python benchmarks/throughput.py --backbones lite0 rn18 rn50 vit_b32 clip_vit_b16 [--device cpu|cuda|...] [--json FILE]
                                    [--images 500] [--batch 50] [--size S] [--repeats 3] [--workers 2]
                                    [--variants graph compile graph+compile torch layers autograd store]

For each backbone, with random weights, in one process and in turns:

(a) the textbook loop of `textbook.py`: an epoch of SMM, which is label mapping, training and test;
(b) ours, through the engine: the same with MAPPING_PASS exact and reuse, and the training pass of the full watermark;
(c) the bound: forward and input gradient of the same frozen backbone, in the same precision, on a batch that is there already.

Variants are (b) with the exact pass and another setting: TRAIN.GRAPH, TRAIN.COMPILE, both, the image store on the device (`store`),
the mask generator without Numba's loops (`torch`) or layer by layer in place of its pooled blocks (`layers`), or torch's own
backward pass in all of the backbone (`autograd`). Beside those with a graph stands (c) recorded as a graph too. One that fails is
named, and left out.

Images are scikit-learn's digits as JPEG files of 64 x 64 pixels, half as many for testing as for training. Every ratio is that of
one turn; medians over the turns are printed, and written to FILE as one record a backbone.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from PIL import Image
from sklearn.datasets import load_digits
from tabulate import tabulate
from textbook import Textbook
from torch import nn
from torch.nn import functional as F

from dassl_vr.backbones import backbone_spec, build_backbone
from dassl_vr.backbones.input_gradient import InputGradientConv2d, InputGradientReLU6
from dassl_vr.config import get_cfg_default, merge_list
from dassl_vr.engine import build_trainer, resolve_cfg
from dassl_vr.engine.trainer import resolve_precision
from dassl_vr.plugins import load_plugins
from dassl_vr.reprogramming import pooled_block
from dassl_vr.utils.cores import cpu_cores
from dassl_vr.utils.devices import Recorder, choose_device, device_label, peak_bytes, wait_for
from dassl_vr.utils.environment import collect_env_info, peak_memory_bytes
from dassl_vr.utils.memory import keep_freed_memory
from dassl_vr.utils.seeding import set_random_seed

FIELDS = [
    "backbone",
    "device",
    "precision",
    "batch",
    "textbook_images_per_s",  # training images a second of whole epochs of SMM
    "ours_images_per_s",  # the same, with the exact mapping pass
    "bound_images_per_s",  # of (c)
    "speedup_exact",  # (a) / (b), seconds of an epoch of SMM
    "speedup_reuse",
    "of_bound_full",  # (c) / (b), seconds of a training pass
    "of_bound_smm",
    "peak_memory_bytes",  # of ours
    "variants",  # {name: {field: value}} with the last two of (b), or {"failed": why}
    "bound_graph_images_per_s",  # of (c) as a graph; None where none was measured
    "device_name",
    "torch",
]
VARIANTS = {
    "graph": ["TRAIN.GRAPH", True],
    "compile": ["TRAIN.COMPILE", True],
    "graph+compile": ["TRAIN.GRAPH", True, "TRAIN.COMPILE", True],
    "torch": ["TRAIN.KERNELS", "torch"],
    "layers": ["TRAIN.KERNELS", "torch"],
    "autograd": [],
    "store": ["DATALOADER.STORE", "device"],
}


def write_images(directory, train, test, side=64):
    """Digits as `directory/{train,test}/<class>/*.jpg`, no image twice as long as there are enough of them (1,797)."""
    digits = load_digits()
    for number in range(train + test):
        index = number % len(digits.images)
        pixels = (digits.images[index] * (255 / 16)).astype("uint8")
        image = Image.fromarray(pixels).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        folder = Path(directory, "train" if number < train else "test", str(digits.target[index]))
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number:05d}.jpg", quality=95)


def config(trainer, directory, out, backbone, size, batch, *more):
    """The configuration of a run on `write_images`' files in the paper's recipe."""
    cfg = get_cfg_default()
    settings = {
        "OUTPUT_DIR": str(out),
        "SEED": 1,
        "VERBOSE": False,
        "INPUT.SIZE": (size, size),
        "INPUT.TRANSFORMS": ("vr_squash", "vr_crop", "vr_flip", "normalize"),
        "DATASET.NAME": "folder",
        "DATASET.ROOT": str(directory),
        "DATASET.FLIP": False,
        "DATASET.VAL_PERCENT": 0.0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": batch,
        "DATALOADER.TRAIN_X.DROP_LAST": False,
        "DATALOADER.TEST.BATCH_SIZE": batch,
        "MODEL.BACKBONE.NAME": backbone,
        "MODEL.BACKBONE.PRETRAINED": False,
        "OPTIM.LR": 0.01,
        "OPTIM.WEIGHT_DECAY": 0.0,
        "OPTIM.MAX_EPOCH": 1000,
        "TRAINER.NAME": trainer,
    }
    merge_list(cfg, [part for pair in settings.items() for part in pair])
    merge_list(cfg, list(more))
    resolve_cfg(cfg)
    cfg.freeze()
    return cfg


class Ours:
    """A trainer of ours, driven epoch by epoch as its own loop does, without the files of a run.

    Args:
        variant: "layers" = no block of the mask generator is one operation; "autograd" = no layer of the backbone has a backward
            pass of ours.
    """

    def __init__(self, cfg, variant=""):
        self.pooled = variant != "layers"
        set_random_seed(cfg.SEED)
        with contextlib.redirect_stdout(io.StringIO()):
            self.trainer = build_trainer(cfg)
        if variant == "autograd":
            for module in self.trainer.model.backbone.modules():
                if isinstance(module, InputGradientConv2d | InputGradientReLU6):
                    module.__class__ = type(module).__base__
        self.trainer.epoch = -1

    def epoch(self):
        """(seconds of an epoch, seconds of its training pass, test accuracy in percent)."""
        if self.pooled:
            return self._epoch()
        with mock.patch.object(pooled_block, "applies", lambda *_: False):
            return self._epoch()

    def _epoch(self):
        trainer, device = self.trainer, self.trainer.device
        trainer.epoch += 1
        trainer.begin_progress()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            start = time.perf_counter()
            trainer._begin_epoch()
            trainer.before_epoch()
            training = now(device)
            trainer.run_epoch()
            if trainer.progress.batches != len(trainer.train_loader_x):
                raise RuntimeError(f"{trainer.progress.batches} training batches where {len(trainer.train_loader_x)} were due")
            testing = now(device)
            accuracy = trainer.test()
            end = now(device)
        for line in printed.getvalue().splitlines():
            if line.startswith("TRAIN.COMPILE:"):  # it goes on uncompiled
                raise RuntimeError(line)
        return end - start, testing - training, accuracy


def now(device):
    wait_for(device)
    return time.perf_counter()


class PlainClip(nn.Module):
    """A CLIP as a classifier: scaled cosines of the image and of sentences whose features are known already."""

    def __init__(self, model, text_features):
        super().__init__()
        self.model, self.text_features = model, text_features

    def forward(self, x):
        features = F.normalize(self.model.encode_image(x), dim=-1)
        return self.model.logit_scale.exp() * features @ self.text_features.T


def textbook_network(cfg, source):
    """The library's own module with the weights of `source`, a trainer's of ours: nothing folded, memory in its usual order."""
    node = cfg.MODEL.BACKBONE
    set_random_seed(cfg.SEED)
    with torch.random.fork_rng(devices=[]):  # the same random weights as `backbone_from_cfg` gives to ours
        plain = {"fold": False, "channels_last": False, "verbose": False}
        backbone = build_backbone(node.NAME, pretrained=node.PRETRAINED, size=cfg.INPUT.SIZE[0], **plain)
    return PlainClip(backbone.model, source.text_features) if backbone.kind == "clip" else backbone.model


def normalization(source):
    """Mean and standard deviation that a trainer's source labels' backbone wants."""
    backbone = getattr(source, "backbone", source)  # behind CLIP's `TextSource`
    return backbone.mean, backbone.std


class Bound:
    """Forward and input gradient of a frozen backbone on one batch."""

    def __init__(self, source, size, batch, device):
        generator = torch.Generator().manual_seed(0)
        self.source, self.device = source, device
        self.x = torch.randn(batch, 3, size, size, generator=generator).to(device).requires_grad_()
        self.labels = torch.randint(0, 10, (batch,), generator=generator).to(device)

    def step(self):
        return torch.autograd.grad(F.cross_entropy(self.source.logits(self.x), self.labels), self.x)

    def recorded(self):
        """`step` as a graph of the device."""
        recorder = Recorder(self.device)
        with recorder.aside():
            self.step()
        self.kept, replay = recorder.record(self.step)
        return replay

    def images_per_second(self, batches, step=None):
        start = now(self.device)
        for _ in range(batches):
            (step or self.step)()
        return batches * len(self.x) / (now(self.device) - start)


class PeakMemory:
    """Bytes at most inside the block: on an accelerator those that torch counts, else resident ones of the process."""

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        if peak_bytes(self.device) is not None:
            torch.accelerator.reset_peak_memory_stats(self.device)
        elif Path("/proc/self/clear_refs").exists():  # on Linux
            Path("/proc/self/clear_refs").write_text("5")  # the highest so far = the present one
        return self

    def __exit__(self, *_):
        self.bytes = peak_memory_bytes(self.device)
        if peak_bytes(self.device) is None and Path("/proc/self/status").exists():
            status = Path("/proc/self/status").read_text()
            self.bytes = int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(name, directory, args):
    """The record of one backbone, and seconds of each kind of epoch (medians)."""
    device = choose_device(args.device, what="--device")
    precision = resolve_precision(args.precision, device)
    size = args.size or backbone_spec(name).input_size
    more = ["TRAIN.PRECISION", precision, "DEVICE", str(device), *args.opts]
    with tempfile.TemporaryDirectory() as out:
        smm = config("SMM", directory, out, name, size, args.batch, *more)
        trainers = {
            "exact": Ours(smm),
            "reuse": Ours(config("SMM", directory, out, name, size, args.batch, *more, "TRAINER.SMM.MAPPING_PASS", "reuse")),
            "full": Ours(config("VR", directory, out, name, size, args.batch, *more, "TRAINER.VR.MAPPING_PASS", "reuse")),
        }
        failed = {}
        for variant in args.variants:
            try:
                cfg = config("SMM", directory, out, name, size, args.batch, *more, *VARIANTS[variant])
                trainers[variant] = Ours(cfg, variant)
                trainers[variant].epoch()
            except Exception as error:
                trainers.pop(variant, None)
                failed[variant] = {"failed": " ".join(str(error).split())[:300]}
                print(f"  {variant} failed: {failed[variant]['failed']}", flush=True)
    source = trainers["full"].trainer.model.backbone
    network = textbook_network(smm, source).to(device)
    textbook = Textbook(
        directory, network, size, *normalization(source), args.batch, args.workers, device, precision, flip=smm.DATASET.FLIP
    )
    bound = Bound(source, size, args.batch, device)
    keep_freed_memory(False)
    textbook.epoch()  # starts its workers
    keep_freed_memory(smm.TRAIN.KEEP_MEMORY)
    for kind in ("exact", "reuse", "full"):  # their first epoch reads the images and, with `reuse`, makes the only mapping pass
        trainers[kind].epoch()
    recorded = bound.recorded() if any("graph" in kind for kind in trainers) else None
    batches = -(-args.images // args.batch)
    turns = []
    for turn in range(args.repeats):
        record = {}
        keep_freed_memory(False)
        start = time.perf_counter()
        textbook.epoch()
        record["textbook"] = now(device) - start
        keep_freed_memory(smm.TRAIN.KEEP_MEMORY)
        trainers["reuse"].epoch()  # not measured: it requests memory from the system anew, as only a run's first epoch does
        with PeakMemory(device) as memory:
            for kind, ours in trainers.items():
                record[kind], record[f"{kind} training"], _ = ours.epoch()
                if kind in ("exact", "full"):
                    record[f"{kind} bound"] = bound.images_per_second(-(-batches // 2))
            if recorded:
                record["graph bound"] = bound.images_per_second(batches, recorded)
        record["memory"] = memory.bytes
        turns.append(record)
        print(f"  turn {turn}: " + ", ".join(f"{key} {value:.2f}" for key, value in record.items()), flush=True)
    return summarize(name, device, precision, args, turns, [kind for kind in args.variants if kind in trainers], failed)


def summarize(name, device, precision, args, turns, variants, failed):
    def median(value):
        return statistics.median(value(turn) for turn in turns)

    bound = {kind: (lambda turn, kind=kind: turn[f"{kind} bound"]) for kind in ("exact", "full")}
    of_bound = {kind: (lambda turn, kind=kind: args.images / turn[f"{kind} training"] / bound[kind](turn)) for kind in bound}
    measured = {
        kind: {
            "ours_images_per_s": median(lambda turn, kind=kind: args.images / turn[kind]),
            "speedup_exact": median(lambda turn, kind=kind: turn["textbook"] / turn[kind]),
            "of_bound_smm": median(lambda turn, kind=kind: args.images / turn[f"{kind} training"] / turn["exact bound"]),
        }
        for kind in variants
    }
    values = (
        name,
        device.type,
        precision,
        args.batch,
        median(lambda turn: args.images / turn["textbook"]),
        median(lambda turn: args.images / turn["exact"]),
        median(bound["full"]),
        median(lambda turn: turn["textbook"] / turn["exact"]),
        median(lambda turn: turn["textbook"] / turn["reuse"]),
        median(of_bound["full"]),
        median(of_bound["exact"]),
        max(turn["memory"] for turn in turns),
        measured | failed,
        median(lambda turn: turn["graph bound"]) if "graph bound" in turns[0] else None,
        device_label(device) or "CPU",
        torch.__version__,
    )
    seconds = {kind: median(lambda turn, kind=kind: turn[kind]) for kind in ("textbook", "exact", "reuse")}
    return dict(zip(FIELDS, values, strict=True)), seconds


def table(results):
    headers = ["backbone", "textbook, img/s", "ours, img/s", "bound, img/s", "exact / textbook", "reuse / textbook"]
    headers += ["full / bound", "SMM / bound", "s an epoch: textbook", "exact", "reuse", "peak memory, GB"]
    rows = []
    for record, seconds in results:
        rates = [record[key] for key in FIELDS[4:11]]
        rows.append([record["backbone"], *rates, *seconds.values(), record["peak_memory_bytes"] / 1e9])
    return tabulate(rows, headers, floatfmt=("", ".1f", ".1f", ".1f", ".2f", ".2f", ".2f", ".2f", ".1f", ".1f", ".1f", ".2f"))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["lite0", "rn18", "rn50", "vit_b32", "clip_vit_b16"])
    parser.add_argument("--device", default="auto", help="as the key DEVICE")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--images", type=int, default=500, help="for training; half as many for the test")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--size", type=int, help="side in pixels (default: the backbone's own)")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--workers", type=int, default=cpu_cores(), help="of the textbook's loader (default: one a core)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[])
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="of our configuration")
    args = parser.parse_args(argv)
    load_plugins()
    print(collect_env_info(), f"threads: {torch.get_num_threads()}", sep="\n", end="\n\n")
    results = []
    with tempfile.TemporaryDirectory() as directory:
        write_images(directory, args.images, args.images // 2)
        for name in args.backbones:
            print(name, flush=True)
            results.append(measure(name, directory, args))
            if args.json:  # after each, so that an interruption leaves those that are done
                Path(args.json).write_text(json.dumps([record for record, _ in results], indent=1) + "\n")
    print()
    print(table(results))
    rows = [
        [record["backbone"], kind, *values.values()] for record, _ in results for kind, values in record["variants"].items()
        if "failed" not in values
    ]  # fmt: skip
    if rows:
        headers = ["backbone", "variant", "ours, img/s", "exact / textbook", "SMM / bound"]
        print("", tabulate(rows, headers, floatfmt=("", "", ".1f", ".2f", ".2f")), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
