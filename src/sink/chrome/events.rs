//! Records as lines of the trace, one each.
//!
//! All lines but the first begin with a comma: whatever is cut off after a line, what stays is an array without its
//! end, which every viewer accepts. The two events of a lane share a line, because viewers complain about half a lane.

use std::collections::HashMap;
use std::sync::Arc;

use super::args::Args;
use super::gpu::Devices;
use super::labels::{Labels, Lanes};
use crate::model::{
    EventRecord, GpuCall, GpuProfile, GpuWork, Losses, Nanos, Process, Sample, SpanKind,
    SpanRecord, Thread, Unit, Value,
};
use crate::sink::trace_events::{Arrows, calls, json, json::ELLIPSIS, work};

/// The field that says what an event is about.
const MESSAGE: &str = "message";

/// How much of a message becomes an instant's name; a longer one is an argument as well. Viewers draw names on a line.
const NAME_BYTES: usize = 120;

/// Set in the ids of overlapping activations, which must not meet the ids of spans.
const OVERLAPPING: u64 = 1 << 63;

/// The bars of one thread that were open in the end, as far as they are written.
struct OpenBars {
    first_start: Nanos,
    last_end: Nanos,
}

/// Formats records. Holds what repeats from line to line.
pub(super) struct Events {
    pid: u64,
    labels: Labels,
    lanes: Lanes,
    args: Args,
    overlaps: u64,
    open: HashMap<u32, OpenBars>,
    /// The end of the trace so far, but for what devices did.
    latest: Nanos,
    /// When the capture ended, as bars say that were open then.
    capture_end: Option<Nanos>,
    /// Calls that had not returned when the capture ended.
    unfinished_calls: Vec<Arc<GpuCall>>,
    devices: Devices,
    arrows: Arrows,
}

impl Events {
    /// Begins the trace with the process's name.
    pub(super) fn new(out: &mut Vec<u8>, process: &Process) -> Events {
        // Perfetto has a process 0 of its own.
        let pid = u64::from(process.pid.max(1));
        let ids = format!(",\"pid\":{pid},\"tid\":{pid}");
        out.extend_from_slice(b"{\"ph\":\"M\",\"name\":\"process_name\"");
        out.extend_from_slice(ids.as_bytes());
        out.extend_from_slice(b",\"args\":{\"name\":");
        json::string(out, process.name.as_deref().unwrap_or("process"));
        out.extend_from_slice(b"}}\n");
        Events {
            pid,
            labels: Labels::default(),
            lanes: Lanes::new(pid),
            args: Args::default(),
            overlaps: 0,
            open: HashMap::new(),
            latest: Nanos::ZERO,
            capture_end: None,
            unfinished_calls: Vec::new(),
            devices: Devices::new(pid),
            arrows: Arrows::default(),
        }
    }

    /// Appends a bar on its thread, or on a lane of its own where it would not nest among the thread's bars.
    pub(super) fn span(&mut self, out: &mut Vec<u8>, record: &SpanRecord<'_>) {
        self.latest = self.latest.max(record.end);
        if record.unfinished {
            self.capture_end = Some(record.end);
        }
        match record.kind {
            SpanKind::Async { .. } => self.lane(out, record, record.span.0),
            // Perfetto drops what overlaps on a thread.
            _ if record.overlapping => {
                self.overlaps += 1;
                self.lane(out, record, OVERLAPPING | self.overlaps);
            }
            _ => self.bar(out, record),
        }
    }

    /// Appends an instant on its thread.
    pub(super) fn event(&mut self, out: &mut Vec<u8>, record: &EventRecord<'_>) {
        self.latest = self.latest.max(record.at);
        let ids = self
            .lanes
            .ids(record.thread, |ids| introduce(out, ids, record.thread));
        let label = self.labels.label(record.site);
        out.extend_from_slice(b",{\"ph\":\"i\",\"s\":\"t\"");
        let named = match record.fields.get(MESSAGE) {
            Some(Value::Str { text, cut }) if !text.is_empty() => {
                out.extend_from_slice(label.without_name());
                message(out, text, cut)
            }
            _ => {
                out.extend_from_slice(label.with_name());
                false
            }
        };
        out.extend_from_slice(ids);
        out.extend_from_slice(b",\"ts\":");
        json::micros(out, record.at.0);
        self.args.open(out);
        self.args
            .fields(out, record.fields, named.then_some(MESSAGE));
        self.args.own_text(out, "level", record.level.as_str());
        self.args.close(out);
        out.extend_from_slice(b"}\n");
    }

