//! What the features of OTLP bring into a program: nothing that changes its own OpenTelemetry set-up or cryptography.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where it cannot go on; clippy's exception does not reach helpers"
)]

use std::process::Command;

/// Returns the crates that a program gets with these features, one `name vX.Y.Z` on each line.
fn crates(features: &str) -> String {
    tree(features, "normal")
}

fn tree(features: &str, edges: &str) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none", "--edges", edges])
        .args(["--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    String::from_utf8(tree.stdout).unwrap()
}

fn has(tree: &str, name: &str) -> bool {
    tree.lines()
        .any(|line| line.split(' ').next() == Some(name))
}

#[test]
fn no_feature_brings_the_exporter_whose_features_would_change_that_of_the_program() {
    let tree = crates("otlp,otlp-ring");
    assert!(has(&tree, "opentelemetry-proto"), "{tree}");
    for name in ["opentelemetry-otlp", "opentelemetry-http", "reqwest"] {
        assert!(!has(&tree, name), "{name}");
    }
}

#[test]
fn the_sdk_has_no_features_but_those_that_the_messages_need() {
    let tree = tree("otlp,otlp-ring", "normal,features");
    let features = tree
        .lines()
        .filter_map(|line| line.strip_prefix("opentelemetry_sdk feature \""));
    let mut features: Vec<_> = features.filter_map(|rest| rest.split('"').next()).collect();
    features.sort_unstable();
    features.dedup();
    // The two in the middle are dependencies of `trace`.
    assert_eq!(
        features,
        ["metrics", "percent-encoding", "rand", "trace"],
        "{tree}"
    );
}

#[test]
fn the_crypto_provider_comes_only_with_its_own_feature() {
    let plain = crates("otlp");
    for name in ["ring", "aws-lc-rs", "aws-lc-sys"] {
        assert!(!has(&plain, name), "{name}");
    }
    assert!(has(&crates("otlp-ring"), "ring"));
}

#[test]
fn without_the_feature_nothing_of_it_is_there() {
    let tree = crates("default");
    for name in ["opentelemetry", "tonic", "tokio", "hyper", "rustls"] {
        assert!(!has(&tree, name), "{name}");
    }
}
