//! The values that the stages exchange. No I/O, no threads, no clock, no locks.
//!
//! | value | filled in by | read by |
//! |---|---|---|
//! | [`SpanRecord`], [`EventRecord`] | `capture`, through `pipeline` | sinks, while the program runs |
//! | [`Operation`] | `join` | sinks, while the program runs |
//! | `GpuCallEnd`, `GpuActivity` | `capture`, `gpu` | `join` |
//! | [`GpuWork`], [`GpuCall`] | `join` | `aggregate`, sinks, while the program runs |
//! | [`OperationTree`] | `join` | `diagnose` |
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
mod operation_tables;
mod profile;
mod query_text;
mod record;
mod resource;
mod site;
mod snapshot;
mod target;
mod time;
mod trace;
mod trace_context;
mod trace_state;
mod tree;

pub use distribution::{Bucket, Distribution, Quantiles};
pub use export::{Example, Export};
pub(crate) use field_words::FieldWords;
#[cfg(feature = "otlp")]
pub(crate) use fields::Entry;
pub use fields::{FOLLOWS_FROM, FieldIter, Fields, Link, Value};
pub(crate) use fields::{FOLLOWS_FROM_INDEX, FieldWriter};
pub use finding::{
    Checked, Confidence, CriticalPath, Diagnosis, Finding, Gain, PathSite, Severity,
};
pub(crate) use gpu::GpuReported;
#[cfg(any(feature = "cuda", test))]
pub(crate) use gpu::{GpuActivity, GpuCallEnd, GpuFunction, GpuOwner, RawCaller};
pub use gpu::{GpuApi, GpuCall, GpuCaller, GpuMemory};
pub use gpu::{GpuBatch, GpuCopy, GpuKernel, GpuKind, GpuMemoryKind, GpuQueue, GpuSource, GpuWork};
pub use gpu::{
    GpuDevice, GpuDeviceStats, GpuIdle, GpuKernelStats, GpuLostRanges, GpuPause, GpuPauses,
};
pub use gpu::{GpuNotice, GpuProfile, GpuStats, GpuStreamStats, GpuTotals};
pub use losses::{Failure, Losses, Overhead};
pub(crate) use marks::SpanMarks;
pub use operation::{Operation, OperationEvent};
pub use operation_tables::{OperationRow, OperationTables};
pub use profile::{
    CpuTime, OnCpu, PathStats, Process, Profile, SiteStats, SlowMoment, SlowOperations, Split,
    Stats, ThreadStats, Throughput,
};
pub(crate) use query_text::{QUERY_EVENTS, query_shape, shortened};
pub use record::{EventRecord, Level, SpanKind, SpanRecord};
pub use resource::{Point, Sample, Series, Unit};
pub use site::{Site, SiteId, SpanSeq, Thread};
pub(crate) use snapshot::{
    CaptureSnapshot, CpuSnapshot, Ended, FrameCount, FrameSnapshot, NodeSnapshot, OpenSnapshot,
    PathId, PathProgress, PathSpread, PathTable, RecorderSnapshot, ThreadSightings, ThreadSnapshot,
    ThreadTop, buckets,
};
pub use target::{Target, TargetResult, Verdict};
pub(crate) use time::TickScale;
pub use time::{Nanos, WallAnchor};
pub(crate) use trace::{Ambient, IdKeys};
pub use trace::{Ids, SpanId, TraceId};
pub use trace_context::{TraceContext, TraceContextError};
pub(crate) use tree::is_semantic;
pub use tree::{Activation, KeptTree, OperationTree, RootTrees};
pub use tree::{TreeField, TreeKind, TreeSpan, TreeValue};
