#!/usr/bin/env bash
# Train TipAdapterF (a cache of training images beside a CLIP's text head): bash scripts/tip_adapter_f.sh DATASET BACKBONE [SHOTS] [-- KEY VALUE...]
#   bash scripts/tip_adapter_f.sh digits tiny_clip 16
# All that it takes, and the environment: --help
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.method tip_adapter_f "$@"
