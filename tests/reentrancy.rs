//! Spans inside of the callbacks of spans. In a program of its own, because `tracing` cuts these off wherever a scoped
//! subscriber is in use.

use std::fmt;

use serde_json::{Value, json};
use tracing_cortex::CortexLayer;
use tracing_subscriber::prelude::*;

/// Prints by opening and closing spans.
struct Instrumented;

impl fmt::Debug for Instrumented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = tracing::info_span!("inner", also = ?"a field");
        span.in_scope(|| {
            tracing::error!("an event");
            f.write_str("printed")
        })
    }
}

#[test]
fn a_debug_that_opens_spans_is_captured_like_any_other_code() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let builder = CortexLayer::builder().no_resources().chrome(&trace);
    let (layer, guard) = builder.build().unwrap();
    tracing_subscriber::registry().with(layer).init();
    let late = tracing::field::Empty;
    let outer = tracing::info_span!("outer", value = ?Instrumented, late).entered();
    outer.record("late", tracing::field::debug(Instrumented));
    tracing::info!(value = ?Instrumented, "an event");
    drop(outer);
    let summary = guard.finish().unwrap();
    let calls = |name: &str| {
        let mut sites = summary.profile().sites.iter();
        sites.find(|row| row.site.name == name).unwrap().stats.calls
    };
    assert_eq!((calls("outer"), calls("inner")), (1, 3));
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let bars = |name: &'static str| {
        let events = events.iter();
        events.filter(move |event| event["ph"] == "X" && event["name"] == name)
    };
    assert_eq!(bars("inner").count(), 3);
    let outer = &bars("outer").next().unwrap()["args"];
    assert_eq!(outer, &json!({"value": "printed", "late": "printed"}));
}
