#!/usr/bin/env bash
# Train CoOp (context vectors for a CLIP's text tower): bash scripts/coop.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/coop.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method coop "$@"
