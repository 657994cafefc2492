#!/usr/bin/env bash
# Test a CLIP without any training: bash scripts/zeroshot.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/zeroshot.sh digits tiny_clip
#   METHOD=ensemble bash scripts/zeroshot.sh digits tiny_clip   (or template, the default)
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method zeroshot "$@"
