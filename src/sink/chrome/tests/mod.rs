//! What a trace holds, read back with `serde_json`. The viewers themselves are run by `.ci/viewers`.

mod content;
mod faults;
mod golden;
mod gpu;
mod hostile;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;

use super::ChromeSink;
use crate::model::{
    Diagnosis, EventRecord, FieldWriter, Fields, Level, Nanos, Process, Profile, Site, SiteId,
    SpanKind, SpanRecord, SpanSeq, Thread, Value, WallAnchor,
};
use crate::sink::Sink;

const ANCHOR: WallAnchor = WallAnchor {
    unix_ns: 1_763_700_000_123_456_789,
};

/// A writer whose content the test reads while the sink owns it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn process() -> Process {
    Process {
        name: Some("indexer".to_owned()),
        pid: 4321,
        cores: None,
        ..Process::default()
    }
}

fn site(id: u32, name: &'static str) -> Site {
    Site::new(SiteId(id), name, "app::index", None, None)
}

fn thread(index: u32, name: &str) -> Thread {
    Thread::new(index, Some(4321 + index), Some(name.into()))
}

fn span<'a>(
    site: &'a Site,
    thread: &'a Thread,
    kind: SpanKind,
    start: u64,
    end: u64,
) -> SpanRecord<'a> {
    SpanRecord {
        span: SpanSeq(start + 1),
        parent: None,
        kind,
        site,
        name: None,
        thread,
        start: Nanos(start),
        end: Nanos(end),
        fields: Fields::empty(),
        unfinished: false,
        ids: None,
        overlapping: false,
        traced: false,
        failed: false,
    }
}

fn event<'a>(site: &'a Site, thread: &'a Thread, at: u64, fields: Fields<'a>) -> EventRecord<'a> {
    EventRecord {
        span: None,
        operation: None,
        site,
        thread,
        at: Nanos(at),
        level: Level::Info,
        fields,
        traced: false,
    }
}

/// Encodes field values by their index in the site.
fn encode(values: &[(u8, Value<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FieldWriter::new(&mut bytes, usize::MAX);
    for &(index, value) in values {
        writer.write(index, value);
    }
    bytes
}

fn finish(sink: &mut ChromeSink) {
    sink.finish(
        &Profile::default(),
        &Diagnosis::default(),
        Duration::from_secs(1),
    )
    .unwrap();
}

/// Runs `fill` on a sink that writes to memory and returns its events without metadata.
fn written(fill: impl FnOnce(&mut ChromeSink)) -> Vec<Json> {
    let out = Shared::default();
    let mut sink = ChromeSink::to_writer(out.clone(), &process(), ANCHOR);
    fill(&mut sink);
    finish(&mut sink);
    let mut events = array(&out.text());
    events.retain(|event| event["ph"] != "M");
    events
}

fn array(text: &str) -> Vec<Json> {
    match serde_json::from_str(text) {
        Ok(events) => events,
        Err(error) => panic!("{error} in {text}"),
    }
}
