//! A sink that remembers, and readers of what the built-in sinks wrote.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tracing_cortex::{
    CortexLayer, Diagnosis, FinishError, Profile, Sink, SinkError, SiteStats, SpanKind, SpanRecord,
};
use tracing_subscriber::prelude::*;

/// A span record as a sink saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) unfinished: bool,
}

/// Keeps what streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<Seen>>>);

impl Memory {
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.clone()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        let spans = self.spans();
        spans.iter().filter(|span| span.name == name).count()
    }
}

impl Sink for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(batch.iter().map(|record| Seen {
            name: record.name.unwrap_or(record.site.name).to_owned(),
            kind: record.kind,
            unfinished: record.unfinished,
        }));
        Ok(())
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Runs `program` with the layer as the only one.
pub(crate) fn within<R>(layer: CortexLayer, program: impl FnOnce() -> R) -> R {
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, program)
}

/// Returns the statistics of the only site with this name.
pub(crate) fn site<'a>(profile: &'a Profile, name: &str) -> &'a SiteStats {
    let mut found = profile.sites.iter().filter(|row| row.site.name == name);
    let site = found.next().unwrap_or_else(|| panic!("no site {name}"));
    assert!(found.next().is_none(), "two sites {name}");
    site
}

/// Returns the names of the sinks that failed, in alphabetical order.
pub(crate) fn failed(error: &FinishError) -> Vec<&str> {
    let mut names: Vec<_> = error
        .failures()
        .iter()
        .map(|failure| failure.sink.as_str())
        .collect();
    names.sort_unstable();
    names
}

/// Reads a complete JSON file.
pub(crate) fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:.2000}"))
}

/// Returns the bars of a complete trace that have this name.
pub(crate) fn bars(path: &Path, name: &str) -> Vec<Value> {
    let trace = json(path);
    let events = trace["traceEvents"].as_array().expect("a list");
    events
        .iter()
        .filter(|event| event["ph"] == "X" && event["name"] == name)
        .cloned()
        .collect()
}

/// Asserts that a JSON report, a text report and a trace in `folder` are whole and have `calls` spans called `name`.
pub(crate) fn assert_complete(folder: &Path, name: &str, calls: u64) {
    assert_reports_complete(folder, name, calls);
    let bars = bars(&folder.join("trace.json"), name).len();
    assert_eq!(bars as u64, calls, "in the trace");
}

/// Asserts the same of the reports alone.
pub(crate) fn assert_reports_complete(folder: &Path, name: &str, calls: u64) {
    let report = json(&folder.join("report.json"));
    let sites = report["sites"].as_array().expect("a list");
    let site = sites.iter().find(|site| site["name"] == name);
    assert_eq!(site.expect("the site")["calls"], calls, "in JSON");
    let text = fs::read_to_string(folder.join("report.txt")).expect("a file");
    assert!(text.contains(name), "{name} is not in {text}");
}
