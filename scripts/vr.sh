#!/usr/bin/env bash
# Train a shared mask: bash scripts/vr.sh METHOD DATASET BACKBONE [SEED...] [-- KEY VALUE...]
#   bash scripts/vr.sh full eurosat rn50
# See scripts/_run.sh for DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_trainer VR "$@"