    /// Appends a point of a counter. Viewers show the name and the argument's key as one title.
    pub(super) fn sample(&mut self, out: &mut Vec<u8>, sample: &Sample<'_>) {
        // JSON has no such number, and a counter must not show one that was not read.
        if !sample.value.is_finite() {
            return;
        }
        self.latest = self.latest.max(sample.at);
        out.extend_from_slice(b",{\"ph\":\"C\",\"name\":");
        json::string(out, sample.series);
        out.extend_from_slice(b",\"pid\":");
        json::unsigned(out, self.pid);
        out.extend_from_slice(b",\"ts\":");
        json::micros(out, sample.at.0);
        out.extend_from_slice(b",\"args\":{\"");
        out.extend_from_slice(unit_name(sample.unit).as_bytes());
        out.extend_from_slice(b"\":");
        json::float(out, sample.value);
        out.extend_from_slice(b"}}\n");
    }

    /// Appends a call into the driver as a bar on its thread, inside the span around it.
    pub(super) fn call(&mut self, out: &mut Vec<u8>, call: &Arc<GpuCall>) {
        match call.end {
            Some(end) => {
                self.latest = self.latest.max(end);
                self.call_until(out, call, end);
            }
            // Its bar ends with the spans around it, which may come later.
            None => self.unfinished_calls.push(Arc::clone(call)),
        }
    }

    /// Appends the calls that had not returned when the capture ended.
    pub(super) fn unfinished_calls(&mut self, out: &mut Vec<u8>) {
        // Before the end of the spans around it, which stop with the capture.
        let end = match self.capture_end {
            Some(end) => end.saturating_sub(Nanos(1)),
            None => self.latest,
        };
        for call in std::mem::take(&mut self.unfinished_calls) {
            self.call_until(out, &call, end);
        }
    }

    fn call_until(&mut self, out: &mut Vec<u8>, call: &GpuCall, end: Nanos) {
        let ids = self
            .lanes
            .ids(&call.thread, |ids| introduce(out, ids, &call.thread));
        out.extend_from_slice(b",{\"ph\":\"X\",\"cat\":\"cuda_driver\",\"name\":");
        json::string(out, call.function);
        out.extend_from_slice(ids);
        out.extend_from_slice(b",\"ts\":");
        json::micros(out, call.start.0);
        out.extend_from_slice(b",\"dur\":");
        json::micros(out, end.saturating_sub(call.start).0);
        calls::args(out, call, false);
        out.extend_from_slice(b"}\n");
    }

    /// Appends a device's work as a bar on a lane of its stream, with an arrow from the call that started it.
    pub(super) fn work(&mut self, out: &mut Vec<u8>, done: &GpuWork) {
        let to = self.devices.lane(out, done);
        out.extend_from_slice(b",{\"ph\":\"X\",\"cat\":\"");
        out.extend_from_slice(work::category(&done.kind).as_bytes());
        out.extend_from_slice(b"\",\"name\":");
        work::name(out, done);
        out.extend_from_slice(&to);
        out.extend_from_slice(b",\"ts\":");
        json::micros(out, done.start.0);
        out.extend_from_slice(b",\"dur\":");
        json::micros(out, done.length().0);
        work::args(out, done, Some(done.queue.stream));
        out.extend_from_slice(b"}\n");
        if let Some(call) = &done.call {
            // Apart from the arrow, whose two ends share a line.
            let from = self
                .lanes
                .ids(&call.thread, |ids| introduce(out, ids, &call.thread));
            self.arrows
                .append(out, done, |out| out.extend_from_slice(from), &to);
        }
    }

    /// Gives the devices that did something their names, which are known in the end.
    pub(super) fn name_devices(&mut self, out: &mut Vec<u8>, gpu: Option<&GpuProfile>) {
        for row in gpu.map_or(&[][..], |gpu| &gpu.devices) {
            if let Some(name) = &row.device.name {
                self.devices.name(out, row.device.ordinal, name);
            }
        }
    }

    /// Appends an instant over the whole process that says what the trace lacks.
    pub(super) fn losses(&mut self, out: &mut Vec<u8>, losses: &serde_json::Value) {
        out.extend_from_slice(
            b",{\"ph\":\"i\",\"s\":\"p\",\"cat\":\"tracing_cortex\",\"name\":\"tracing-cortex losses\",\"pid\":",
        );
        json::unsigned(out, self.pid);
        out.extend_from_slice(b",\"tid\":");
        json::unsigned(out, self.pid);
        out.extend_from_slice(b",\"ts\":");
        json::micros(out, self.latest.0);
        out.extend_from_slice(b",\"args\":");
        out.extend_from_slice(losses.to_string().as_bytes());
        out.extend_from_slice(b"}\n");
    }

    fn bar(&mut self, out: &mut Vec<u8>, record: &SpanRecord<'_>) {
        let end = if record.unfinished {
            self.end_of_open(record)
        } else {
            record.end
        };
        self.begin(out, record, b",{\"ph\":\"X\"");
        out.extend_from_slice(b",\"dur\":");
        json::micros(out, end.saturating_sub(record.start).0);
        let ids = record.ids.filter(|_| record.kind != SpanKind::Poll);
        if !record.fields.is_empty() || record.unfinished || ids.is_some() {
            self.args.open(out);
            self.args.fields(out, record.fields, None);
            self.args.ids(out, ids);
            if record.unfinished {
                self.args.own_mark(out, "unfinished");
            }
            self.args.close(out);
        }
        out.extend_from_slice(b"}\n");
    }

