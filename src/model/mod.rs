//! The values that the stages exchange. No I/O, no threads, no clock, no locks.
//!
//! | value | filled in by | read by |
//! |---|---|---|
//! | [`SpanRecord`], [`EventRecord`] | `capture`, through `pipeline` | sinks, while the program runs |
//! | [`Operation`] | `join` | sinks, while the program runs |
//! | `GpuCallEnd`, `GpuActivity` | `capture`, `gpu` | `join` |
//! | [`GpuWork`], [`GpuCall`] | `join` | `aggregate`, sinks, while the program runs |
//! | [`Sample`], [`Series`] | `resources` | sinks, `diagnose` |
//! | [`ThreadSnapshot`] | `capture` | `aggregate` |
//! | [`Profile`] | `aggregate` | `diagnose`, sinks |
//! | [`Diagnosis`], [`Finding`] | `diagnose` | sinks |

mod baggage;
mod distribution;
mod export;
mod field_words;
mod fields;
mod finding;
mod gpu;
mod losses;
mod marks;
mod operation;
mod profile;
mod record;
mod resource;
mod site;
mod snapshot;
mod time;
mod trace;
mod trace_context;
mod trace_state;

pub use distribution::{Bucket, Distribution, Quantiles};
pub use export::{Example, Export};
pub(crate) use field_words::FieldWords;
#[cfg(feature = "otlp")]
pub(crate) use fields::Entry;
pub use fields::{FOLLOWS_FROM, FieldIter, Fields, Link, Value};
pub(crate) use fields::{FOLLOWS_FROM_INDEX, FieldWriter};
pub use finding::{Confidence, Diagnosis, Finding, Gain, Severity};
pub(crate) use gpu::GpuReported;
#[cfg(any(feature = "cuda", test))]
pub(crate) use gpu::{GpuActivity, GpuCallEnd, GpuFunction, GpuOwner, RawCaller};
pub use gpu::{GpuApi, GpuCall, GpuCaller, GpuMemory};
pub use gpu::{GpuBatch, GpuCopy, GpuKernel, GpuKind, GpuMemoryKind, GpuQueue, GpuSource, GpuWork};
pub use gpu::{GpuDevice, GpuDeviceStats, GpuIdle, GpuKernelStats, GpuLostRanges};
pub use gpu::{GpuNotice, GpuProfile, GpuStats, GpuStreamStats, GpuTotals};
pub use losses::{Failure, Losses, Overhead};
pub(crate) use marks::SpanMarks;
pub use operation::{Operation, OperationEvent};
pub use profile::{
    OnCpu, PathStats, Process, Profile, SiteStats, Split, Stats, ThreadStats, Throughput,
};
pub use record::{EventRecord, Level, SpanKind, SpanRecord};
pub use resource::{Point, Sample, Series, Unit};
pub use site::{Site, SiteId, SpanSeq, Thread};
pub(crate) use snapshot::{
    CaptureSnapshot, FrameCount, FrameSnapshot, NodeSnapshot, OpenSnapshot, PathId, PathTable,
    RecorderSnapshot, ThreadSightings, ThreadSnapshot, ThreadTop, buckets,
};
pub(crate) use time::TickScale;
pub use time::{Nanos, WallAnchor};
pub(crate) use trace::{Ambient, IdKeys};
pub use trace::{Ids, SpanId, TraceId};
pub use trace_context::{TraceContext, TraceContextError};
