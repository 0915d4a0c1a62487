//! Work of devices as events: the names, categories and arguments that Kineto gives them, which other tools look for.

use super::json;
use crate::model::{GpuCaller, GpuCopy, GpuKind, GpuMemoryKind, GpuWork};

/// Returns the category. Graphs count as kernels: tools know no other category for what keeps a device busy.
pub(in crate::sink) fn category(kind: &GpuKind) -> &'static str {
    match kind {
        GpuKind::Kernel(_) | GpuKind::Graph => "kernel",
        GpuKind::Copy(_) => "gpu_memcpy",
        GpuKind::Set { .. } => "gpu_memset",
        GpuKind::Range { .. } => "gpu_user_annotation",
    }
}

/// Appends the name as a JSON string.
pub(in crate::sink) fn name(out: &mut Vec<u8>, work: &GpuWork) {
    match &work.kind {
        GpuKind::Kernel(kernel) => json::string(out, &kernel.name),
        GpuKind::Copy(copy) => copy_name(out, copy),
        GpuKind::Set { .. } => out.extend_from_slice(b"\"Memset\""),
        GpuKind::Range { name } => json::string(out, name),
        GpuKind::Graph => {
            out.extend_from_slice(b"\"CUDA graph");
            if let Some(graph) = work.graph {
                out.push(b' ');
                json::unsigned(out, u64::from(graph));
            }
            out.push(b'"');
        }
    }
}

fn copy_name(out: &mut Vec<u8>, copy: &GpuCopy) {
    let (from, to) = (place(copy.from), place(copy.to));
    out.extend_from_slice(b"\"Memcpy ");
    match (from.0, to.0) {
        _ if copy.peer.is_some() => out.extend_from_slice(b"PtoP "),
        (Some(from), Some(to)) => out.extend_from_slice(&[from, b't', b'o', to, b' ']),
        _ => {}
    }
    out.push(b'(');
    out.extend_from_slice(from.1.as_bytes());
    out.extend_from_slice(b" -> ");
    out.extend_from_slice(to.1.as_bytes());
    out.extend_from_slice(b")\"");
}

/// The letter in `HtoD`, and the word for the memory.
fn place(memory: GpuMemoryKind) -> (Option<u8>, &'static str) {
    match memory {
        GpuMemoryKind::Pageable => (Some(b'H'), "Pageable"),
        GpuMemoryKind::Pinned => (Some(b'H'), "Pinned"),
        GpuMemoryKind::Device => (Some(b'D'), "Device"),
        GpuMemoryKind::Array => (Some(b'A'), "Array"),
        GpuMemoryKind::Managed => (Some(b'M'), "Managed"),
        GpuMemoryKind::Unknown => (None, "Unknown"),
    }
}

/// Appends `,"args":{..}`. `stream` is what the event says of its stream; `None` for work that must not be taken for a
/// kernel.
pub(in crate::sink) fn args(out: &mut Vec<u8>, work: &GpuWork, stream: Option<u32>) {
    out.extend_from_slice(b",\"args\":{\"device\":");
    json::unsigned(out, u64::from(work.queue.device));
    number(out, b"context", u64::from(work.queue.context));
    if let Some(stream) = stream {
        number(out, b"stream", u64::from(stream));
    }
    if stream != Some(work.queue.stream) {
        number(out, b"driver_stream", u64::from(work.queue.stream));
    }
    if let Some(call) = &work.call {
        number(out, b"correlation", u64::from(call.correlation));
    }
    if let Some(graph) = work.graph {
        number(out, b"graph id", u64::from(graph));
    }
    match &work.kind {
        GpuKind::Kernel(kernel) => {
            number(out, b"registers per thread", u64::from(kernel.registers));
            number(out, b"shared memory", u64::from(kernel.shared_bytes));
            triple(out, b"grid", kernel.grid);
            triple(out, b"block", kernel.block);
        }
        GpuKind::Copy(copy) => {
            moved(out, work, copy.bytes);
            if let Some(peer) = copy.peer {
                number(out, b"peer device", u64::from(peer));
            }
        }
        GpuKind::Set { bytes } => moved(out, work, *bytes),
        GpuKind::Graph | GpuKind::Range { .. } => {}
    }
    caller(out, work.caller.as_ref());
    out.push(b'}');
}

/// Appends `,"span":..` and the ids under which a tracing backend has the span.
pub(in crate::sink) fn caller(out: &mut Vec<u8>, caller: Option<&GpuCaller>) {
    let Some(caller) = caller else { return };
    out.extend_from_slice(b",\"span\":");
    json::string(out, caller.site.name);
    if let Some(ids) = caller.ids {
        out.extend_from_slice(b",\"trace_id\":");
        json::string(out, &ids.trace.to_string());
        out.extend_from_slice(b",\"span_id\":");
        json::string(out, &ids.span.to_string());
    }
}

/// Appends `,"key":value`.
pub(in crate::sink) fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\":");
    json::unsigned(out, value);
}

fn moved(out: &mut Vec<u8>, work: &GpuWork, bytes: u64) {
    number(out, b"bytes", bytes);
    let nanos = work.length().0;
    if nanos > 0 {
        out.extend_from_slice(b",\"memory bandwidth (GB/s)\":");
        // A byte per nanosecond is a gigabyte per second.
        json::float(out, bytes as f64 / nanos as f64);
    }
}

fn triple(out: &mut Vec<u8>, key: &[u8], [x, y, z]: [u32; 3]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\":[");
    json::unsigned(out, u64::from(x));
    for value in [y, z] {
        out.push(b',');
        json::unsigned(out, u64::from(value));
    }
    out.push(b']');
}
