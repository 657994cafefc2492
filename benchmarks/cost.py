"""What the tables of the SMM paper cost, in hours of one GPU: counted from images, epochs and operations, not measured.

    python benchmarks/cost.py [TABLE ...] [--datasets NAME ...] [--tflops 100] [--each]

For each run: epochs x (training images x operations of a training step, forward and backward, on one of them, and of the pass for
the label mapping before each epoch, if there is one, + validation images x operations of a prediction) + test images x those of
one prediction. Operations are what torch's counter sees of the recipe's network without weights or memory, on the `meta` device;
images are those of the published splits. They are divided by TFLOPS: 100 is a tenth of the peak of one H100 in bf16, an assumption,
as no GPU was there to measure it. Decoding images is not in it. Neither data nor weights are needed. Runs that tables share count
in each of them.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import functools
from collections import defaultdict

import torch
from tabulate import tabulate

from dassl_vr.backbones import build_backbone
from dassl_vr.data.datasets import DATASET_REGISTRY
from dassl_vr.engine import TRAINER_REGISTRY
from dassl_vr.engine.flops import flops_per_image
from dassl_vr.paper import PAPER_REGISTRY, paper_table
from dassl_vr.plugins import load_plugins


def config(cell):
    """The configuration of the runs of `cell`."""
    return cell.run(0, "output", "default", "data").cfg


@functools.cache
def network_costs(cell):
    """(operations of training on one image, of the pass for the label mapping on it, of a prediction)."""
    cfg = config(cell)
    backbone = build_backbone(cfg.MODEL.BACKBONE.NAME, pretrained=False, size=cfg.INPUT.SIZE[0], verbose=False)
    network = TRAINER_REGISTRY.get(cell.trainer).build_network(cfg, backbone, ["one class", "another"])
    refresh, network.f_out = network.f_out.refresh, torch.nn.Identity()  # a layer at most, small beside a backbone
    network.to("meta")

    def train(images):
        output = network(images)
        if output.requires_grad:
            output.sum().backward()

    def predict(images):
        with torch.no_grad():
            network(images)

    step, prediction = (flops_per_image(function, tuple(cfg.INPUT.SIZE), "meta") for function in (train, predict))
    return step, prediction * (refresh == "epoch"), prediction


def run_cost(cell):
    """Operations of one run."""
    cfg = config(cell)
    training, validation, test = DATASET_REGISTRY.get(cfg.DATASET.NAME).official_counts
    step, mapping, prediction = network_costs(cell_of_network(cell))
    validated = validation * bool(cfg.TEST.VAL_CURVE) / cfg.TEST.VAL_FREQ
    return cfg.OPTIM.MAX_EPOCH * (training * (step + mapping) + validated * prediction) + test * prediction


def cell_of_network(cell):
    """The same for all data sets, whose images have one size."""
    return type(cell)(cell.trainer, cell.method, "cifar10", cell.backbone, cell.variant, cell.settings, cell.options)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="default: all")
    parser.add_argument("--backbones", nargs="+", help="default: the table's")
    parser.add_argument("--datasets", nargs="+", help="default: the table's")
    parser.add_argument("--tflops", type=float, default=100, help="that a GPU does in a second (default: 100)")
    parser.add_argument("--each", action="store_true", help="a row for each method and backbone")
    args = parser.parse_args(argv)
    load_plugins()
    rows = []
    for name in args.tables or PAPER_REGISTRY.registered_names():
        table, hours, runs, steps = paper_table(name), defaultdict(float), defaultdict(int), {}
        for backbone in args.backbones or table.backbones:
            for dataset in args.datasets or table.datasets:
                for variant, cell in table.cells(dataset, backbone):
                    place = (backbone, f"{variant.column} {variant.label}".strip() if args.each else "")
                    hours[place] += len(table.seeds) * run_cost(cell) / args.tflops / 1e12 / 3600
                    runs[place] += len(table.seeds)
                    steps[place] = sum(network_costs(cell_of_network(cell))[:2]) / 1e9
        for (backbone, method), spent in hours.items():
            of_image = [f"{steps[backbone, method]:.3g}"] if args.each else []
            rows.append([name, backbone, *([method] if args.each else []), str(runs[backbone, method]), *of_image, f"{spent:.1f}"])
    headers = [
        "table",
        "backbone",
        *(["method"] if args.each else []),
        "runs",
        *(["GFLOP an image and epoch"] if args.each else []),
    ]
    print(tabulate(rows, [*headers, "hours"], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
