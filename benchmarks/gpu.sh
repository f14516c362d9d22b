#!/usr/bin/env bash
# The benchmarks on one CUDA card (80 GB), full-size shapes with random weights, each call in under ten minutes:
#
#     EXAMPLES=PATH/examples/textual_inversion OUT=folder benchmarks/gpu.sh training
#     OUT=folder benchmarks/gpu.sh judging
#     OUT=folder benchmarks/gpu.sh test            # the suite of tests/gpu, a step after the other
#     OUT=folder benchmarks/gpu.sh test types      # one of its steps: types, packs, memory, kill, pictures, sd15, sdxl
#
# EXAMPLES holds diffusers' textual_inversion.py and textual_inversion_sdxl.py. PYTHON names an interpreter with torch
# (python3); where packages are missing, WHEELS names a folder of wheels for them. Writes tables, plots, raw figures
# and logs to OUT.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
what=${1:?name what to do: training, judging or test}
: "${OUT:?name the folder for the results}"
export PYTHONPATH=$PWD:$PWD/miniature/package HF_HUB_OFFLINE=1
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi
"$PYTHON" -c 'import boto3, diffusers, open_clip, pydantic_settings, transformers' || exit 1

if [ "$what" = test ]; then
    # Each step is a process of its own with a limit of its own, so that a card lent for ten minutes at a time serves.
    declare -A chosen=(
        [types]="bf16" [packs]="a_pack" [memory]="memory" [kill]="killed" [pictures]="pictures"
        [sd15]="whole_run and sd15" [sdxl]="whole_run and sdxl"
    )
    failed=0
    for step in ${2:-types packs memory kill pictures sd15 sdxl}; do
        echo "== $step: ${chosen[$step]:?no such step}"
        timeout "${STEP_SECONDS:-540}" "$PYTHON" -m pytest tests/gpu -m gpu -k "${chosen[$step]}" -q --durations=0 \
            --basetemp "$OUT/tmp-$step" 2>&1 | tee "$OUT/test-$step.log" || failed=1
        rm -rf "$OUT/tmp-$step"
    done
    exit $failed
fi
if [ "$what" = judging ]; then
    timeout "${JUDGING_SECONDS:-570}" "$PYTHON" benchmarks/judging.py --full-size "${SIZE:-sd15}" --only fox \
        --checkpoints 2 --seeds "${SEEDS:-2}" --repeats 1 2>&1 | tee "$OUT/judging.log"
    exit
fi
: "${EXAMPLES:?name the folder of the two scripts}"
# A time limit each, so that the first cannot eat the second's.
timeout "${SD15_SECONDS:-300}" "$PYTHON" benchmarks/training.py --device cuda --full-size sd15 \
    --diffusers-script "$EXAMPLES/textual_inversion.py" --batch 4 --slots 1 4 8 --repeats 1 --seconds 5 \
    --steps 0 --out "$OUT" 2>&1 | tee "$OUT/sd15.log"
timeout "${SDXL_SECONDS:-280}" "$PYTHON" benchmarks/training.py --device cuda --full-size sdxl \
    --diffusers-sdxl-script "$EXAMPLES/textual_inversion_sdxl.py" --batch 1 --slots 1 4 8 --repeats 1 --seconds 5 \
    --steps 0 --out "$OUT" 2>&1 | tee "$OUT/sdxl.log"
