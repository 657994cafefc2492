#!/usr/bin/env bash
# Train VPT (tokens for a vision transformer, of a CLIP or not): bash scripts/vpt.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/vpt.sh digits tiny_clip 16
#   METHOD=shallow bash scripts/vpt.sh digits tiny_vit          (or deep, the default)
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots VPT "${METHOD:-deep}" "$@"
