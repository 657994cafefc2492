#!/usr/bin/env bash
# Train a linear layer on the frozen features: bash scripts/linear_probe.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/linear_probe.sh digits tiny_vit
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method linear_probe "$@"
