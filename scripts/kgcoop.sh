#!/usr/bin/env bash
# Train KgCoOp (CoOp near hand-made sentences): bash scripts/kgcoop.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/kgcoop.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method kgcoop "$@"
