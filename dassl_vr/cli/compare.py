"""`scripts/compare.sh`: every trainer that fits a backbone, on the same images with the same budget, in one table."""

import argparse
import os
import sys

from ..engine.run_directory import BASE_TO_NEW, CROSS_DATASET, FEW_SHOT, FULL
from ..plugins import load_plugins
from ..report.tables import FORMATS
from ..runs.cells import add_plugin_flag, check_checkout
from ..runs.executors import describe, name_failed, run_grid
from ..runs.on_ray import add_ray_arguments, on_ray_of
from ..utils.errors import ConfigError
from .comparison import PROTOCOLS, Comparison
from .errors import OneLineParser, one_line_errors, positive

SHOTS = {FEW_SHOT: (1, 2, 4, 8, 16), BASE_TO_NEW: (16,), CROSS_DATASET: (16,)}  # the family's
EPILOG = """protocols:
{protocols}

examples:
  bash scripts/compare.sh digits lite0 --seeds 1 2 3 --jobs 2
  bash scripts/compare.sh digits tiny_clip --shots 16 --trainers CoOp VPT SMM
  bash scripts/compare.sh dtd clip_vit_b16 --protocol few-shot --epochs recipe
  bash scripts/compare.sh dtd clip_vit_b16 --protocol cross-dataset --targets eurosat oxford_pets
environment: DATA (directory of the data sets, ./data), OUTPUT (./output)
"""


def build_compare_parser():
    epilog = EPILOG.format(protocols="\n".join(f"  {name:<14} {what}" for name, what in PROTOCOLS.items()))
    parser = OneLineParser(
        prog="scripts/compare.sh",
        usage="%(prog)s DATASET BACKBONE [options] [-- KEY VALUE ...]",
        description="Train what is missing of a comparison, resume what was cut off, and print the table.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help="a file of configs/datasets, or a registered name")
    parser.add_argument("backbone", metavar="BACKBONE", help="one with recipes in configs/trainers")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        metavar="NAME",
        help=f"one of {', '.join(PROTOCOLS)} (default: few-shot with --shots, else full)",
    )
    parser.add_argument(
        "--shots", nargs="+", type=int, metavar="N", help="training images a class; 0 = all (default: the protocol's)"
    )
    parser.add_argument("--targets", nargs="+", default=[], metavar="DATASET", help="data sets to test on, for cross-dataset")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], metavar="N", help="default: 1")
    parser.add_argument(
        "--epochs",
        metavar="N",
        help="for every trainer; recipe = each recipe's own number (default: that of SMM's recipe for the backbone)",
    )
    parser.add_argument(
        "--trainers", nargs="+", metavar="NAME", help="trainers, or one of their methods as in VR-full (default: all that fit)"
    )
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further recipes: robust adds each trainer's <BACKBONE>_robust.yaml",
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="runs at a time, with one thread each if several (default: 1)"
    )
    parser.add_argument("--tag", default="default", help="part of the runs' directories, to keep apart runs with other settings")
    parser.add_argument("--output", metavar="DIR", help="directory for the runs and the results (default: $OUTPUT or ./output)")
    parser.add_argument("--format", choices=FORMATS, default="plain", help="of the table (default: plain)")
    add_ray_arguments(parser, optional=True)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    add_plugin_flag(parser)
    return parser


def split_settings(argv):
    """(arguments, KEY VALUE pairs after `--`)."""
    split = argv.index("--") if "--" in argv else len(argv)
    return argv[:split], argv[split + 1 :]


def settle(args):
    """Fill in what follows from the other options, in place. Raises `ConfigError` for what does not go together."""
    args.protocol = args.protocol or (FEW_SHOT if args.shots and min(args.shots) > 0 else FULL)
    args.shots = list(dict.fromkeys(args.shots or SHOTS.get(args.protocol, (0,))))
    args.seeds = list(dict.fromkeys(args.seeds))
    args.output = args.output or os.environ.get("OUTPUT", "output")
    for name in ("seeds", "shots"):
        if min(getattr(args, name)) < 0:
            raise ConfigError(f"--{name} {min(getattr(args, name))}: expected 0 or more")
    if args.protocol == FEW_SHOT and 0 in args.shots:
        raise ConfigError("--shots 0 (all images) does not go with --protocol few-shot; expected 1 or more")
    if args.protocol == FULL and args.shots != [0]:
        raise ConfigError("--shots does not go with --protocol full; leave one of them out")
    if args.protocol != FEW_SHOT and len(args.shots) > 1:
        raise ConfigError(f"--protocol {args.protocol} takes one number of --shots")
    if (args.protocol == CROSS_DATASET) != bool(args.targets):
        raise ConfigError(f"--targets and --protocol {CROSS_DATASET} go together; give both or neither")
    if args.dataset in args.targets:
        raise ConfigError(f"--targets {args.dataset}: that is the data set to train on; leave it out")
    if args.epochs not in (None, "recipe"):
        try:
            args.epochs = positive(args.epochs)
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"--epochs: {error}, or recipe") from error


@one_line_errors
def main(argv=None):
    words, settings = split_settings(sys.argv[1:] if argv is None else list(argv))
    args = build_compare_parser().parse_args(words)
    check_checkout()
    load_plugins(args.plugin)
    settle(args)
    comparison = Comparison(args, settings)
    comparison.announce()
    if args.dry_run:
        describe(comparison.all_runs)
        return 0
    run_grid(comparison.all_runs, args.jobs, on_ray_of(args))
    if tests := comparison.add_tests():
        print("\nTests of what was trained:")
        run_grid(tests, args.jobs, on_ray_of(args))
    comparison.report()
    return name_failed(comparison.all_runs)


if __name__ == "__main__":
    sys.exit(main())
