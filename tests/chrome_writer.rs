//! The Chrome trace in a writer that the program gave.

#![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::subscriber::with_default;
use tracing_cortex::{CortexLayer, ManualClock, SinkFailureKind};
use tracing_subscriber::prelude::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn one_span() {
    tracing::info_span!("import", rows = 3).in_scope(|| {});
}

#[test]
fn a_writer_gets_an_array_that_is_whole_after_finish() {
    let memory = Memory::default();
    let clock = ManualClock::new();
    let (cortex, guard) = CortexLayer::builder()
        .chrome_writer(memory.clone())
        .manual_clock(&clock)
        .build()
        .unwrap();
    with_default(tracing_subscriber::registry().with(cortex), one_span);
    guard.finish().unwrap();

    let events: Vec<serde_json::Value> = serde_json::from_str(&memory.text()).unwrap();
    let bars: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(bars.len(), 1);
    assert_eq!(bars[0]["name"], "import");
    assert_eq!(bars[0]["args"]["rows"], 3);
}

#[test]
fn of_a_writer_and_a_path_the_last_call_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let memory = Memory::default();
    let (cortex, guard) = CortexLayer::builder()
        .chrome(&path)
        .chrome_writer(memory.clone())
        .build()
        .unwrap();
    with_default(tracing_subscriber::registry().with(cortex), one_span);
    guard.finish().unwrap();
    assert!(memory.text().contains("\"import\""));
    assert!(!path.exists());

    let memory = Memory::default();
    let (cortex, guard) = CortexLayer::builder()
        .chrome_writer(memory.clone())
        .chrome(&path)
        .build()
        .unwrap();
    with_default(tracing_subscriber::registry().with(cortex), one_span);
    guard.finish().unwrap();
    assert_eq!(memory.text(), "");
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("\"import\"")
    );
}

#[test]
fn a_writer_that_fails_is_named_at_the_end() {
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (cortex, guard) = CortexLayer::builder()
        .chrome_writer(Broken)
        .build()
        .unwrap();
    with_default(tracing_subscriber::registry().with(cortex), one_span);
    let error = guard.finish().unwrap_err();
    let failures = error.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].sink, "chrome");
    assert!(matches!(failures[0].kind, SinkFailureKind::Failed(_)));
}
