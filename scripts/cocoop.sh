#!/usr/bin/env bash
# Train CoCoOp (context vectors that depend on the image): bash scripts/cocoop.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/cocoop.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method cocoop "$@"
