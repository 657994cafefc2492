"""Whether the fast training learns as well as the textbook loop: the same images, recipe and real weights.

    python benchmarks/accuracy.py [--images 600] [--size 96] [--epochs 8] [--batch 32] [--seeds 1 2 3] [--workers 0]

SMM on digits as JPEG files in front of lite0, Adam at 0.01 throughout: the loop of `textbook.py`, ours with the exact mapping pass
and ours with MAPPING_PASS reuse. Test accuracy is that of the last epoch.
"""

import checkout  # noqa: F401

# isort: split
import argparse
import statistics
import tempfile

from mapping_pass import spread
from tabulate import tabulate
from textbook import Textbook
from throughput import Ours, config, normalization, textbook_network, write_images

from dassl_vr.plugins import load_plugins
from dassl_vr.utils.environment import collect_env_info
from dassl_vr.utils.seeding import set_random_seed


def accuracies(directory, seed, args):
    """{loop: test accuracy in percent} of one seed."""

    def settings(mapping_pass):
        more = ["MODEL.BACKBONE.PRETRAINED", True, "SEED", seed, "TRAINER.SMM.MAPPING_PASS", mapping_pass]
        return config("SMM", directory, f"{directory}/out", "lite0", args.size, args.batch, *more)

    ours = {mapping_pass: Ours(settings(mapping_pass)) for mapping_pass in ("exact", "reuse")}
    cfg, source = settings("exact"), ours["exact"].trainer.model.backbone
    network = textbook_network(cfg, source)
    set_random_seed(seed)
    textbook = Textbook(directory, network, args.size, *normalization(source), args.batch, args.workers, "cpu")
    results = {"textbook": [textbook.epoch() for _ in range(args.epochs)][-1]}
    for mapping_pass, loop in ours.items():
        set_random_seed(seed)
        results[mapping_pass] = [loop.epoch()[-1] for _ in range(args.epochs)][-1]
    return results


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 600), ("size", 96), ("epochs", 8), ("batch", 32), ("workers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
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
    rows = []
    for loop in runs[0]:
        values = [run[loop] for run in runs]
        beyond = [run[loop] - run["textbook"] for run in runs]
        rows.append([loop, spread(values), spread(beyond), f"{statistics.median(beyond):.1f}"])
    print(tabulate(rows, ["loop", "test accuracy, %", "beyond the textbook's", "median of that"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
