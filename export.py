"""Write what a run has trained as a bundle or a graph: see `python export.py --help`."""

import sys

from dassl_vr.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
