//! Calls of the program into a GPU's driver.

use std::sync::Arc;

use super::super::{Ids, Nanos, PathId, Site, SpanSeq, Thread};

/// One call into the driver that starts work on a device, waits for it, or changes its memory. Host time, never device
/// time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GpuCall {
    /// What the call is for.
    pub api: GpuApi,
    /// The driver's name of the function, such as `cuLaunchKernel`.
    pub function: &'static str,
    /// The number that the work which this call starts carries as well; unique in the process while both are on their
    /// way.
    pub correlation: u32,
    /// The driver's number of the context, by which device and call are brought together.
    pub context: u32,
    /// The thread that called.
    pub thread: Thread,
    /// When the call began.
    pub start: Nanos,
    /// When it returned; `None` if it had not when the capture ended.
    pub end: Option<Nanos>,
    /// The span that the thread was in.
    pub caller: Option<GpuCaller>,
    /// For allocations that succeeded, and for releases.
    pub memory: Option<GpuMemory>,
    /// The driver's error code, if the call failed.
    pub error: Option<u32>,
}

impl GpuCall {
    /// Describes a call that has not returned, in no span and of context 0.
    pub fn new(
        api: GpuApi,
        function: &'static str,
        correlation: u32,
        thread: Thread,
        start: Nanos,
    ) -> GpuCall {
        GpuCall {
            api,
            function,
            correlation,
            context: 0,
            thread,
            start,
            end: None,
            caller: None,
            memory: None,
            error: None,
        }
    }
}

/// What a call into the driver is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GpuApi {
    /// Starts a kernel.
    Launch,
    /// Starts a graph: many kernels and copies at once.
    GraphLaunch,
    /// Copies, and returns when that is done (or, for small copies, staged).
    Copy,
    /// Starts a copy.
    CopyAsync,
    /// Fills memory.
    Set,
    /// Starts to fill memory.
    SetAsync,
    /// Waits for work that was started before.
    Synchronize,
    /// Takes device memory.
    Allocate,
    /// Gives device memory back.
    Free,
}

impl GpuApi {
    /// Whether the call starts work on a device.
    pub fn starts_work(self) -> bool {
        !matches!(self, GpuApi::Synchronize | GpuApi::Allocate | GpuApi::Free)
    }
}

/// The span that a call into the driver was made in: the innermost that its thread had entered.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GpuCaller {
    /// The span.
    pub span: SpanSeq,
    /// The span's callsite.
    pub site: Arc<Site>,
    /// The ids of the operation, without its parent; `None` unless a sink [wants](crate::Wants::ids) them.
    pub ids: Option<Ids>,
    /// Its call path, for the statistics.
    pub(crate) path: PathId,
}

#[cfg(any(feature = "cuda", test))]
impl GpuCaller {
    pub(crate) fn new(span: SpanSeq, site: Arc<Site>, path: PathId, ids: Option<Ids>) -> GpuCaller {
        GpuCaller {
            span,
            site,
            ids,
            path,
        }
    }
}

/// A block of device memory that a call took or gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuMemory {
    /// The device's address, by which a release finds its allocation.
    pub address: u64,
    /// The size; `None` for a release, whose call does not say it.
    pub bytes: Option<u64>,
}

impl GpuMemory {
    /// Describes a block.
    pub fn new(address: u64, bytes: Option<u64>) -> GpuMemory {
        GpuMemory { address, bytes }
    }
}
