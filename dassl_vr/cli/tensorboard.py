"""Show all runs under a directory in TensorBoard, each by a name that says what it is."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..utils.arguments import OneLineParser
from ..utils.errors import ConfigError
from .errors import one_line_errors

RESCAN = 5  # seconds


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(description=__doc__)
    parser.add_argument("directory", nargs="?", default=os.environ.get("OUTPUT", "output"), metavar="DIR", help="default: ./output")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of tensorboard, such as --port 6007")
    args = parser.parse_args(argv)
    from ..report.board import link_runs
    from ..utils.signals import ending_with_parent, interrupt_on_signals

    if not Path(args.directory).is_dir():
        raise ConfigError(f"{args.directory}: no such directory; expected one with runs in it")
    with interrupt_on_signals(), tempfile.TemporaryDirectory(prefix="dassl_vr-tensorboard-") as links:
        number = link_runs(args.directory, links)
        print(f"{number} run{'s' * (number != 1)} in {args.directory}; later ones are added automatically", flush=True)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", links, *args.options]
        board = subprocess.Popen(command, preexec_fn=ending_with_parent())
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
