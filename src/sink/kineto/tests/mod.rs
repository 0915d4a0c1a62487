//! What the files hold, read back with `serde_json`. Holistic Trace Analysis itself is run by `.ci/hta`.

mod content;
mod files;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::KinetoSink;
use crate::model::{
    Diagnosis, FieldWriter, Fields, GpuApi, GpuBatch, GpuCall, GpuCaller, GpuCopy, GpuKernel,
    GpuKind, GpuMemoryKind, GpuQueue, GpuSource, GpuWork, Nanos, PathId, Process, Profile, Site,
    SiteId, SpanKind, SpanRecord, SpanSeq, Thread, Value, WallAnchor,
};
use crate::sink::Sink;

const ANCHOR: WallAnchor = WallAnchor {
    unix_ns: 1_763_700_000_123_456_789,
};

fn process() -> Process {
    Process {
        name: Some("trainer".to_owned()),
        pid: 4242,
        ..Process::default()
    }
}

fn thread(index: u32) -> Thread {
    Thread::new(index, Some(4242 + index), Some(format!("t{index}").into()))
}

fn site(name: &'static str) -> Site {
    Site::new(SiteId(1), name, "model", None, None)
}

fn span<'a>(site: &'a Site, thread: &'a Thread, start: u64, end: u64) -> SpanRecord<'a> {
    SpanRecord {
        span: SpanSeq(start + 1),
        parent: None,
        kind: SpanKind::Whole,
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

fn call(
    function: &'static str,
    api: GpuApi,
    correlation: u32,
    start: u64,
    end: u64,
) -> Arc<GpuCall> {
    let mut call = GpuCall::new(api, function, correlation, thread(0), Nanos(start));
    call.context = 1;
    call.end = Some(Nanos(end));
    Arc::new(call)
}

fn launch(correlation: u32, start: u64) -> Arc<GpuCall> {
    call(
        "cuLaunchKernel",
        GpuApi::Launch,
        correlation,
        start,
        start + 5,
    )
}

fn kernel(name: &str, queue: (u32, u32, u32), start: u64, end: u64) -> GpuWork {
    let kind = GpuKind::Kernel(GpuKernel::new(name));
    work(kind, queue, start, end)
}

fn work(kind: GpuKind, queue: (u32, u32, u32), start: u64, end: u64) -> GpuWork {
    let queue = GpuQueue::new(queue.0, queue.1, queue.2);
    GpuWork::new(kind, queue, Nanos(start), Nanos(end), GpuSource::Cupti)
}

fn in_span(seq: u64, name: &'static str, work: GpuWork) -> GpuWork {
    let caller = GpuCaller::new(SpanSeq(seq), Arc::new(site(name)), PathId(1), None);
    GpuWork {
        caller: Some(caller),
        ..work
    }
}

fn started_by(call: &Arc<GpuCall>, work: GpuWork) -> GpuWork {
    GpuWork {
        call: Some(Arc::clone(call)),
        ..work
    }
}

fn encode(value: Value<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    FieldWriter::new(&mut bytes, usize::MAX).write(0, value);
    bytes
}

fn finish(sink: &mut KinetoSink) {
    let done = sink.finish(&Profile::default(), &Diagnosis::default(), Duration::ZERO);
    done.unwrap();
}

/// Runs `fill` on a sink and returns its folder.
fn written(fill: impl FnOnce(&mut KinetoSink)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = KinetoSink::create(folder.path(), &process(), ANCHOR).unwrap();
    fill(&mut sink);
    finish(&mut sink);
    folder
}

fn read(folder: &Path, device: u32) -> Json {
    let text = text(folder, device);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn text(folder: &Path, device: u32) -> String {
    std::fs::read_to_string(folder.join(format!("device-{device}.json"))).unwrap()
}

/// The bars of a category, in the order of the file.
fn bars(object: &Json, category: &str) -> Vec<Json> {
    let events = object["traceEvents"].as_array().unwrap();
    let bars = events
        .iter()
        .filter(|event| event["ph"] == "X" && event["cat"] == category);
    bars.cloned().collect()
}

fn names(bars: &[Json]) -> Vec<&str> {
    bars.iter()
        .map(|bar| bar["name"].as_str().unwrap())
        .collect()
}
