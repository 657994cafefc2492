"""Whether the fast training learns as well as the textbook loop: the same images, recipe and real weights.

    python benchmarks/accuracy.py [--images 600] [--size 96] [--epochs 8] [--batch 32] [--seeds 1 2 3] [--workers 0]
                                  [--backbone lite0] [--device cpu|cuda|...] [--precision fp32] [--json FILE]
                                  [--loops textbook exact reuse graph]

SMM on digits as JPEG files, Adam at 0.01 throughout: the loop of `textbook.py`, ours with the exact mapping pass, ours with
MAPPING_PASS reuse, and (if asked for) ours with the exact pass and TRAIN.GRAPH. Test accuracy is that of the last epoch; FILE gets
that of every seed.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import json
import statistics
import tempfile
from pathlib import Path

from mapping_pass import spread
from tabulate import tabulate
from textbook import Textbook
from throughput import Ours, config, normalization, textbook_network, write_images

from dassl_vr.engine.trainer import resolve_precision
from dassl_vr.plugins import load_plugins
from dassl_vr.utils.devices import choose_device
from dassl_vr.utils.environment import collect_env_info
from dassl_vr.utils.seeding import set_random_seed

LOOPS = {
    "textbook": [],
    "exact": ["TRAINER.SMM.MAPPING_PASS", "exact"],
    "reuse": ["TRAINER.SMM.MAPPING_PASS", "reuse"],
    "graph": ["TRAINER.SMM.MAPPING_PASS", "exact", "TRAIN.GRAPH", True],
}


def accuracies(directory, seed, args):
    """{loop: test accuracy in percent} of one seed."""
    device = choose_device(args.device, what="--device")
    precision = resolve_precision(args.precision, device)
    more = ["MODEL.BACKBONE.PRETRAINED", True, "SEED", seed, "TRAIN.PRECISION", precision, "DEVICE", str(device)]
    results = {}
    for loop in args.loops:
        cfg = config("SMM", directory, f"{directory}/out", args.backbone, args.size, args.batch, *more, *LOOPS[loop])
        ours = Ours(cfg)
        epoch = ours.epoch
        if loop == "textbook":
            source = ours.trainer.model.backbone
            network = textbook_network(cfg, source).to(device)
            data = args.size, *normalization(source), args.batch, args.workers
            set_random_seed(seed)
            textbook = Textbook(directory, network, *data, device, precision)
            epoch = lambda textbook=textbook: (textbook.epoch(),)  # noqa: E731
        else:
            set_random_seed(seed)
        results[loop] = [epoch()[-1] for _ in range(args.epochs)][-1]
    return results


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 600), ("size", 96), ("epochs", 8), ("batch", 32), ("workers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--backbone", default="lite0")
    parser.add_argument("--device", default="auto", help="as the key DEVICE")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=["textbook", "exact", "reuse"])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args(argv)
    load_plugins()
    print(collect_env_info(), end="\n\n")
    runs = []
    with tempfile.TemporaryDirectory() as directory:
        write_images(directory, args.images, args.images // 2)
        for seed in args.seeds:
            runs.append(accuracies(directory, seed, args))
            print(f"seed {seed}: " + ", ".join(f"{loop} {value:.1f} %" for loop, value in runs[-1].items()), flush=True)
    if args.json:
        settings = {"backbone": args.backbone, "precision": args.precision, "seeds": args.seeds}
        Path(args.json).write_text(json.dumps({**settings, "accuracies": runs}, indent=1) + "\n")
    rows = []
    for loop in runs[0]:
        values = [run[loop] for run in runs]
        beyond = [run[loop] - run[args.loops[0]] for run in runs]
        rows.append([loop, spread(values), spread(beyond), f"{statistics.median(beyond):.1f}"])
    print(tabulate(rows, ["loop", "test accuracy, %", f"beyond the {args.loops[0]}'s", "median of that"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
