#!/bin/sh
# Lets Holistic Trace Analysis read a Kineto export and compares its numbers with those of the report of the same run.
#
#     .ci/hta/check.sh FOLDER REPORT.json
#
# Installs the analysis into target/hta. Where Python or the package is not to be had, says so and succeeds.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
home=${HTA_HOME:-$here/../../target/hta}
mkdir -p "$home"
home=$(cd "$home" && pwd)

hta=0.5.0
mark=$home/python.$hta

skip() {
    echo "!!! SKIPPED: $1, so nobody has compared our numbers with those of Holistic Trace Analysis"
    exit 0
}

if [ ! -e "$mark" ]; then
    command -v python3 >/dev/null || skip "there is no python3 here"
    python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 is without venv here"
    rm -rf "$home/python"
    python3 -m venv "$home/python"
    # Version 3 of pandas breaks some of the analyses of this version.
    "$home/python/bin/pip" install --quiet --disable-pip-version-check \
        "HolisticTraceAnalysis==$hta" "pandas<3" || skip "pip cannot install HolisticTraceAnalysis $hta"
    touch "$mark"
fi

# Otherwise it rounds to microseconds, and kernels under two of them vanish.
HTA_DISABLE_NS_ROUNDING=1 exec "$home/python/bin/python" "$here/check.py" "$@"
