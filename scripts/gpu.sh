#!/usr/bin/env bash
# Measure a GPU: lanes, floor, streams, power, then words by precision. Packages that the machine lacks are taken from the
# folder AMIRA_WHEELS (filled elsewhere: pip download -d FOLDER '.[gpu]' tensorrt torch), else from the package index.
set -euo pipefail
venv=$1
if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
  exec "$venv/bin/amira" gpu # says why nothing is measured, and ends with 4
fi
offline=()
if [ -n "${AMIRA_WHEELS:-}" ]; then
  [ -d "$AMIRA_WHEELS" ] || { echo "AMIRA_WHEELS=$AMIRA_WHEELS is no folder" >&2; exit 2; }
  offline=(--no-index --find-links "$AMIRA_WHEELS")
fi
for package in cuda-bindings nvidia-ml-py numba-cuda polygraphy tensorrt torch; do
  "$venv/bin/python" -m pip install -q "${offline[@]}" "$package" ||
    echo "$package cannot be installed here: what needs it is reported as unavailable" >&2
done
"$venv/bin/amira" models build --precision fp32,fp16,int8
"$venv/bin/amira" gpu
"$venv/bin/amira" bench experiments/018-precision
