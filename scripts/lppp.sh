#!/usr/bin/env bash
# Train LP++ (a linear layer blended with a CLIP's text features): bash scripts/lppp.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/lppp.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method lppp "$@"
