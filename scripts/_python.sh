# Sourced by the scripts: the interpreter in $PYTHON, unless it is set: the active virtual environment's, that of ./.venv, or python.
if [ -z "${PYTHON:-}" ]; then
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -x .venv/bin/python ]; then
        PYTHON=.venv/bin/python
    else
        PYTHON=python
    fi
fi
