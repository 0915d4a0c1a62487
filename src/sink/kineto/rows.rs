//! Spans, calls and work as rows.

use crate::model::{GpuCall, GpuCaller, GpuKind, GpuWork, Nanos, SpanRecord, Thread, Value};
use crate::sink::trace_events::{calls, json, tid, work};

/// The field by which the program marks a span as a step.
const STEP: &str = "cortex.step";

/// Appends a span. Without its fields: one of them may be called `stream`.
pub(super) fn span(out: &mut Vec<u8>, pid: u32, record: &SpanRecord<'_>) {
    out.extend_from_slice(b",{\"ph\":\"X\",\"cat\":\"user_annotation\",\"name\":");
    match (step(record), record.name) {
        (Some(step), _) => {
            out.extend_from_slice(b"\"ProfilerStep#");
            json::unsigned(out, step);
            out.push(b'"');
        }
        (None, Some(name)) => json::string(out, name),
        (None, None) => json::string(out, record.site.name),
    }
    place(out, u64::from(pid), tid(record.thread));
    time(out, record.start, record.end);
    if record.unfinished {
        out.extend_from_slice(b",\"args\":{\"unfinished\":true}");
    }
    out.extend_from_slice(b"}\n");
}

fn step(record: &SpanRecord<'_>) -> Option<u64> {
    if record.fields.is_empty() || !record.site.fields.contains(&STEP) {
        return None;
    }
    match record.fields.get(STEP)? {
        Value::U64(step) => Some(step),
        Value::I64(step) => u64::try_from(step).ok(),
        _ => None,
    }
}

/// Appends a call into the driver.
pub(super) fn call(out: &mut Vec<u8>, pid: u32, call: &GpuCall, end: Nanos) {
    out.extend_from_slice(b",{\"ph\":\"X\",\"cat\":\"cuda_runtime\",\"name\":\"");
    out.extend_from_slice(calls::runtime_name(call).as_bytes());
    out.push(b'"');
    place(out, u64::from(pid), tid(&call.thread));
    time(out, call.start, end);
    calls::args(out, call, true);
    out.extend_from_slice(b"}\n");
}

/// Appends a device's work on the stream that has the number `stream` in the file.
pub(super) fn device_work(out: &mut Vec<u8>, done: &GpuWork, stream: u32) {
    out.extend_from_slice(b",{\"ph\":\"X\",\"cat\":\"");
    out.extend_from_slice(work::category(&done.kind).as_bytes());
    out.extend_from_slice(b"\",\"name\":");
    work::name(out, done);
    place(out, u64::from(done.queue.device), u64::from(stream));
    time(out, done.start, done.end);
    // Whatever has a stream counts as busy time, which a range is not.
    let is_range = matches!(done.kind, GpuKind::Range { .. });
    work::args(out, done, (!is_range).then_some(stream));
    out.extend_from_slice(b"}\n");
}

/// Appends a row over the work of one span on a stream.
pub(super) fn annotation(
    out: &mut Vec<u8>,
    device: u32,
    stream: u32,
    caller: &GpuCaller,
    [start, end]: [Nanos; 2],
) {
    out.extend_from_slice(b",{\"ph\":\"X\",\"cat\":\"gpu_user_annotation\",\"name\":");
    json::string(out, caller.site.name);
    place(out, u64::from(device), u64::from(stream));
    time(out, start, end);
    out.extend_from_slice(b",\"args\":{\"device\":");
    json::unsigned(out, u64::from(device));
    work::caller(out, Some(caller));
    out.extend_from_slice(b"}}\n");
}

/// Appends a name of a process.
pub(super) fn process_name(out: &mut Vec<u8>, pid: u64, name: &str) {
    metadata(out, "process_name", pid, pid);
    out.extend_from_slice(b",\"args\":{\"name\":");
    json::string(out, name);
    out.extend_from_slice(b"}}\n");
}

/// Appends the place of a process among the others.
pub(super) fn process_sort_index(out: &mut Vec<u8>, pid: u64, place: u64) {
    metadata(out, "process_sort_index", pid, pid);
    out.extend_from_slice(b",\"args\":{\"sort_index\":");
    json::unsigned(out, place);
    out.extend_from_slice(b"}}\n");
}

/// Appends a name of a stream.
pub(super) fn stream_name(out: &mut Vec<u8>, device: u32, stream: u32, name: &str) {
    metadata(out, "thread_name", u64::from(device), u64::from(stream));
    out.extend_from_slice(b",\"args\":{\"name\":");
    json::string(out, name);
    out.extend_from_slice(b"}}\n");
}

/// Appends a name of a thread.
pub(super) fn thread_name(out: &mut Vec<u8>, pid: u32, thread: &Thread) {
    metadata(out, "thread_name", u64::from(pid), tid(thread));
    out.extend_from_slice(b",\"args\":{\"name\":");
    match &thread.name {
        Some(name) => json::string(out, name),
        None => json::string(out, &format!("thread-{}", thread.index)),
    }
    out.extend_from_slice(b"}}\n");
}

/// Appends `,"pid":1,"tid":2`.
pub(super) fn place(out: &mut Vec<u8>, pid: u64, tid: u64) {
    work::number(out, b"pid", pid);
    work::number(out, b"tid", tid);
}

fn metadata(out: &mut Vec<u8>, name: &str, pid: u64, tid: u64) {
    out.extend_from_slice(b",{\"ph\":\"M\",\"name\":");
    json::string(out, name);
    place(out, pid, tid);
}

fn time(out: &mut Vec<u8>, start: Nanos, end: Nanos) {
    out.extend_from_slice(b",\"ts\":");
    json::micros(out, start.0);
    out.extend_from_slice(b",\"dur\":");
    json::micros(out, end.saturating_sub(start).0);
}
