#!/usr/bin/env bash
# The tables of the SMM paper: bash scripts/reproduce.sh TABLE [options] [-- KEY VALUE...]
#   bash scripts/reproduce.sh methods --backbone rn18 --datasets eurosat dtd --seeds 0 1 2
# TABLE is one of docs/paper.md, or all. Runs what is missing, skips what is finished, resumes what was cut off, prints the table. All options: --help
# Environment: DATA, OUTPUT and PYTHON as for scripts/smm.sh.
set -euo pipefail
source "$(dirname "$0")/_python.sh"
exec "$PYTHON" -m dassl_vr.cli.reproduce "$@"
