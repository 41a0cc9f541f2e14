#!/bin/sh
# Install the system's Chromium for the browser tests, where that is possible; without it they are skipped.
for name in chromium chromium-browser google-chrome; do
    command -v $name >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "No Chromium: the browser tests are skipped (apt install chromium)." >&2
    exit 0
fi
echo "Installing Chromium for the browser tests"
export DEBIAN_FRONTEND=noninteractive
{
    timeout 120 apt-get -qq update
    timeout 480 apt-get -qq install -y --no-install-recommends chromium
} >/dev/null 2>&1 </dev/null || echo "Chromium could not be installed: the browser tests are skipped." >&2
exit 0
