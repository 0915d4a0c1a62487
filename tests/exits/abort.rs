//! Builds the child so that panics abort, which Cargo never does for a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "aborting"
version = "0.0.0"
edition = "2024"

[dependencies]
tracing = { version = "0.1", default-features = false, features = ["std"] }
tracing-cortex = { path = "ROOT", default-features = false }

[profile.dev]
panic = "abort"
debug = false

[workspace]
"#;

/// Builds the program, with the versions of this package, and returns its path.
pub(crate) fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aborting");
    fs::create_dir_all(package.join("src")).expect("a writable target folder");
    let root_name = root.to_str().expect("a path in UTF-8").replace('\\', "/");
    write_if_new(
        &package.join("Cargo.toml"),
        &MANIFEST.replace("ROOT", &root_name),
    );
    write_if_new(&package.join("src/child.rs"), include_str!("child.rs"));
    let main = "mod child;\nfn main() -> Result<(), Box<dyn std::error::Error>> {\n    \
                child::run(&std::env::var(child::VARIABLE)?)\n}\n";
    write_if_new(&package.join("src/main.rs"), main);
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).expect("the lock file");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the child did not build");
    package.join("target/debug/aborting")
}

/// Leaves a file alone that is as it should be, so that nothing is built twice.
fn write_if_new(path: &Path, content: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(content) {
        fs::write(path, content).expect("a writable target folder");
    }
}
