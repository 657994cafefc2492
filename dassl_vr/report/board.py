"""`scripts/tensorboard.sh`: TensorBoard over all runs under a directory, each by a name that says what it is."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..cli.errors import OneLineParser, one_line_errors
from ..utils.errors import ConfigError

EVENTS = "tensorboard"  # directory of a run's events
RESCAN = 5  # seconds


def run_name(events, root):
    """Name of the run with the directory `events`: its path below `root`, without what all paths share."""
    parts = [part for part in Path(events).relative_to(root).parts[:-1] if part != "default"]
    return "/".join(parts) or Path(root).resolve().name


def link_runs(root, links):
    """Make a link in the directory `links` for each run under `root` that has none yet; returns how many there are."""
    number = 0
    for parent, folders, _ in os.walk(root):
        if EVENTS in folders:
            number += 1
            link = Path(links, run_name(Path(parent, EVENTS), root))
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(parent, EVENTS).resolve())
            folders.clear()
    return number


@one_line_errors
def main(argv=None):
    parser = OneLineParser(prog="scripts/tensorboard.sh", description=__doc__)
    parser.add_argument("directory", nargs="?", default=os.environ.get("OUTPUT", "output"), metavar="DIR", help="default: ./output")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of tensorboard, such as --port 6007")
    args = parser.parse_args(argv)
    if not Path(args.directory).is_dir():
        raise ConfigError(f"{args.directory}: no such directory; expected one with runs in it")
    with tempfile.TemporaryDirectory(prefix="dassl_vr-tensorboard-") as links:
        number = link_runs(args.directory, links)
        print(f"{number} run{'s' * (number != 1)} in {args.directory}; those that begin later come by themselves", flush=True)
        board = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", links, *args.options])
        try:
            while True:
                try:
                    return board.wait(timeout=RESCAN)
                except subprocess.TimeoutExpired:
                    link_runs(args.directory, links)
        finally:
            board.terminate()
            board.wait()


if __name__ == "__main__":
    sys.exit(main())
