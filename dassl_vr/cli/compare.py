"""`scripts/compare.sh`: every trainer that fits a backbone, on the same images with the same budget, in one table."""

import argparse
import sys

from ..names import BASE_TO_NEW, CLIP_16SHOT, CROSS_DATASET, FEW_SHOT, FULL, PROTOCOLS
from ..utils.arguments import OneLineParser, positive
from ..utils.errors import ConfigError
from .errors import one_line_errors
from .tables import ENVIRONMENT, add_table_flags, data_and_output, executor_of, name_failed, resumable, seeds_of, split_settings

SHOTS = {FEW_SHOT: (1, 2, 4, 8, 16), BASE_TO_NEW: (16,), CROSS_DATASET: (16,), CLIP_16SHOT: (16,)}  # the family's
ALL = "all"
EPILOG = """protocols:
{protocols}

examples:
  %(prog)s digits lite0 --seeds 1 2 3 --jobs 2
  %(prog)s ~/data/pets lite0 --trainers LinearProbe SMM-head     # your own images, one folder per class
  %(prog)s digits tiny_clip --shots 16 --trainers CoOp VPT SMM
  %(prog)s dtd clip_vit_b16 --protocol few-shot --epochs recipe
  %(prog)s dtd clip_vit_b16 --protocol cross-dataset --targets eurosat oxford_pets
  %(prog)s all clip_vit_b16 --protocol clip-16shot --dry-run

With clip-16shot DATASET may be all, for its eleven data sets, and BACKBONE all, for its four CLIPs, one table each.
{environment}
"""


def build_compare_parser() -> OneLineParser:
    epilog = EPILOG.format(environment=ENVIRONMENT, protocols="\n".join(f"  {name:<14} {what}" for name, what in PROTOCOLS.items()))
    parser = OneLineParser(
        usage="%(prog)s DATASET BACKBONE [options] [-- KEY VALUE ...]",
        description="Train the missing runs of a comparison, resume interrupted ones, and print the table.",
        epilog=epilog,
    )
    parser.add_argument("dataset", metavar="DATASET", help="a file in configs/datasets, a registered name, or a folder of images")
    parser.add_argument("backbone", metavar="BACKBONE", help="one with recipes in configs/trainers")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        metavar="NAME",
        help=f"one of {', '.join(PROTOCOLS)} (default: few-shot with --shots, else full)",
    )
    parser.add_argument(
        "--shots", nargs="+", type=int, metavar="N", help="training images per class; 0 = all (default: the protocol's)"
    )
    parser.add_argument("--targets", nargs="+", default=[], metavar="DATASET", help="data sets to test on, for cross-dataset")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="default: 1; with clip-16shot 1 2 3")
    parser.add_argument(
        "--epochs",
        metavar="N",
        help="for every trainer; recipe = each recipe's own number, as with clip-16shot (default: that of SMM's recipe for the"
        " backbone)",
    )
    parser.add_argument(
        "--trainers", nargs="+", metavar="NAME", help="trainers, or one of their methods as in VR-full (default: all that fit)"
    )
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further recipes: best adds <BACKBONE>_best.yaml of each trainer that has one",
    )
    parser.add_argument("--output", metavar="DIR", help="directory for the runs and the results (default: $OUTPUT or ./output)")
    add_table_flags(parser)
    return parser


def settle(args: argparse.Namespace) -> None:
    """Fill in the defaults that depend on other options, in place. Raises `ConfigError` for options that conflict."""
    from ..paper.clip_16shot import SHOTS as SIXTEEN
    from ..paper.clip_16shot import Clip16Shot

    args.protocol = args.protocol or (FEW_SHOT if args.shots and min(args.shots) > 0 else FULL)
    args.shots = list(dict.fromkeys(args.shots or SHOTS.get(args.protocol, (0,))))
    clip_16shot = args.protocol == CLIP_16SHOT
    args.seeds = seeds_of(args.seeds or (Clip16Shot.seeds if clip_16shot else (1,)))
    args.epochs = args.epochs or ("recipe" if clip_16shot else None)
    if not clip_16shot and ALL in (args.dataset, args.backbone):
        raise ConfigError(f"'{ALL}' is for --protocol {CLIP_16SHOT}; add it, or name one data set and one backbone")
    args.datasets = list(Clip16Shot.datasets) if clip_16shot and args.dataset == ALL else [args.dataset]
    args.backbones = list(Clip16Shot.backbones) if clip_16shot and args.backbone == ALL else [args.backbone]
    args.output = args.output or data_and_output()[1]
    if min(args.shots) < 0:
        raise ConfigError(f"--shots {min(args.shots)}: expected 0 or more")
    if args.protocol == FEW_SHOT and 0 in args.shots:
        raise ConfigError("--shots 0 (all images) cannot be combined with --protocol few-shot; expected 1 or more")
    if args.protocol == FULL and args.shots != [0]:
        raise ConfigError("--shots cannot be combined with --protocol full; leave one of them out")
    if clip_16shot and args.shots != [SIXTEEN]:
        raise ConfigError(f"--shots cannot be combined with --protocol {CLIP_16SHOT}, which is for {SIXTEEN}; take few-shot")
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
def main(argv: list[str] | None = None) -> int:
    words, settings = split_settings(argv)
    args = build_compare_parser().parse_args(words)
    from ..plugins import load_plugins
    from ..runs.plan import describe
    from .comparison import Comparison

    load_plugins(args.plugin)
    settle(args)
    comparisons = [Comparison(argparse.Namespace(**{**vars(args), "backbone": name}), settings) for name in args.backbones]
    executor = executor_of(args)
    for comparison in comparisons:
        comparison.announce()
        if args.dry_run:
            describe(comparison.all_runs)
            continue
        with resumable():
            executor.execute(comparison.all_runs)
            if tests := comparison.add_tests():
                print("\nTesting the trained models:")
                executor.execute(tests)
        comparison.report()
    return name_failed([run for comparison in comparisons for run in comparison.all_runs], args.dry_run)


if __name__ == "__main__":
    sys.exit(main())
