#!/usr/bin/env bash
# Train PromptSRC (tokens in both towers, near the frozen CLIP): bash scripts/promptsrc.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/promptsrc.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method promptsrc "$@"
