"""`python -m dassl_vr.report OUTPUT_DIR ...`: a table of all finished runs, and figures."""

import sys
from collections.abc import Sequence

from ..plugins import load_plugins
from ..report.paper import paper_notes
from ..report.runs import group_runs, warnings_about
from ..report.tables import FORMATS, loss_change_table, render, results_table
from ..runs.plan import Run
from ..utils.places import check_new_directory
from ..utils.text import say
from .errors import OneLineParser, one_line_errors


@one_line_errors
def main(argv=None):
    parser = OneLineParser(prog="python -m dassl_vr.report", description=__doc__)
    parser.add_argument("directories", nargs="+", metavar="OUTPUT_DIR", help="directories with runs in them, at any depth")
    parser.add_argument("--format", choices=FORMATS, default="plain", help="of the tables (default: plain)")
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help="write figures (PNG) to this new directory, and print for how many training samples the prompt raises the loss; loads"
        " every model",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PATH",
        help="for --figures: Python file (or folder) with the trainers or data sets of runs that need them; may be repeated",
    )
    args = parser.parse_args(argv)
    if args.figures:
        check_new_directory(args.figures)
    groups = group_runs(args.directories)
    print(render(*results_table(groups), args.format))
    # On standard error, so that a table can be piped
    for line in warnings_about(groups):
        say(f"warning: {line}")
    for line in paper_notes(groups):
        say(f"note: {line}")
    if args.figures:
        from ..report.figures import draw_all  # here: the figures bring much along that a table does not need

        load_plugins(args.plugin)
        paths, changes = draw_all(groups, args.figures)
        headers, rows = loss_change_table(groups, changes)
        if rows:
            print("\n" + render(headers, rows, args.format))
        for path in paths:
            say(f"wrote {path}")


def print_table(runs: Sequence[Run], style: str) -> None:
    """Print the table of those that did not fail."""
    good = [str(run.output_dir) for run in runs if not run.problem]
    if good:
        print()
        main([*good, "--format", style])


if __name__ == "__main__":
    sys.exit(main())
