"""Train a grid of runs on Ray, or search for settings: see `python sweep.py --help`."""

import sys

from dassl_vr.cli.sweep import main

if __name__ == "__main__":
    sys.exit(main())
