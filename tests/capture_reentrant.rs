//! Code of the program that runs inside a callback of the layer and comes back to it. Only a global subscriber lets it.

use tracing::{info, info_span};
use tracing_cortex::{CortexLayer, ManualClock};
use tracing_subscriber::prelude::*;

struct OpensSpans;

impl std::fmt::Debug for OpensSpans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _span = info_span!("in_debug", inner = 1).entered();
        info!("in debug");
        f.write_str("opened")
    }
}

#[test]
fn a_field_whose_debug_opens_spans_is_recorded_and_so_are_they() {
    let clock = ManualClock::new();
    let trace = tempfile::NamedTempFile::new().unwrap();
    let (layer, guard) = CortexLayer::builder()
        .no_resources()
        .manual_clock(&clock)
        .chrome(trace.path())
        .build()
        .unwrap();
    tracing_subscriber::registry().with(layer).init();
    info_span!("outer").in_scope(|| {
        info_span!("span", odd = ?OpensSpans).in_scope(|| info!(odd = ?OpensSpans, "event"));
    });
    let profile = guard.finish().unwrap().profile().clone();
    let mut calls: Vec<_> = (0..profile.paths.len())
        .map(|path| {
            (
                profile.names(path).join(" > "),
                profile.paths[path].stats.calls,
            )
        })
        .collect();
    calls.sort();
    let expected = [
        ("outer", 1),
        ("outer > in_debug", 1),
        ("outer > span", 1),
        ("outer > span > in_debug", 1),
    ];
    assert_eq!(
        calls,
        expected.map(|(path, calls)| (path.to_owned(), calls))
    );
    let written = std::fs::read_to_string(trace.path()).unwrap();
    assert_eq!(
        written.matches("\"odd\":\"opened\"").count(),
        2,
        "{written}"
    );
}
