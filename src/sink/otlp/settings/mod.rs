//! What the user sets, and what comes of it together with the environment.

mod builder;
mod environment;
mod identity;
mod resolve;
mod span_exporter;
mod target;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use self::builder::Otlp;
pub(crate) use self::span_exporter::{AnyExporter, Held};
pub(crate) use self::target::{Signal, Target};
use super::resource::Resource;
use super::sampling::Rules;

/// How requests travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// gRPC over HTTP/2; receivers usually listen on port 4317.
    Grpc,
    /// Protobuf in HTTP POST requests; receivers usually listen on port 4318.
    #[default]
    HttpProtobuf,
    /// JSON in HTTP POST requests, for receivers that take nothing else: it costs both sides several times more.
    HttpJson,
}

/// How request bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip: about a tenth of the bytes for some milliseconds of the exporter's thread per batch.
    Gzip,
}

/// Whether metrics count from the start of the capture or from the last export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Temporality {
    /// From the start; what Prometheus wants.
    #[default]
    Cumulative,
    /// From the last export.
    Delta,
    /// As `Delta` for what is counted span by span, as `Cumulative` for counters that are read from the system.
    LowMemory,
}

/// Where spans go.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    Receiver(Box<Target>),
    /// To an exporter of the program's own, with the limit of one call.
    Exporter(Held, Duration),
}

impl Destination {
    /// Its name for people.
    pub(crate) fn shown(&self) -> &str {
        match self {
            Destination::Receiver(target) => &target.shown,
            Destination::Exporter(exporter, _) => exporter.shown(),
        }
    }
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Who sends.
    pub(crate) resource: Resource,
    /// Where spans go; `None` if they are switched off.
    pub(crate) traces: Option<Destination>,
    /// Where metrics go; `None` if they are switched off.
    pub(crate) metrics: Option<Target>,
    /// Spans in one request at most.
    pub(crate) max_batch_spans: usize,
    /// How long a span may wait for others.
    pub(crate) schedule_delay: Duration,
    /// Another layer in a box makes the ids.
    pub(crate) adopt_ids: bool,
    pub(crate) max_gpu_spans: u32,
    /// Between two exports of metrics.
    pub(crate) metrics_interval: Duration,
    pub(crate) temporality: Temporality,
    /// Encoded requests that wait or are under way, together.
    pub(crate) max_queue_bytes: usize,
    /// The file for what cannot be sent.
    pub(crate) spill: Option<PathBuf>,
    /// Which traces are exported.
    pub(crate) sampling: Rules,
}
