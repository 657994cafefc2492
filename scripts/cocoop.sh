#!/usr/bin/env bash
# Train CoCoOp (context vectors that depend on the image): bash scripts/cocoop.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/cocoop.sh digits tiny_clip 16
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots CoCoOp "" "$@"
