#!/usr/bin/env bash
# Train TaskRes (a residual on a CLIP's text features): bash scripts/taskres.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/taskres.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method taskres "$@"
