#!/usr/bin/env bash
# Train LoRA (low-rank updates in a vision transformer): bash scripts/lora.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/lora.sh digits tiny_vit
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method lora "$@"
