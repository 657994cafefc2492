#!/usr/bin/env bash
# Train CLIPLoRA (low-rank updates in both towers of a CLIP): bash scripts/clip_lora.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/clip_lora.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method clip_lora "$@"
