//! The two halves of what is known of a device's work before they are joined: what threads noted as they called the
//! driver, and what the driver recorded of the device.

use super::super::{Ids, Nanos, PathId, SpanSeq, Thread};
use super::{GpuFunction, GpuKind, GpuMemory, GpuQueue, GpuSource};

/// What a thread noted at one end of a call into the driver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GpuCallEnd<'a> {
    /// The call begins.
    Begin {
        correlation: u32,
        function: GpuFunction,
        context: u32,
        thread: &'a Thread,
        at: Nanos,
        caller: Option<RawCaller>,
    },
    /// The call has returned.
    Return {
        correlation: u32,
        at: Nanos,
        /// The driver's error code; 0 for success.
        error: u32,
        memory: Option<GpuMemory>,
    },
}

/// The span around a call, by number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RawCaller {
    pub(crate) span: SpanSeq,
    pub(crate) path: PathId,
    pub(crate) ids: Option<Ids>,
}

/// What was recorded of a device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GpuActivity {
    pub(crate) kind: GpuKind,
    pub(crate) queue: GpuQueue,
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
    pub(crate) graph: Option<u32>,
    pub(crate) owner: GpuOwner,
    pub(crate) source: GpuSource,
}

/// How the span is found that an activity belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum GpuOwner {
    /// By the call that has this number.
    Call(u32),
    /// It is known, or known not to be.
    Known(Option<RawCaller>),
}
