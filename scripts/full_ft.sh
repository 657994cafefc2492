#!/usr/bin/env bash
# Train everything, with a new linear layer: bash scripts/full_ft.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/full_ft.sh digits tiny_vit
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method full_ft "$@"
