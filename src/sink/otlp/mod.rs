//! OTLP: finished operations and metrics to a collector, Jaeger, Tempo or any other receiver.
//!
//! ```text
//!  cortex-collect                                      cortex-export
//!  operations ─▶ sampling ─▶ encode ─▶ queue (bytes) ──▶ transport: gRPC, HTTP ──▶ receiver
//!                                                             or SpanExporter
//!  tick(Profile) ─▶ metrics ─────────────▶                  └─ what cannot be sent ─▶ spill file
//! ```

mod account;
mod ambient;
mod batch;
mod children;
mod context;
mod encode;
mod error;
mod exporter;
mod json;
mod metrics;
mod queue;
mod resource;
mod retry;
mod sampling;
mod sending;
mod settings;
mod sink;
mod spill;
mod transport;

#[cfg(test)]
mod tests;

pub(crate) use ambient::current_otel_span;
pub use error::OtlpError;
pub use sampling::Sampling;
pub use settings::{Compression, Otlp, Protocol, Temporality};
pub(crate) use sink::OtlpSink;
