# Sourced by the scripts that set things up: leaves in $PYTHON an interpreter that has the package and the extras named in $1.
# Uses the active virtual environment, else makes .venv in the checkout.
setup_python() {
    local extras=$1 root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        PYTHON="$VIRTUAL_ENV/bin/python"
    else
        PYTHON="$root/.venv/bin/python"
        [ -x "$PYTHON" ] || python3 -m venv "$root/.venv"
    fi
    # The stamp makes a second call free; it is older than setup.py when the requirements may have changed.
    local prefix stamp
    prefix=$("$PYTHON" -c 'import sys; print(sys.prefix)')
    stamp="$prefix/.dassl_vr-$extras-$(cd "$root" && pwd | cksum | cut -d' ' -f1)"
    if [ ! -e "$stamp" ] || [ "$root/setup.py" -nt "$stamp" ]; then
        echo "Installing dassl_vr[$extras] (a few minutes the first time) ..."
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$root[$extras]"
        touch "$stamp"
    fi
}
