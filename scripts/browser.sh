#!/usr/bin/env bash
# The tests open reports in a real browser. Install Debian's Chromium where that is possible without asking,
# say what to do where it is not; the browser tests then skip with the same reason.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
	if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing Chromium for the browser tests" >&2
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null &&
		exit 0
fi
echo "no Chromium: the browser tests will be skipped. On Debian: apt-get install chromium" >&2
