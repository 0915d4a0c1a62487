//! What was not measured, and what measuring cost.

use serde::Serialize;

use super::Nanos;

/// Everything that is missing from the outputs, by reason. All zero means that nothing is missing.
///
/// Statistics are exact whatever the stream lost: only `untracked_*` and `teardown` touch them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Losses {
    /// Span records that the event stream dropped because its buffer was full.
    pub dropped_spans: u64,
    /// Events that the event stream dropped because its buffer was full.
    pub dropped_events: u64,
    /// Field values that were cut at the string limit.
    pub cut_strings: u64,
    /// Field values that were left out because their `Debug` panicked.
    pub panicked_fields: u64,
    /// Activations beyond the call tree's limits: in `(other)`, or in an outer activation of the same site.
    pub folded_activations: u64,
    /// Spans beyond the limit of open spans: their activations count, their latency does not.
    pub untracked_spans: u64,
    /// Activations of spans that were created before the layer was there, or that are not tracked: they count, but
    /// nothing is known of their span.
    pub unknown_spans: u64,
    /// Exits without an enter on that thread.
    pub unbalanced_exits: u64,
    /// Guards that were dropped in another order than they were taken.
    pub out_of_order_exits: u64,
    /// Enters of a span that this thread had entered already; they count as part of the outer one.
    pub nested_enters: u64,
    /// Async spans whose latency counts from their first activation, because all earlier spans of their site were plain
    /// and the time of their creation was therefore not noted. At most a few per site.
    pub late_latencies: u64,
    /// Calls through held spans that looked like polls of an async span when they ended: they count as calls, but are no
    /// operations for the sinks. At most a few for each span.
    pub late_calls: u64,
    /// Activations that ended before they began because the clock stepped back; counted as zero.
    pub clock_steps: u64,
    /// Callbacks that arrived on a thread that was shutting down.
    pub teardown: u64,
    /// Durations beyond the recorder's range.
    pub outliers: u64,
    /// Records that belong to a sampled tree and could not be put into it: there was no memory, or their place in the
    /// tree came too late. The tree is then marked as truncated, if it is known which one it is.
    pub stray_records: u64,
    /// Spans that were open when the capture ended.
    pub open_spans: u64,
    /// Sinks and resource sources that failed, with what they said.
    pub failures: Vec<Failure>,
}

impl Losses {
    /// Returns how many records the event stream dropped.
    pub fn dropped_records(&self) -> u64 {
        self.dropped_spans + self.dropped_events
    }
}

/// A sink or a resource source that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// Its name.
    pub name: String,
    /// What it said, first failure only.
    pub message: String,
}

impl Failure {
    /// Describes a failure.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure {
            name: name.into(),
            message: message.into(),
        }
    }
}

/// The layer's own cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Overhead {
    /// What the layer adds to one span that is entered once, measured when the capture started.
    pub span_ns: f64,
    /// What the layer adds to one more activation of a span, measured when the capture started.
    pub activation_ns: f64,
    /// Both times what was counted.
    #[serde(rename = "total_ns")]
    pub total: Nanos,
    /// `total` as a share of the process's CPU time, if that is known.
    pub share_of_cpu: Option<f64>,
    /// CPU time of the collector and sampler threads, if known.
    #[serde(rename = "background_cpu_ns")]
    pub background_cpu: Option<Nanos>,
    /// Memory that the recorder holds for statistics and buffers, in bytes.
    pub memory_bytes: u64,
}
