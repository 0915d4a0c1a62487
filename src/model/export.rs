//! What became of the spans that were to be sent elsewhere.

use serde::Serialize;

use super::{Nanos, SpanId, TraceId};

/// The account of an exporter: every operation that it was given is in exactly one of the counts,
/// and so is what devices did for an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Export {
    /// The sink's name.
    pub name: String,
    /// Where the spans go: a URL, or the type of an exporter.
    pub endpoint: String,
    /// Spans that the receiver took.
    pub exported: u64,
    /// Spans that the receiver refused for good, one by one (`partial_success`) or with their batch.
    pub refused: u64,
    /// Spans that were given up: the queue was full, or nobody answered until the deadline.
    pub dropped: u64,
    /// Spans that could not be sent and were written to the spill file.
    pub spilled: u64,
    /// Spans that sampling left out.
    pub sampled_out: u64,
    /// Spans with ids of another layer of the program, which exports them itself.
    pub adopted: u64,
    /// Work of devices that became no span because its operation has as many as
    /// [`Otlp::max_gpu_spans`](crate::otlp::Otlp::max_gpu_spans) allows.
    pub gpu_beyond_limit: u64,
    /// Spans that are on their way; 0 in the end.
    pub pending: u64,
    /// Metric points that the receiver took.
    pub exported_points: u64,
    /// Metric points that it refused, or that could not be sent.
    pub lost_points: u64,
    /// Why the last of the refused, dropped or spilled spans were not exported.
    pub last_error: Option<String>,
    /// Why the last of the lost points were lost. A receiver of spans that takes no metrics is told by this alone: it
    /// gets no more of them, and the end of the capture is no error for it.
    pub last_points_error: Option<String>,
    /// What the receiver had to say last of spans or points that it took, or what went wrong when an exporter was shut
    /// down.
    pub last_warning: Option<String>,
}

/// One slow operation, to look up in a trace viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Example {
    /// Its trace.
    pub trace_id: TraceId,
    /// The operation itself.
    pub span_id: SpanId,
    /// When it began.
    #[serde(rename = "start_ns")]
    pub start: Nanos,
    /// How long it took, from start to end.
    #[serde(rename = "duration_ns")]
    pub duration: Nanos,
    /// Whether the trace is sampled, so that a viewer has it.
    pub sampled: bool,
}