    /// Returns where a bar that was open in the end stops: an outer one a nanosecond after the one inside it.
    ///
    /// All of them stop when the capture does, and speedscope, which adds start and length in floating point, would see
    /// some outer bars stop before what is inside them.
    fn end_of_open(&mut self, record: &SpanRecord<'_>) -> Nanos {
        let open = self.open.entry(record.thread.index).or_insert(OpenBars {
            first_start: Nanos(u64::MAX),
            last_end: Nanos::ZERO,
        });
        if record.start > open.first_start {
            return record.end;
        }
        open.first_start = record.start;
        open.last_end = record.end.max(open.last_end.saturating_add(Nanos(1)));
        open.last_end
    }

    fn lane(&mut self, out: &mut Vec<u8>, record: &SpanRecord<'_>, id: u64) {
        // With a plain `id` Perfetto shows the lane outside the process.
        self.begin(out, record, b",{\"ph\":\"b\"");
        lane_id(out, id);
        self.args.open(out);
        self.args.fields(out, record.fields, None);
        self.args.ids(out, record.ids);
        if let SpanKind::Async { busy, activations } = record.kind {
            self.args.own_number(out, "busy_ns", busy.0);
            self.args
                .own_number(out, "activations", u64::from(activations));
        }
        if record.overlapping {
            self.args.own_mark(out, "overlapping");
        }
        if record.unfinished {
            self.args.own_mark(out, "unfinished");
        }
        self.args.close(out);
        out.push(b'}');
        let end = SpanRecord {
            start: record.end.max(record.start),
            ..record.clone()
        };
        self.begin(out, &end, b",{\"ph\":\"e\"");
        lane_id(out, id);
        out.extend_from_slice(b"}\n");
    }

    /// Appends what all span events have: phase, category, name, thread and time.
    #[inline]
    fn begin(&mut self, out: &mut Vec<u8>, record: &SpanRecord<'_>, phase: &[u8]) {
        let ids = self
            .lanes
            .ids(record.thread, |ids| introduce(out, ids, record.thread));
        let label = self.labels.label(record.site);
        out.extend_from_slice(phase);
        match record.name {
            None => out.extend_from_slice(label.with_name()),
            Some(name) => {
                out.extend_from_slice(label.without_name());
                json::string(out, name);
            }
        }
        out.extend_from_slice(ids);
        out.extend_from_slice(b",\"ts\":");
        json::micros(out, record.start.0);
    }
}

/// Returns what is not zero, or `None` if nothing was lost.
pub(super) fn actual(losses: &Losses) -> Option<serde_json::Value> {
    let mut all = serde_json::to_value(losses).ok()?;
    all.as_object_mut()?.retain(|_, value| match value {
        serde_json::Value::Number(number) => number.as_u64() != Some(0),
        serde_json::Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    all.as_object()
        .is_some_and(|left| !left.is_empty())
        .then_some(all)
}

fn introduce(out: &mut Vec<u8>, ids: &[u8], thread: &Thread) {
    out.extend_from_slice(b",{\"ph\":\"M\",\"name\":\"thread_name\"");
    out.extend_from_slice(ids);
    out.extend_from_slice(b",\"args\":{\"name\":");
    match &thread.name {
        Some(name) => json::string(out, name),
        None => json::string(out, &format!("thread-{}", thread.index)),
    }
    out.extend_from_slice(b"}}\n,{\"ph\":\"M\",\"name\":\"thread_sort_index\"");
    out.extend_from_slice(ids);
    out.extend_from_slice(b",\"args\":{\"sort_index\":");
    json::unsigned(out, u64::from(thread.index));
    out.extend_from_slice(b"}}\n");
}

fn lane_id(out: &mut Vec<u8>, id: u64) {
    out.extend_from_slice(b",\"id2\":{\"local\":\"");
    json::hex(out, id);
    out.extend_from_slice(b"\"}");
}

/// Appends a message as a name; returns whether all of it is there.
fn message(out: &mut Vec<u8>, text: &str, cut: bool) -> bool {
    let kept = text.floor_char_boundary(NAME_BYTES);
    let whole = kept == text.len();
    out.push(b'"');
    json::escaped(out, &text[..kept]);
    if cut || !whole {
        out.extend_from_slice(ELLIPSIS.as_bytes());
    }
    out.push(b'"');
    whole
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::BytesPerSecond => "bytes/s",
        Unit::Percent => "percent",
        Unit::Count => "count",
        Unit::PerSecond => "/s",
        Unit::Seconds => "seconds",
        Unit::Watts => "W",
        Unit::Joules => "J",
        Unit::Celsius => "degrees C",
        Unit::Hertz => "Hz",
    }
}
