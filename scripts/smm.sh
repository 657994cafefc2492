#!/usr/bin/env bash
# Train SMM: bash scripts/smm.sh DATASET BACKBONE [SEED...] [-- KEY VALUE...]
#   bash scripts/smm.sh eurosat rn50
#   bash scripts/smm.sh digits lite0 1 2 3 -- OPTIM.MAX_EPOCH 4
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method smm "$@"
