#!/bin/sh
# Builds the feature `cuda` beside crates that have cudarc in another way than this one does: a version of CUDA that the
# program chose, and linking as candle wants it. Checked only, so no toolkit is needed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$root/target/beside-cudarc
mkdir -p "$folder/src"
echo 'fn main() {
    let _ = tracing_cortex::gpu::Cuda::auto();
}' >"$folder/src/main.rs"

for features in \
    '"driver", "nvrtc", "cuda-12040", "dynamic-loading"' \
    '"driver", "nvrtc", "cublas", "curand", "cuda-version-from-build-system", "fallback-latest", "dynamic-linking"'; do
    echo "cudarc with $features"
    cat >"$folder/Cargo.toml" <<TOML
[package]
name = "beside-cudarc"
version = "0.0.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
cudarc = { version = "0.19.10", default-features = false, features = ["std", $features] }
tracing-cortex = { path = "../..", features = ["cuda"] }
TOML
    cp "$root/Cargo.lock" "$folder/Cargo.lock"
    cargo check --manifest-path "$folder/Cargo.toml" --target-dir "$folder/target"
done
