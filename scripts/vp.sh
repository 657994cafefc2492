#!/usr/bin/env bash
# Train VP (a frame of pixels in front of a CLIP): bash scripts/vp.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/vp.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method vp "$@"
