#!/usr/bin/env bash
# TensorBoard over all runs, by names such as digits/SMM/lite0/seed1: bash scripts/tensorboard.sh [DIR] [options of tensorboard]
#   bash scripts/tensorboard.sh output --port 6007
# DIR is ./output (or $OUTPUT) by default. Rival methods share a chart on the page "custom scalars"; "hparams" compares accuracies.
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.tensorboard "$@"
