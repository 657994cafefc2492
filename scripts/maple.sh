#!/usr/bin/env bash
# Train MaPLe (tokens in both towers of a CLIP): bash scripts/maple.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/maple.sh digits tiny_clip 16
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots MaPLe "" "$@"
