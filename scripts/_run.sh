# Sourced by the scripts that train: run_trainer TRAINER METHOD DATASET BACKBONE [SEED...] [-- KEY VALUE...]
#   METHOD   value of TRAINER.<TRAINER>.METHOD, or "" for the default
#   SEED     0 by default; several are trained one after the other
# Environment: DATA (directory of the data sets, ./data), OUTPUT (./output), TAG (default), PYTHON (see _python.sh).
# A run that was interrupted is resumed, one that is finished is left alone.
source scripts/_python.sh
run_trainer() {
    local trainer=$1 method=$2 dataset=$3 backbone=$4
    shift 4
    local seeds=()
    while [ $# -gt 0 ] && [ "$1" != "--" ]; do
        case $1 in
            '' | *[!0-9]*) echo "error: seed '$1' is no whole number; further settings go after --" >&2; return 2 ;;
        esac
        seeds+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    [ ${#seeds[@]} -gt 0 ] || seeds=(0)

    # A method with a recipe of its own (Pad) has it in <backbone>_<method>.yaml
    local config="configs/trainers/$trainer/${backbone}_$method.yaml"
    [ -f "$config" ] || config="configs/trainers/$trainer/$backbone.yaml"
    if [ ! -f "$config" ]; then
        local known
        known=$(cd "configs/trainers/$trainer" && ls -- *.yaml | sed 's/\.yaml$//' | tr '\n' ' ')
        echo "error: no recipe $config (there are: $known); for another backbone call train.py with --config-file and --backbone" >&2
        return 2
    fi
    local data=(DATASET.NAME "$dataset") data_file="configs/datasets/$dataset.yaml"
    local flags=()
    if [ -f "$data_file" ]; then
        data=()
        flags=(--dataset-config-file "$data_file")
    fi
    local name=$trainer options=()
    if [ -n "$method" ]; then
        name=$trainer-$method
        options=("TRAINER.$(echo "$trainer" | tr '[:lower:]' '[:upper:]').METHOD" "$method")
    fi
    local seed out
    for seed in "${seeds[@]}"; do
        out="${OUTPUT:-output}/$dataset/$name/$backbone/${TAG:-default}/seed$seed"
        "$PYTHON" train.py --trainer "$trainer" --config-file "$config" ${flags[@]+"${flags[@]}"} --root "${DATA:-data}" \
            --seed "$seed" --output-dir "$out" --resume "$out" \
            DATASET.DOWNLOAD True ${data[@]+"${data[@]}"} ${options[@]+"${options[@]}"} "$@" || return
    done
}
