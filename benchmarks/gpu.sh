#!/usr/bin/env bash
# All figures of an accelerator, in under ten minutes on one H100: bash benchmarks/gpu.sh [OUT] [--tiny] [--device cpu]
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
