#!/usr/bin/env bash
# Train SMM: bash scripts/smm.sh DATASET BACKBONE [SEED...] [-- KEY VALUE...]
#   bash scripts/smm.sh eurosat rn50
#   bash scripts/smm.sh digits lite0 1 2 3 -- OPTIM.MAX_EPOCH 4
# See scripts/_run.sh for DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_trainer SMM "" "$@"
