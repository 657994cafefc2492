#!/usr/bin/env bash
# Train a linear layer on the frozen features: bash scripts/linear_probe.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/linear_probe.sh digits tiny_vit
# See scripts/_run.sh for SEEDS, DATA, OUTPUT, TAG and PYTHON.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
source scripts/_run.sh
run_with_shots LinearProbe "" "$@"
