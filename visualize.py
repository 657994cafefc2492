"""Look at what a run has trained: see `python visualize.py --help`."""

import sys

from dassl_vr.cli.visualize import main

if __name__ == "__main__":
    sys.exit(main())
