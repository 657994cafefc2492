"""Predict with what a run has trained: see `python predict.py --help`."""

import sys

from dassl_vr.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
