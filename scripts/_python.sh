# Sourced by the scripts: the interpreter in $PYTHON, unless it is set: the active virtual environment's, that of the checkout's
# .venv, python or python3. It finds the checkout wherever it is started, and says what it was called as.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$ROOT/.venv/bin/python" ]; then
        PYTHON="$ROOT/.venv/bin/python"
    else
        PYTHON=$(command -v python || command -v python3 || echo python)
    fi
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1 DASSL_VR_CALLED_AS="$0"
