#!/usr/bin/env bash
# Set up what decoder/k2 needs in build/k2: k2 1.23.4 and torch 1.13.1 for CPython 3.9, apart from the project's .venv.
# Takes a Python 3.9 with a shared libpython where there is one (name it in PYTHON39), else Debian bullseye's, unpacked
# into a private folder. Nothing is installed on the system.
# usage: k2.sh VENV
set -euo pipefail
venv=$1 folder=build/k2

if [ -x "$folder/python" ] && "$folder/python" -c 'import k2' 2>/dev/null; then
	echo "k2 is set up: $folder/python" >&2
	exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
	echo "error: k2's packages are for Linux on x86-64, this is $(uname -sm). Use decoder/kaldi-decoder" >&2
	exit 2
fi
echo "k2 and torch take 1.9 GB to download and 3.4 GB in $folder (as much again while they are unpacked)" >&2
mkdir -p "$folder"
free_kb=$(df --output=avail -k "$folder" | tail -1)
if [ "$free_kb" -lt 7500000 ]; then
	echo "error: $folder has room for $((free_kb / 1000000)) GB, 7.5 GB are needed. Make room and try again" >&2
	exit 2
fi

# Prints the folder of its libpython and succeeds if it is a CPython 3.9 that k2's extension can be loaded into.
fitting() {
	"$1" -s -c 'import pathlib, sys, sysconfig
folder = pathlib.Path(sysconfig.get_config_var("LIBDIR"))
shared = sys.version_info[:2] == (3, 9) and list(folder.glob("libpython3.9.so*"))
print(folder)
sys.exit(not shared)' 2>/dev/null
}

python='' libraries=''
for candidate in "${PYTHON39:-}" python3.9 "$HOME"/.pyenv/versions/3.9.*/bin/python3.9 /usr/lib/python3.9/bin/python3.9; do
	if [ -n "$candidate" ] && command -v "$candidate" >/dev/null && libraries=$(fitting "$candidate"); then
		python=$(command -v "$candidate")
		home=''
		break
	fi
done
if [ -z "$python" ]; then
	if [ -n "${PYTHON39:-}" ]; then
		echo "error: PYTHON39=$PYTHON39 is no Python 3.9 with a shared libpython" >&2
		exit 2
	fi
	echo "no Python 3.9 with a shared libpython here: unpacking Debian bullseye's into $folder/python3.9" >&2
	"$venv/bin/python" scripts/python39.py "$folder/python3.9"
	home=$PWD/$folder/python3.9/usr
	python=$home/bin/python3.9
	libraries=$home/lib/x86_64-linux-gnu
fi
echo "using $python" >&2

rm -rf "$folder/packages" "$folder/pip"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	--target "$folder/pip" -r requirements/k2-pip.txt
PYTHONPATH=$folder/pip "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	--only-binary=:all: --python-version 3.9 --target "$folder/packages" -r requirements/k2.txt
cat >"$folder/python" <<WRAPPER
#!/bin/sh
# Python 3.9 with k2; written by scripts/k2.sh
export LD_LIBRARY_PATH='$libraries' PYTHONPATH='$PWD/$folder/packages' ${home:+PYTHONHOME='$home'}
exec '$python' -s "\$@"
WRAPPER
chmod +x "$folder/python"
"$folder/python" -c 'import k2, torch; print("k2 works with torch", torch.__version__)' >&2
