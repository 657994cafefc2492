"""Print a table of all finished runs, compare two methods image by image, draw figures, and keep the figures as cards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..names import REPORT_FORMATS
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
    parser.add_argument(
        "--format", choices=REPORT_FORMATS, default="plain", help="of the tables (default: plain); html is a whole page"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="say which of these are missing in a row")
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
    from ..report.tables import loss_change_table

    if args.equalize and not args.figures:
        raise ConfigError("--equalize is for the galleries of --figures; add --figures DIR")
    for directory in filter(None, (args.figures, args.confusion)):
        check_new_directory(directory)
    groups = group_runs(args.directories)
    shown = _Shown(args.format, groups)
    shown.results(args.seeds)
    if args.pair:
        shown.table("Two methods on the same images", *paired_table(groups, args.pair))
    found = confusions(groups) if args.per_class or args.confusion else []
    if args.per_class:
        shown.table("Accuracy of each class", *per_class_table(found))
    if args.cards:
        paths, left_out = write_cards(groups, args.cards)
        for line in left_out:
            say(f"no card: {line}")
        say(f"wrote {len(paths)} card{'' if len(paths) == 1 else 's'} to {args.cards}")
    if args.confusion:
        shown.figures("Confusion matrices", draw_confusions(found, args.confusion))
    if args.figures:
        from ..report.figures import draw_all  # here: the figures bring much along that a table does not need

        load_plugins(args.plugin)
        drawn, changes = draw_all(groups, args.figures, args.equalize)
        headers, rows = loss_change_table(groups, changes)
        if rows:
            shown.table("Change of the loss", headers, rows)
        shown.figures("Figures", drawn)
    shown.finish()


class _Shown:
    """Prints tables as they come, or gathers them for a page; remarks go to standard error, so that the output can be piped."""

    def __init__(self, style, groups):
        from ..report.report_page import ReportPage

        self.style, self.groups, self.first = style, groups, True
        self.page = ReportPage(groups) if style == "html" else None

    def results(self, seeds):
        from ..report.tables import results_table

        self.table("Results", *results_table(self.groups, seeds))
        remarks = remarks_on(self.groups)
        for line in remarks:
            say(line)
        if self.page:
            self.page.notes += remarks

    def table(self, heading, headers, rows):
        from ..report.tables import render

        if self.page:
            self.page.tables.append((heading, headers, rows))
        else:
            print(("" if self.first else "\n") + render(headers, rows, self.style))
        self.first = False

    def figures(self, heading, drawn):
        if self.page and drawn:
            self.page.figures.append((heading, drawn))
        for one in drawn:
            say(f"wrote {one.path}")

    def finish(self):
        if self.page:
            print(self.page.html(), end="")


def remarks_on(groups: Sequence[Group]) -> list[str]:
    """What a reader of the table has to know: warnings, and notes on the column of the paper."""
    from ..report.paper import paper_notes
    from ..report.runs import warnings_about

    return [f"warning: {line}" for line in warnings_about(groups)] + [f"note: {line}" for line in paper_notes(groups)]


def print_table(runs: Sequence[Run], style: str, seeds: Sequence[int]) -> None:
    """Print the table of those that did not fail; remarks go to standard error."""
    from ..report.runs import group_runs
    from ..report.tables import render, results_table

    if good := [str(run.output_dir) for run in runs if not run.problem]:
        groups = group_runs(good)
        print("\n" + render(*results_table(groups, seeds), style))
        for line in remarks_on(groups):
            say(line)


if __name__ == "__main__":
    sys.exit(main())
