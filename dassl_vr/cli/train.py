"""Train a prompt on a data set, or test a finished run."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from ..names import LISTS, TRAINERS
from ..utils.arguments import OneLineParser, add_plugin_flag
from ..utils.errors import EXIT_PREEMPTED
from .errors import one_line_errors
from .list import print_list
from .tables import data_and_output

if TYPE_CHECKING:
    from yacs.config import CfgNode

EPILOG = f"""examples:
  %(prog)s --trainer SMM --dataset-config-file configs/datasets/digits.yaml \\
      --config-file configs/trainers/SMM/lite0.yaml --output-dir output/try --seed 1
  %(prog)s ... --resume output/try                          # continue an interrupted run
  %(prog)s --eval-only --model-dir output/try               # test a finished run
  %(prog)s ... TRAINER.SMM.PATCH_SIZE 16 OPTIM.MAX_EPOCH 20 # any key of the configuration
  torchrun --nproc_per_node 4 -m dassl_vr.cli.train ...            # the same run on four GPUs, or four processes without any

exit codes: 0 done, 2 an error (one line), 130 Ctrl-C, {EXIT_PREEMPTED} asked to end by SIGTERM or SIGUSR1: the run is
  saved after the batch in progress, and --resume continues from there with the same results
"""


def build_parser() -> OneLineParser:
    """The family's flags; every one left out leaves the YAML files' values alone."""
    parser = OneLineParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("--root", help="directory that holds the data sets")
    parser.add_argument("--output-dir", metavar="DIR", help="directory for the run's files (default: where the scripts put them)")
    parser.add_argument("--resume", metavar="DIR", help="output directory of an interrupted run to continue")
    parser.add_argument("--seed", type=int, help="0 or more; negative draws one")
    parser.add_argument("--source-domains", nargs="+", metavar="NAME", help="of domain generalization and adaptation")
    parser.add_argument("--target-domains", nargs="+", metavar="NAME", help="of domain generalization and adaptation")
    parser.add_argument("--transforms", nargs="+", metavar="NAME", help="transforms by name")
    parser.add_argument("--config-file", metavar="YAML", help="the trainer's recipe")
    parser.add_argument("--dataset-config-file", metavar="YAML", help="the data set")
    parser.add_argument("--trainer", metavar="NAME", help=f"{', '.join(TRAINERS)}, or one of a plug-in")
    parser.add_argument("--backbone", metavar="NAME", help="see --list backbones; default: the recipe's")
    parser.add_argument("--head", metavar="NAME", help="name of the head")
    add_plugin_flag(parser, "more trainers, f_in, f_out, data sets or backbones")
    parser.add_argument("--eval-only", action="store_true", help="test a checkpoint, train nothing")
    parser.add_argument("--model-dir", default="", metavar="DIR", help="output directory of the run to test")
    parser.add_argument(
        "--load-epoch",
        type=int,
        metavar="N",
        help="test the checkpoint of this epoch (default: best by validation, else newest)",
    )
    parser.add_argument("--list", choices=LISTS, metavar="KIND", help=f"list {', '.join(LISTS)}, and end")
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys of the configuration")
    return parser


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The configuration of a command line."""
    from ..runs.settings import cfg_of_flags

    return cfg_of_flags(vars(args), args.opts, args.plugin, args.model_dir if args.eval_only else "")


def _names_place(args, cfg):
    """Whether the command line or a file says where the run's files go."""
    from ..config import get_cfg_default

    return args.output_dir is not None or "OUTPUT_DIR" in args.opts[::2] or cfg.OUTPUT_DIR != get_cfg_default().OUTPUT_DIR


def _place_of(args):
    """For `run`: the directory that the scripts give such a run; of a run that is resumed, its own."""
    from ..engine.run_directory import check_resumed, is_used
    from ..runs.cells import cell_of, join_tags, shots_tag

    other_backbone = args.backbone or "MODEL.BACKBONE.NAME" in args.opts[::2]

    def place(cfg):
        if cfg.RESUME:
            check_resumed(cfg.RESUME, is_used)  # a mistyped one is not where a new run begins
            return cfg.RESUME
        shots = shots_tag(max(cfg.DATASET.NUM_SHOTS, 0))
        cell = cell_of(cfg, "" if other_backbone else args.config_file or "", args.dataset_config_file or "")
        return cell.directory(data_and_output()[1], join_tags(os.environ.get("TAG") or "default", shots)) / f"seed{cfg.SEED}"

    return place


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.list:
        return print_list(args.list, args.plugin)
    from tabulate import tabulate

    from ..runs import evaluate, run

    cfg = setup_cfg(args)
    heading = tabulate([[key, value] for key, value in sorted(vars(args).items())], ["argument", "value"])
    if args.eval_only:
        output_dir = cfg.OUTPUT_DIR if args.output_dir else ""
        evaluate(cfg, args.model_dir, epoch=args.load_epoch, output_dir=output_dir, heading=heading)
    else:
        run(cfg, train=not args.no_train, heading=heading, place=None if _names_place(args, cfg) else _place_of(args))


if __name__ == "__main__":
    sys.exit(main())
