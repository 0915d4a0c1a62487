//! Says at exit what was slow, why, what to change and how much that can gain at most, for programs that have
//! `tracing` spans.
//!
//! ```no_run
//! #[tracing::instrument]
//! fn parse(text: &str) -> usize {
//!     text.split_whitespace().count()
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let _cortex = tracing_cortex::init()?; // one line: the report on exit
//!     println!("{}", parse(&std::fs::read_to_string("book.txt")?));
//!     Ok(())
//! }
//! ```
//!
//! [`init`] makes a registry with this layer the global default and reports on standard error when its guard is
//! dropped or the process exits. To combine the layer with others, or to choose the outputs, build it:
//!
//! ```no_run
//! use tracing_cortex::{CortexLayer, TextReport};
//! use tracing_subscriber::prelude::*;
//!
//! let (cortex, _guard) = CortexLayer::builder()
//!     .report_text(TextReport::Stderr)
//!     .report_json("report.json")
//!     .chrome("trace.json")
//!     .build()?;
//! tracing_subscriber::registry().with(cortex).init();
//! # Ok::<(), tracing_cortex::BuildError>(())
//! ```
//!
//! # Words
//!
//! Outputs and documentation use these words with exactly these meanings:
//!
//! - A **site** is one tracing callsite: name, target, file and line.
//! - A **span** is one tracing span, from its creation to its close.
//! - An **activation** is one enter and exit of a span on one thread. For an async span it is one poll. A future under
//!   `.instrument()` has one activation more than it has polls, because dropping it enters the span once more.
//! - **busy** is the sum of activations, **latency** the time from open to close, **idle** the difference.
//! - **self** is busy without the time in spans that were entered inside on the same thread.
//! - The **runtime parent** of an activation is the span that its thread was in at that moment; the declared parent only
//!   where it was in none. The **call path** is the chain of runtime parents.
//! - An **operation**, or *call*, is what a reader would count. Normally it is the span. Code such as a model's layers
//!   creates a span once, stores it and enters it on every call: such a span is *held*, and each activation is a call.
//!   A span is recognised as held when its activations have different spans around them;
//!   [`CortexBuilder::held`] says it where nothing is around.
//!
//! # What is exact and what is not
//!
//! Counts, sums, minima and maxima are exact, whatever the load. Quantiles are within 1 %. Durations are wall time on
//! the thread, read from the processor's tick counter; what the layer itself costs is measured at the start, shown, and
//! taken out of the parents' self time. Whether a span was running or waiting is sampled, and said with its number of
//! samples. What streams to the trace may be dropped when the disk cannot keep up, unless [`Overflow::Block`] is
//! chosen; every loss has a counter in [`Losses`] and every output shows them.
//!
//! # How it works
//!
//! ```text
//!  app threads                     thread `cortex-collect`            whoever ends the capture
//!  capture ── records (bounded) ──▶ sinks: chrome, yours               merge ▶ Profile ▶ diagnose ▶ Diagnosis
//!     └─ per-thread statistics ──────────────────────────────────────▶       ▶ sinks: reports, yours
//!  `cortex-sample`: process, system, your gauges ▶ Series
//! ```
//!
//! A span that stays on its thread is recorded without a lock, an allocation, a system call or a look into the
//! subscriber: a stack of frames, a call tree and small histograms belong to the thread and can be read at any time.
//!
//! # Features
//!
//! - `sysinfo` (default): process and system readings outside Linux, system CPU and memory everywhere. Without it the
//!   readings from `/proc` and your own remain.
//! - `signals` (default): [`CortexBuilder::flush_on_signals`]. Unix.
//! - `otlp`: `CortexBuilder::otlp`, traces and metrics to any receiver of OTLP, with the crypto provider that the program
//!   installed for TLS; `otlp-ring` brings one.
//! - `cuda`: `CortexBuilder::cuda`, what CUDA devices do for each span. The driver, CUPTI, NVML and NVTX are opened at run
//!   time: it builds and runs without any of them.
//!
//! The minimum Rust version is 1.95, which `sysinfo` needs.

mod model;

mod clock;

mod capture;

#[cfg(feature = "cuda")]
pub mod gpu;

mod join;

mod aggregate;

mod resources;

mod diagnose;

mod sink;

mod pipeline;

pub use capture::{CortexLayer, Overflow, SetParentError};
pub use clock::ManualClock;
pub use diagnose::{
    DatabaseThresholds, GpuThresholds, MemoryThresholds, NetworkThresholds, RuleLevel, RuleLevels,
    StorageThresholds, TaskThresholds, ThreadThresholds, Thresholds, TrendThresholds, UnknownRule,
    WorkThresholds, diagnose,
};
pub use model::{Activation, KeptTree, OperationTree, RootTrees};
pub use model::{Bucket, Distribution, Quantiles};
pub use model::{Checked, Confidence, CriticalPath, Diagnosis, Finding, Gain, PathSite, Severity};
pub use model::{CpuTime, OnCpu, PathStats, Process, Profile, SiteStats, Split, Stats};
pub use model::{EventRecord, FOLLOWS_FROM, FieldIter, Fields, Level, SpanKind, SpanRecord, Value};
pub use model::{Example, Export, Ids, Link, Operation, OperationEvent, SpanId, TraceId};
pub use model::{Failure, Losses, Overhead};
pub use model::{GpuApi, GpuCall, GpuCaller, GpuMemory};
pub use model::{
    GpuBatch, GpuCopy, GpuKernel, GpuKind, GpuMemoryKind, GpuQueue, GpuSource, GpuWork,
};
pub use model::{
    GpuDevice, GpuDeviceStats, GpuIdle, GpuKernelStats, GpuLostRanges, GpuPause, GpuPauses,
};
pub use model::{GpuNotice, GpuProfile, GpuStats, GpuStreamStats, GpuTotals};
pub use model::{Nanos, Site, SiteId, SpanSeq, Thread, WallAnchor};
pub use model::{OperationRow, OperationTables};
pub use model::{Point, Sample, Series, Unit};
pub use model::{SlowMoment, SlowOperations};
pub use model::{Target, TargetResult, Verdict};
pub use model::{ThreadStats, Throughput};
pub use model::{TraceContext, TraceContextError};
pub use model::{TreeField, TreeKind, TreeSpan, TreeValue};
pub use pipeline::{BuildError, CortexBuilder, CortexSpanExt, InitError, ProfilingLevel};
pub use pipeline::{CortexGuard, FinishError, FlushError, SinkFailure, SinkFailureKind, Summary};
pub use pipeline::{TextReport, init};
pub use resources::{Readings, ResourceSource};
#[cfg(feature = "otlp")]
pub use sink::otlp;
pub use sink::{JsonSink, KinetoSink, TextOptions, TextSink, report_json, report_text};
pub use sink::{Sink, SinkError, Wants};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
