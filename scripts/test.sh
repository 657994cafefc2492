#!/usr/bin/env bash
# Install what is missing, then run the tests; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/_setup.sh
setup_python test
"$PYTHON" -m pytest "$@"
