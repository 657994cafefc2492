#!/usr/bin/env bash
# Train VP (a frame of pixels in front of a CLIP): bash scripts/vp.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/vp.sh digits tiny_clip 16
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots VP "" "$@"
