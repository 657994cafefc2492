#!/usr/bin/env bash
# Every trainer that fits a backbone, side by side: bash scripts/compare.sh DATASET BACKBONE [options] [-- KEY VALUE...]
#   bash scripts/compare.sh digits lite0 --seeds 1 2 3 --jobs 2
# Trains what is missing, skips what is finished, resumes what was cut off, prints one table. All options: --help
# Environment: DATA, OUTPUT and PYTHON as for scripts/smm.sh.
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.compare "$@"
