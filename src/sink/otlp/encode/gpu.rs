//! What a device did, as a span of its own under the operation that had it done.

use super::attributes::Attributes;
use super::protobuf::bytes;
use super::{ATTRIBUTES, INTERNAL, KIND, NAME, head};
use crate::model::{GpuKind, GpuSource, GpuWork, Ids, Value, WallAnchor};

/// Appends the fields of a span. The times are the device's.
pub(super) fn span(
    out: &mut Vec<u8>,
    anchor: WallAnchor,
    attributes: &mut Attributes,
    work: &GpuWork,
    ids: &Ids,
) {
    head(out, anchor, ids, work.start, work.end);
    match &work.kind {
        GpuKind::Kernel(kernel) => bytes(out, NAME, kernel.name.as_bytes()),
        GpuKind::Copy(copy) => {
            let mut name = *b"Memcpy        ";
            let direction = copy.direction().as_bytes();
            let end = 7 + direction.len();
            if let Some(place) = name.get_mut(7..end) {
                place.copy_from_slice(direction);
            }
            bytes(out, NAME, name.get(..end).unwrap_or(b"Memcpy"));
        }
        GpuKind::Set { .. } => bytes(out, NAME, b"Memset"),
        GpuKind::Graph => bytes(out, NAME, b"CUDA graph"),
        GpuKind::Range { name } => bytes(out, NAME, name.as_bytes()),
    }
    out.extend_from_slice(&[KIND, INTERNAL]);
    attributes.begin(ATTRIBUTES);
    let own = |out: &mut Vec<u8>, key, value| attributes.own(out, key, value);
    let text = |text| Value::Str { text, cut: false };
    own(out, "cortex.gpu.source", text(source(work.source)));
    own(out, "gpu.device", Value::U64(work.queue.device.into()));
    own(out, "gpu.stream", Value::U64(work.queue.stream.into()));
    if let Some(graph) = work.graph {
        own(out, "gpu.graph", Value::U64(graph.into()));
    }
    if let Some(delay) = work.launch_delay() {
        own(out, "gpu.launch_delay_ns", Value::U64(delay.0));
    }
    if let Some(call) = &work.call {
        own(out, "gpu.correlation", Value::U64(call.correlation.into()));
        own(out, "code.function.name", text(call.function));
    }
    match &work.kind {
        GpuKind::Kernel(kernel) => {
            let product = |sides: [u32; 3]| sides.into_iter().map(u64::from).product();
            own(out, "gpu.kernel.blocks", Value::U64(product(kernel.grid)));
            own(
                out,
                "gpu.kernel.threads_per_block",
                Value::U64(product(kernel.block)),
            );
            let shared = Value::U64(kernel.shared_bytes.into());
            own(out, "gpu.kernel.shared_bytes", shared);
            let registers = Value::U64(kernel.registers.into());
            own(out, "gpu.kernel.registers", registers);
        }
        GpuKind::Copy(copy) => {
            own(out, "gpu.bytes", Value::U64(copy.bytes));
            own(out, "gpu.copy.pageable", Value::Bool(copy.is_pageable()));
            own(out, "gpu.copy.async", Value::Bool(copy.is_async));
        }
        GpuKind::Set { bytes } => own(out, "gpu.bytes", Value::U64(*bytes)),
        GpuKind::Graph | GpuKind::Range { .. } => {}
    }
}

fn source(source: GpuSource) -> &'static str {
    match source {
        GpuSource::Cupti => "cupti",
        GpuSource::Events => "events",
        GpuSource::Reported => "reported",
    }
}
