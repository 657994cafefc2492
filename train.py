"""Train a prompt, or test one: see `python train.py --help`."""

import sys

from dassl_vr.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
