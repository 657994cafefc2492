"""`python -m dassl_vr.data.prepare`: see `dassl_vr.cli.prepare`."""

import sys

if __name__ == "__main__":
    from ..cli.prepare import main

    sys.exit(main())
