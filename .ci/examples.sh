#!/bin/sh
# Builds the examples, runs them as a visitor would, and checks what they print and write.
# The traces stay in target/examples/ for the viewers.
set -eu
cd "$(dirname "$0")/.."

out=$PWD/target/examples
limit=60
rm -rf "$out"
mkdir -p "$out/compose" "$out/service"

cargo build --release --example quickstart --example compose
# As the tests have built it: what these two send does not depend on how fast they are.
cargo build --all-features --example otlp
# Workspaces of their own, which the checks of the root do not see.
check() {
    manifest=examples/$1/Cargo.toml
    shift
    cargo fmt --check --manifest-path "$manifest"
    cargo clippy "$@" --no-deps --manifest-path "$manifest" -- -D warnings
    cargo build "$@" --manifest-path "$manifest"
}
check candle --release
check service

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

# Nobody listens on this port, which must neither fail nor hold up a program.
export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 EXPECTED_SPANS
EXPECTED_SPANS=$out/service/spans
run service examples/service/target/debug/service --out "$out/service"
EXPECTED_SPANS=$out/otlp-spans limit=5
run otlp target/debug/examples/otlp
unset OTEL_EXPORTER_OTLP_ENDPOINT EXPECTED_SPANS

python3 .ci/examples.py "$out"
