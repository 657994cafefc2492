#!/usr/bin/env bash
# Train a shared mask: bash scripts/vr.sh METHOD DATASET BACKBONE [SEED...] [-- KEY VALUE...]
#   bash scripts/vr.sh full eurosat rn50
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method vr "$@"
