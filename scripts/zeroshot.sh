#!/usr/bin/env bash
# Test a CLIP without any training: bash scripts/zeroshot.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/zeroshot.sh digits tiny_clip
#   METHOD=ensemble bash scripts/zeroshot.sh digits tiny_clip   (or template, the default)
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots ZeroshotCLIP "${METHOD:-template}" "$@"
