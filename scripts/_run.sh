# Sourced by the scripts that train.
#   run_trainer TRAINER METHOD DATASET BACKBONE [SEED...] [-- KEY VALUE...]     smm.sh, vr.sh
#   run_with_shots TRAINER METHOD DATASET BACKBONE [SHOTS] [-- KEY VALUE...]    coop.sh and all others
#   METHOD   value of TRAINER.<TRAINER>.METHOD, or "" for the default
#   SEED     $SEEDS by default; several are trained one after the other
#   SHOTS    training images per class, $SHOTS by default; all if it is empty or 0
# Environment: DATA (directory of the data sets, ./data), OUTPUT (./output), TAG (default), SEEDS (0 for run_trainer, 1 for
# run_with_shots as for compare.sh), SHOTS, PYTHON (see _python.sh).
# A run that was interrupted is resumed, one that is finished is left alone. Runs go where scripts/compare.sh looks for them.
source scripts/_python.sh

run_with_shots() {
    local trainer=$1 method=$2 dataset=$3 backbone=$4
    shift 4
    if [ $# -gt 0 ] && [ "$1" != "--" ]; then
        SHOTS=$1
        shift
    fi
    if [ $# -gt 0 ] && [ "$1" != "--" ]; then
        echo "error: '$1' comes after SHOTS; seeds go into SEEDS=\"1 2 3\", further settings after --" >&2
        return 2
    fi
    SEEDS=${SEEDS:-1} run_trainer "$trainer" "$method" "$dataset" "$backbone" "$@"
}

run_trainer() {
    local trainer=$1 method=$2 dataset=$3 backbone=$4
    shift 4
    local seeds=() word
    while [ $# -gt 0 ] && [ "$1" != "--" ]; do
        seeds+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    [ ${#seeds[@]} -gt 0 ] || read -r -a seeds <<< "${SEEDS:-0}"
    for word in "${seeds[@]}"; do
        case $word in
            '' | *[!0-9]*) echo "error: seed '$word' is not a whole number; further settings go after --" >&2; return 2 ;;
        esac
    done
    case ${SHOTS:=0} in
        *[!0-9]*) echo "error: SHOTS '$SHOTS' is not a whole number; further settings go after --" >&2; return 2 ;;
    esac
    # A text, however long: train.py says which numbers can be
    while [[ $SHOTS == 0?* ]]; do SHOTS=${SHOTS#0}; done

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
    local name=$trainer options=() tag=${TAG:-default}
    if [ -n "$method" ]; then
        name=$trainer-$method
        options=("TRAINER.$(echo "$trainer" | tr '[:lower:]' '[:upper:]').METHOD" "$method")
    fi
    if [ "$SHOTS" != 0 ]; then
        options+=(DATASET.NUM_SHOTS "$SHOTS")
        [ "$tag" = default ] && tag=${SHOTS}shots || tag=$tag-${SHOTS}shots
    fi
    local seed out
    for seed in "${seeds[@]}"; do
        out="${OUTPUT:-output}/$dataset/$name/$backbone/$tag/seed$seed"
        "$PYTHON" train.py --trainer "$trainer" --config-file "$config" ${flags[@]+"${flags[@]}"} --root "${DATA:-data}" \
            --seed "$seed" --output-dir "$out" --resume "$out" \
            DATASET.DOWNLOAD True ${data[@]+"${data[@]}"} ${options[@]+"${options[@]}"} "$@" || return
    done
}
