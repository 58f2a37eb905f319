#!/usr/bin/env bash
# Install what the TypeScript client is checked with, from its lock file; say why where that cannot be done:
# its tests then skip with the same reason.
set -euo pipefail
cd "$(dirname "$0")/../clients/typescript"

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	echo "no Node: the tests of the TypeScript client will be skipped. Install Node 20 or newer and npm" >&2
	exit 0
fi
if [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" != true ]; then
	echo "Node $(node --version) is too old: the tests of the TypeScript client will be skipped. It needs 20 or newer" >&2
	exit 0
fi
if [ node_modules/.package-lock.json -nt package-lock.json ]; then exit 0; fi
echo "installing what checks the TypeScript client" >&2
npm ci --no-audit --no-fund --loglevel=error >&2 ||
	echo "npm ci failed: the tests of the TypeScript client will be skipped" >&2
