#!/usr/bin/env bash
# Train MaPLe (tokens in both towers of a CLIP): bash scripts/maple.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/maple.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method maple "$@"
