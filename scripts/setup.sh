#!/usr/bin/env bash
# Create a virtual environment and install the locked dependencies into it, every file checked by hash.
# usage: setup.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	echo "error: '$python' is not Python 3.11 or newer. Name one: make PYTHON=python3.12 setup" >&2
	exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
	echo "error: '$python' cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
	exit 2
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing the locked dependencies into $venv (a few minutes the first time)" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
