#!/usr/bin/env bash
# Train CoOp (context vectors for a CLIP's text tower): bash scripts/coop.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/coop.sh digits tiny_clip 16
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots CoOp "" "$@"
