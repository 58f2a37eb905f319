#!/usr/bin/env bash
# Measure a GPU: lanes, floor, streams, power, kernels, the server, then words by precision.
# usage: gpu.sh VENV [PYTHON]
#
# Packages come from the package index. A machine that cannot reach one names a folder of wheels in AMIRA_WHEELS, filled
# elsewhere (pip download -d FOLDER '.[server,gpu]' tensorrt hatchling editables, less what PYTHON has there): VENV is
# then made of PYTHON's own packages and of those wheels, whose versions win. Models that cannot be built there are
# brought in build/models.
set -euo pipefail
venv=$1 python=${2:-python3}
if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
  if [ -x "$venv/bin/amira" ]; then
    exec "$venv/bin/amira" gpu # says why nothing is measured, and ends with 4
  fi
  echo "nothing measured: there is no NVIDIA GPU on this machine" >&2
  exit 4
fi
if [ -n "${AMIRA_WHEELS:-}" ]; then
  [ -d "$AMIRA_WHEELS" ] || { echo "AMIRA_WHEELS=$AMIRA_WHEELS is no folder" >&2; exit 2; }
  # Without pip of its own: a Debian Python that lacks python3-venv can make it too.
  [ -x "$venv/bin/python" ] || "$python" -m venv --without-pip "$venv"
  # As a prefix, not a mere folder: its own .pth files count (numba-cuda comes by one), and CUDA's libraries are found.
  "$python" -c 'import sys, sysconfig
folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
print(f"import site; site.PREFIXES.append({sys.prefix!r}); [site.addsitedir(each) for each in {folders!r}]")' \
    >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/machine.pth"
  pip=("$python" -m pip --python "$venv/bin/python" install -q --no-index --no-deps)
  "${pip[@]}" --ignore-installed "$AMIRA_WHEELS"/*.whl
  "${pip[@]}" --no-build-isolation --editable .
else
  for package in cuda-bindings cupy-cuda13x nvidia-ml-py numba-cuda polygraphy tensorrt torch; do
    "$venv/bin/python" -m pip install -q "$package" ||
      echo "$package cannot be installed here: what needs it is reported as unavailable" >&2
  done
fi
[ -e build/models/stream-ctc-server/card.json ] || "$venv/bin/amira" models build --precision fp32,fp16,int8
"$venv/bin/python" experiments/032-gpu/measure.py
"$venv/bin/amira" bench experiments/032-gpu --store gpu-words
"$venv/bin/python" experiments/032-gpu/measure.py --words reports/gpu-words
