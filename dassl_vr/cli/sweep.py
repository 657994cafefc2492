"""`python sweep.py`: a grid of runs on Ray, on this machine or a cluster; or a search for settings."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..utils.arguments import OneLineParser, positive
from .errors import one_line_errors
from .tables import ENVIRONMENT, add_table_flags, data_and_output, executor_of, name_failed, resumable, seeds_of, split_settings

if TYPE_CHECKING:
    from ..runs.plan import Run

EPILOG = (
    """examples:
  %(prog)s --trainers SMM VR-full VR-pad --datasets eurosat dtd --backbones rn18 rn50 --seeds 0 1 2
  %(prog)s --trainers SMM --datasets digits --backbones lite0 --seeds 0 1 2 --address auto --gpus-per-run 0.25
  %(prog)s --trainers SMM --datasets digits --backbones lite0 --seeds 0 --search space.yaml --trials 20

A space names keys of the configuration and what they may be:
  OPTIM.LR: {loguniform: [0.001, 0.1]}       # or uniform: [0, 1], or
  TRAINER.SMM.PATCH_SIZE: {choice: [4, 8]}
ASHA ends bad trials early. All that it looks at is the validation split; the test split is not touched.
A search starts over when it is started again.

Every machine of a cluster has to see this directory, the data and the output directory under the same paths.
"""
    + ENVIRONMENT
)


def build_sweep_parser() -> OneLineParser:
    parser = OneLineParser(
        usage="%(prog)s --trainers T ... --datasets D ... --backbones B ... [options] [-- KEY VALUE ...]",
        description="Train what is missing of a grid on Ray, try again what fails, leave what is finished, and print the table.",
        epilog=EPILOG,
    )
    parser.add_argument("--trainers", nargs="+", required=True, metavar="T", help="trainers, or one of their methods as in VR-full")
    parser.add_argument("--datasets", nargs="+", required=True, metavar="D")
    parser.add_argument("--backbones", nargs="+", required=True, metavar="B", help="those with a recipe in configs/trainers/T")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    parser.add_argument("--search", metavar="YAML", help="search this space for settings, for each combination of the grid")
    parser.add_argument("--trials", type=positive, default=20, metavar="N", help="of a search (default: 20)")
    add_table_flags(parser, ray_only=True)
    return parser


def plan(args: argparse.Namespace, settings: list[str]) -> list[Run]:
    """All runs of the grid, in order. Raises `ConfigError` for what no run could do."""
    from ..runs.cells import Cell, check_settings
    from ..runs.plan import unique

    root, output = data_and_output()
    runs = []
    for name in args.trainers:
        trainer, _, method = name.partition("-")
        check_settings(settings, {f"TRAINER.{trainer.upper()}.METHOD"} if method else ())
        cells = [Cell(trainer, method, dataset, backbone) for dataset in args.datasets for backbone in args.backbones]
        runs += [cell.run(seed, output, args.tag, root, settings, args.plugin) for cell in cells for seed in args.seeds]
    return unique(runs)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    words, settings = split_settings(argv)
    args = build_sweep_parser().parse_args(words)
    args.seeds = seeds_of(args.seeds)
    from ..plugins import load_plugins
    from ..runs.plan import describe
    from ..runs.search import check_space, read_space, search, search_place
    from .report import print_table

    load_plugins(args.plugin)
    runs = plan(args, settings)
    if args.search:
        space = read_space(args.search)
        check_space(runs, space)
        if args.dry_run:
            for run in runs:
                print(f"search    {search_place(run)}, {args.trials} trials")
        else:
            with resumable("to start over"):
                search(executor_of(args), runs, space, args.trials)
        return name_failed(runs)
    if args.dry_run:
        describe(runs)
    else:
        with resumable():
            executor_of(args).execute(runs)
        print_table(runs, args.format, args.seeds)
    return name_failed(runs, args.dry_run)


if __name__ == "__main__":
    sys.exit(main())
