"""Print a table of all finished runs, and draw figures."""

import sys
from collections.abc import Sequence

from ..plugins import load_plugins
from ..report.paper import paper_notes
from ..report.runs import Group, group_runs, warnings_about
from ..report.tables import FORMATS, loss_change_table, render, results_table
from ..runs.plan import Run
from ..utils.arguments import OneLineParser, add_plugin_flag
from ..utils.errors import ConfigError
from ..utils.places import check_new_directory
from ..utils.text import say
from .errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("directories", nargs="+", metavar="OUTPUT_DIR", help="directories with runs in them, at any depth")
    parser.add_argument("--format", choices=FORMATS, default="plain", help="of the tables (default: plain)")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help="write the paper's figures (PNG) to this new directory, as far as these runs allow, and print for how many training"
        " samples the prompt raises the loss; loads every model",
    )
    parser.add_argument("--equalize", action="store_true", help="spread the histograms of images in the galleries of --figures")
    add_plugin_flag(parser, "the trainers or data sets of runs that need them, for --figures")
    args = parser.parse_args(argv)
    if args.equalize and not args.figures:
        raise ConfigError("--equalize is for the galleries of --figures; add --figures DIR")
    if args.figures:
        check_new_directory(args.figures)
    groups = group_runs(args.directories)
    print_tables(groups, args.format)
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
    print(render(*results_table(groups), style))
    for line in warnings_about(groups):
        say(f"warning: {line}")
    for line in paper_notes(groups):
        say(f"note: {line}")


def print_table(runs: Sequence[Run], style: str) -> None:
    """Print the table of those that did not fail."""
    if good := [str(run.output_dir) for run in runs if not run.problem]:
        print()
        print_tables(group_runs(good), style)


if __name__ == "__main__":
    sys.exit(main())
