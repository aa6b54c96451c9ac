#!/bin/sh
# Installs Debian's packages that the tests use: real pictures in MNIST's format, a browser for the
# dashboard, and fonts with which Japanese and emoji show in it.
set -eu
packages="chromium dataset-fashion-mnist fonts-noto-cjk fonts-noto-color-emoji"
have() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q "install ok installed"; }

missing=""
if command -v dpkg-query >/dev/null; then
    for package in $packages; do have "$package" || missing="$missing $package"; done
    [ -z "$missing" ] && exit 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq || true
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
    fi
else
    missing=" $packages (this is not Debian)"
fi
echo "############################################################" >&2
echo "# NOT INSTALLED:$missing" >&2
echo "# Tests of the dashboard in a browser, or on real pictures, will be SKIPPED." >&2
echo "# As root on Debian: apt-get install$missing" >&2
echo "############################################################" >&2
[ "${CI:-}" = true ] && exit 1
exit 0
