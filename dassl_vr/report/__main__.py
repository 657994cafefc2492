"""`python -m dassl_vr.report`: see `dassl_vr.cli.report`."""

import sys

from ..cli.report import main

if __name__ == "__main__":
    sys.exit(main())
