//! Says at exit what was slow, why, and how much fixing it can gain, for programs that have `tracing` spans.

mod model;

mod aggregate;
mod capture;
mod clock;
mod diagnose;
mod resources;
mod sink;

mod pipeline;

pub use capture::{CortexLayer, Overflow};
pub use clock::ManualClock;
pub use diagnose::{Thresholds, diagnose};
pub use model::*;
pub use pipeline::{
    BuildError, CortexBuilder, CortexGuard, FinishError, FlushError, InitError, SinkFailure,
    SinkFailureKind, Summary, TextReport, init,
};
pub use resources::{Readings, ResourceSource};
pub use sink::{JsonSink, Sink, SinkError, TextOptions, TextSink, Wants, report_json, report_text};
