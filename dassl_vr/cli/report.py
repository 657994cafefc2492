"""Print a table of all finished runs, compare two methods image by image, draw figures, and keep the figures as cards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..names import TABLE_FORMATS
from ..utils.arguments import OneLineParser, add_plugin_flag
from ..utils.errors import ConfigError
from ..utils.places import check_new_directory
from ..utils.text import say
from .errors import one_line_errors

if TYPE_CHECKING:
    from ..report.runs import Group
    from ..runs.plan import Run


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("directories", nargs="+", metavar="OUTPUT_DIR", help="directories with runs in them, at any depth")
    parser.add_argument("--format", choices=TABLE_FORMATS, default="plain", help="of the tables (default: plain)")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help="write the paper's figures (PNG) to this new directory, as far as these runs allow, and print for how many training"
        " samples the prompt raises the loss; loads every model",
    )
    parser.add_argument(
        "--pair",
        nargs=2,
        action="append",
        default=[],
        metavar=("A", "B"),
        help="compare two methods of the table image by image, such as SMM VR-full, or SMM/RECIPE where it has several: McNemar's"
        " test per seed, bootstrap intervals of the difference in accuracy over images, and over images and seeds",
    )
    parser.add_argument("--per-class", action="store_true", help="print accuracy, precision and F1 of each class")
    parser.add_argument("--confusion", metavar="DIR", help="write confusion matrices (PNG) to this new directory")
    parser.add_argument(
        "--cards",
        metavar="DIR",
        help="write a card for each row to this directory: a small JSON file from which tables of documents are made",
    )
    parser.add_argument("--equalize", action="store_true", help="spread the histograms of images in the galleries of --figures")
    add_plugin_flag(parser, "the trainers or data sets of runs that need them, for --figures")
    args = parser.parse_args(argv)
    from ..plugins import load_plugins
    from ..report.cards import write_cards
    from ..report.paired import paired_table
    from ..report.per_class import confusions, draw_confusions, per_class_table
    from ..report.runs import group_runs
    from ..report.tables import loss_change_table, render

    if args.equalize and not args.figures:
        raise ConfigError("--equalize is for the galleries of --figures; add --figures DIR")
    for directory in filter(None, (args.figures, args.confusion)):
        check_new_directory(directory)
    groups = group_runs(args.directories)
    print_tables(groups, args.format)
    if args.pair:
        print("\n" + render(*paired_table(groups, args.pair), args.format))
    found = confusions(groups) if args.per_class or args.confusion else []
    if args.per_class:
        print("\n" + render(*per_class_table(found), args.format))
    if args.cards:
        paths, left_out = write_cards(groups, args.cards)
        for line in left_out:
            say(f"no card: {line}")
        say(f"wrote {len(paths)} card{'' if len(paths) == 1 else 's'} to {args.cards}")
    if args.confusion:
        for path in draw_confusions(found, args.confusion):
            say(f"wrote {path}")
    if args.figures:
        from ..report.figures import draw_all  # here: the figures bring much along that a table does not need

        load_plugins(args.plugin)
        paths, changes = draw_all(groups, args.figures, args.equalize)
        headers, rows = loss_change_table(groups, changes)
        if rows:
            print("\n" + render(headers, rows, args.format))
        for path in paths:
            say(f"wrote {path}")


def print_tables(groups: Sequence[Group], style: str) -> None:
    """Print the table; remarks go to standard error, so that the table can be piped."""
    from ..report.paper import paper_notes
    from ..report.runs import warnings_about
    from ..report.tables import render, results_table

    print(render(*results_table(groups), style))
    for line in warnings_about(groups):
        say(f"warning: {line}")
    for line in paper_notes(groups):
        say(f"note: {line}")


def print_table(runs: Sequence[Run], style: str) -> None:
    """Print the table of those that did not fail."""
    from ..report.runs import group_runs

    if good := [str(run.output_dir) for run in runs if not run.problem]:
        print()
        print_tables(group_runs(good), style)


if __name__ == "__main__":
    sys.exit(main())
