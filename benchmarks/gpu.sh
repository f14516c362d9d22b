#!/usr/bin/env bash
# The training benchmark on one CUDA card (80 GB), full-size shapes with random weights, in under ten minutes:
#
#     EXAMPLES=PATH/examples/textual_inversion OUT=folder benchmarks/gpu.sh
#
# EXAMPLES holds diffusers' textual_inversion.py and textual_inversion_sdxl.py. PYTHON names an interpreter with torch
# (python3); where packages are missing, WHEELS names a folder of wheels for them. Writes tables, plots, raw figures
# and logs to OUT.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
: "${EXAMPLES:?name the folder of the two scripts}" "${OUT:?name the folder for the results}"
export PYTHONPATH=$PWD HF_HUB_OFFLINE=1
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi
"$PYTHON" -c 'import boto3, diffusers, open_clip, pydantic_settings, transformers' || exit 1

# A time limit each, so that the first cannot eat the second's.
timeout "${SD15_SECONDS:-300}" "$PYTHON" benchmarks/training.py --device cuda --full-size sd15 \
    --diffusers-script "$EXAMPLES/textual_inversion.py" --batch 4 --slots 1 4 8 --repeats 1 --seconds 5 \
    --steps 0 --out "$OUT" 2>&1 | tee "$OUT/sd15.log"
timeout "${SDXL_SECONDS:-280}" "$PYTHON" benchmarks/training.py --device cuda --full-size sdxl \
    --diffusers-sdxl-script "$EXAMPLES/textual_inversion_sdxl.py" --batch 1 --slots 1 4 8 --repeats 1 --seconds 5 \
    --steps 0 --out "$OUT" 2>&1 | tee "$OUT/sdxl.log"
