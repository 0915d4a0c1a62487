#!/bin/sh
# Opens each trace in Perfetto, Catapult and speedscope; fails where one of them drops or refuses anything.
#
#     .ci/viewers/check.sh [--screenshots FOLDER] TRACE.json...
set -eu

here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
exec node "$here/check.mjs" "$@"
