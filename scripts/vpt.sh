#!/usr/bin/env bash
# Train VPT (tokens for a vision transformer, of a CLIP or not): bash scripts/vpt.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/vpt.sh digits tiny_clip 16
#   METHOD=shallow bash scripts/vpt.sh digits tiny_vit          (or deep, the default)
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method vpt "$@"
