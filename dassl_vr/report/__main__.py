"""`python -m dassl_vr.report OUTPUT_DIR ...`: one table of all finished runs."""

import argparse
import sys

from ..cli.errors import one_line_errors
from .runs import group_runs
from .tables import FORMATS, render, results_table


@one_line_errors
def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m dassl_vr.report", description=__doc__)
    parser.add_argument("directories", nargs="+", metavar="OUTPUT_DIR", help="directories with runs in them, at any depth")
    parser.add_argument("--format", choices=FORMATS, default="plain", help="of the table (default: plain)")
    args = parser.parse_args(argv)
    print(render(*results_table(group_runs(args.directories)), args.format))


if __name__ == "__main__":
    sys.exit(main())
