#!/bin/sh
# Builds the examples, runs them as a visitor would, and checks what they print and write.
# The traces stay in target/examples/ for the viewers.
set -eu
cd "$(dirname "$0")/.."

out=$PWD/target/examples
limit=60
rm -rf "$out"
mkdir -p "$out/compose"

cargo build --release --example quickstart --example compose
# A workspace of its own, which the checks of the root do not see.
cargo fmt --check --manifest-path examples/candle/Cargo.toml
cargo clippy --release --no-deps --manifest-path examples/candle/Cargo.toml -- -D warnings
cargo build --release --manifest-path examples/candle/Cargo.toml

# run NAME COMMAND...: the command must end with success within the limit.
run() {
    name=$1
    shift
    status=0
    timeout "$limit" "$@" >"$out/$name.out" 2>"$out/$name.err" || status=$?
    if [ "$status" -ne 0 ]; then
        echo "$name: exit status $status (124: not finished after $limit s)" >&2
        cat "$out/$name.out" "$out/$name.err" >&2
        exit 1
    fi
    echo "$name: exit status 0"
}

# The traces are compared with the counts, so nothing may be dropped even on a slow machine.
export TRACING_CORTEX_OVERFLOW=block TRACING_CORTEX_CHROME TRACING_CORTEX_JSON
TRACING_CORTEX_CHROME=$out/quickstart.json TRACING_CORTEX_JSON=$out/quickstart-report.json
run quickstart cargo run --quiet --release --example quickstart
TRACING_CORTEX_CHROME=$out/candle.json TRACING_CORTEX_JSON=$out/candle-report.json
run candle cargo run --quiet --release --manifest-path examples/candle/Cargo.toml
unset TRACING_CORTEX_CHROME TRACING_CORTEX_JSON
run compose cargo run --quiet --release --example compose -- "$out/compose"

python3 .ci/examples.py "$out"
