#!/usr/bin/env bash
# Install what is missing, then run the tests, all or, with `fast`, the first tier; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/_setup.sh
setup_python test
if [ "${1:-}" = fast ]; then
    shift
    set -- -m fast "$@"
fi
"$PYTHON" -m pytest "$@"
