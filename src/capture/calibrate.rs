//! What the layer itself costs, measured on this machine when the capture starts.

use std::hint::black_box;

use tracing_core::callsite::DefaultCallsite;
use tracing_core::metadata::Kind;
use tracing_core::{Level, Metadata, metadata};

use super::capture::{Capture, Settings, Streams};
use super::lifecycle::Declared;
use super::{Limits, Overflow, enter, exit, lifecycle, local};
use crate::clock::Clock;

/// What the layer adds to a span, in nanoseconds; without what the subscriber around it costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Cost {
    /// New, enter, exit, close.
    pub(crate) span_ns: f64,
    /// Enter and exit.
    pub(crate) activation_ns: f64,
}

/// Spans per round: enough to make one clock reading small, few enough to stay in the ring.
const SPANS: u64 = 256;
/// The fastest round counts, because whatever else runs on the machine only adds.
const ROUNDS: u32 = 8;

/// More room than the spans of a round need takes longer to allocate than all rounds together.
const MAX_RECORD_BYTES: usize = 1 << 20;

static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
static METADATA: Metadata<'static> = metadata! {
    name: "calibration",
    target: module_path!(),
    level: Level::TRACE,
    fields: &[],
    callsite: &CALLSITE,
    kind: Kind::SPAN,
};

/// Measures the cost on a capture of its own, in less than a millisecond.
pub(crate) fn calibrate(clock: &Clock, limits: Limits, streams: Streams) -> Cost {
    let limits = Limits {
        max_record_bytes: limits.max_record_bytes.min(MAX_RECORD_BYTES),
        ..limits
    };
    let mut cost = Cost {
        span_ns: f64::INFINITY,
        activation_ns: f64::INFINITY,
    };
    for _ in 0..ROUNDS {
        let capture = Capture::new(Settings {
            clock: clock.clone(),
            limits,
            streams,
            overflow: Overflow::DropNewest,
            held: None,
            ambient: None,
            sampler: None,
            marks: None,
        });
        // The first spans allocate; they are not what a span costs.
        spans(&capture, 8);
        let span_ns = timed(&capture, || spans(&capture, SPANS));
        local::with(&capture, |local| {
            lifecycle::open(&capture, local, &METADATA, Declared::Root, 1);
        });
        let activation_ns = timed(&capture, || activations(&capture, SPANS));
        local::forget(&capture);
        cost.span_ns = cost.span_ns.min(span_ns);
        cost.activation_ns = cost.activation_ns.min(activation_ns);
    }
    if cost.span_ns.is_finite() {
        cost
    } else {
        Cost::default()
    }
}

fn timed(capture: &Capture, work: impl FnOnce()) -> f64 {
    let before = capture.clock.now();
    work();
    let after = capture.clock.now();
    after.saturating_sub(before).0 as f64 / SPANS as f64
}

fn spans(capture: &Capture, count: u64) {
    for id in 1..=count {
        let id = black_box(id);
        local::with(capture, |local| {
            lifecycle::open(capture, local, &METADATA, Declared::Contextual, id)
        });
        enter_and_exit(capture, id);
        local::with(capture, |local| lifecycle::close(capture, local, id));
    }
}

fn activations(capture: &Capture, count: u64) {
    for _ in 0..count {
        enter_and_exit(capture, black_box(1));
    }
}

fn enter_and_exit(capture: &Capture, id: u64) {
    local::with(capture, |local| {
        enter::enter(capture, local, id, || None);
    });
    local::with(capture, |local| exit::exit(capture, local, id));
}
