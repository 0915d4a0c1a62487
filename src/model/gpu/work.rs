//! Work of devices.

use std::sync::Arc;

use serde::Serialize;

use super::super::Nanos;
use super::{GpuCall, GpuCaller};

/// What arrived from the devices since the last batch.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct GpuBatch<'a> {
    /// Work that has ended; in the order of each stream up to a flush of the driver, in no order across streams.
    pub work: &'a [GpuWork],
    /// Calls that have returned. Those that started work come no later than it.
    pub calls: &'a [Arc<GpuCall>],
}

impl<'a> GpuBatch<'a> {
    /// Builds a batch.
    pub fn new(work: &'a [GpuWork], calls: &'a [Arc<GpuCall>]) -> GpuBatch<'a> {
        GpuBatch { work, calls }
    }
}

/// One piece of work that a device did. Its times are device time, put on the capture's clock.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GpuWork {
    /// What was done.
    pub kind: GpuKind,
    /// Where.
    pub queue: GpuQueue,
    /// When the device began.
    pub start: Nanos,
    /// When the device was done; never before `start`.
    pub end: Nanos,
    /// The graph that it is a node of.
    pub graph: Option<u32>,
    /// The call that started it; `None` if that was not seen, which is counted as a loss.
    pub call: Option<Arc<GpuCall>>,
    /// The span that it belongs to: that of the call, or the one in which a range was taken.
    pub caller: Option<GpuCaller>,
    /// Who measured it.
    pub source: GpuSource,
}

impl GpuWork {
    /// Describes work that nobody is known to have started.
    pub fn new(
        kind: GpuKind,
        queue: GpuQueue,
        start: Nanos,
        end: Nanos,
        source: GpuSource,
    ) -> GpuWork {
        GpuWork {
            kind,
            queue,
            start,
            end: end.max(start),
            graph: None,
            call: None,
            caller: None,
            source,
        }
    }

    /// Returns how long the device took.
    pub fn length(&self) -> Nanos {
        self.end.saturating_sub(self.start)
    }

    /// Returns the time from the end of the call that started the work to its begin: the time it waited on the device.
    ///
    /// `None` where the call is unknown; zero where the work began while the call had not returned.
    pub fn launch_delay(&self) -> Option<Nanos> {
        let called = self.call.as_ref()?.end?;
        Some(self.start.saturating_sub(called))
    }
}

/// A stream of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct GpuQueue {
    /// The device's ordinal, as CUDA counts those that the process may see.
    pub device: u32,
    /// The driver's number of the context.
    pub context: u32,
    /// The driver's number of the stream.
    pub stream: u32,
}

impl GpuQueue {
    /// Describes a stream.
    pub fn new(device: u32, context: u32, stream: u32) -> GpuQueue {
        GpuQueue {
            device,
            context,
            stream,
        }
    }
}

/// What a device did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GpuKind {
    /// Ran a kernel.
    Kernel(GpuKernel),
    /// Copied memory.
    Copy(GpuCopy),
    /// Filled memory.
    Set {
        /// How much.
        bytes: u64,
    },
    /// Ran a graph of which the single nodes were not recorded.
    Graph,
    /// Whatever lay between two marks on a stream, pauses included: a window, not busy time.
    Range {
        /// The name that the program gave it.
        name: Arc<str>,
    },
}

/// One run of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuKernel {
    /// Its name as in the source, with C++ names demangled.
    pub name: Arc<str>,
    /// Blocks of the grid in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Registers of a thread.
    pub registers: u16,
    /// Shared memory of a block, static and dynamic, in bytes.
    pub shared_bytes: u32,
}

impl GpuKernel {
    /// Describes a run of one block with one thread; the fields say the rest.
    pub fn new(name: impl Into<Arc<str>>) -> GpuKernel {
        GpuKernel {
            name: name.into(),
            grid: [1; 3],
            block: [1; 3],
            registers: 0,
            shared_bytes: 0,
        }
    }
}

/// One copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuCopy {
    /// Where from.
    pub from: GpuMemoryKind,
    /// Where to.
    pub to: GpuMemoryKind,
    /// How much.
    pub bytes: u64,
    /// Started by a call that does not wait.
    pub is_async: bool,
    /// The other device, for a copy between two.
    pub peer: Option<u32>,
}

impl GpuCopy {
    /// Describes a copy within one device, or between it and the host.
    pub fn new(from: GpuMemoryKind, to: GpuMemoryKind, bytes: u64) -> GpuCopy {
        GpuCopy {
            from,
            to,
            bytes,
            is_async: false,
            peer: None,
        }
    }

    /// Returns where from and where to in the driver's letters, such as `HtoD`; `PtoP` between two devices.
    pub fn direction(&self) -> &'static str {
        use GpuMemoryKind::{Array, Device};
        match (self.from, self.to) {
            _ if self.peer.is_some() => "PtoP",
            (from, Device) if from.is_host() => "HtoD",
            (Device, to) if to.is_host() => "DtoH",
            (Device, Device) => "DtoD",
            (from, Array) if from.is_host() => "HtoA",
            (Array, to) if to.is_host() => "AtoH",
            (from, to) if from.is_host() && to.is_host() => "HtoH",
            _ => "managed",
        }
    }

    /// Whether the driver had to move it through a buffer of its own, because the program's memory may be paged out.
    pub fn is_pageable(&self) -> bool {
        self.from == GpuMemoryKind::Pageable || self.to == GpuMemoryKind::Pageable
    }
}

/// Where memory is, and how a device gets at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GpuMemoryKind {
    /// The host's, as every allocation is.
    Pageable,
    /// The host's, page-locked for the device.
    Pinned,
    /// The device's.
    Device,
    /// A texture array on the device.
    Array,
    /// Moves to where it is used.
    Managed,
    /// The driver did not say.
    Unknown,
}

impl GpuMemoryKind {
    /// Whether it is memory of the host.
    pub fn is_host(self) -> bool {
        matches!(self, GpuMemoryKind::Pageable | GpuMemoryKind::Pinned)
    }
}

/// Who measured device time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GpuSource {
    /// CUPTI's activity records.
    Cupti,
    /// Pairs of events on a stream.
    Events,
    /// The program itself, in fields of its spans: for work on devices of other vendors, and for timestamp queries of
    /// `wgpu`. Needs neither the feature `cuda` nor a driver.
    ///
    /// Each time that a span's field `gpu.time_ns` is given a value, that is one range of so many nanoseconds, for the
    /// span; `gpu.device`, if it was given before or with it, is the device's ordinal. Both are whole numbers. Nobody
    /// knows when the device worked, so reported ranges are in the sums and on no timeline, and count as no busy time.
    ///
    /// ```
    /// use tracing::field::Empty;
    /// use tracing_cortex::{CortexLayer, GpuSource};
    /// use tracing_subscriber::prelude::*;
    ///
    /// let (cortex, guard) = CortexLayer::builder().build()?;
    /// let subscriber = tracing_subscriber::registry().with(cortex);
    /// tracing::subscriber::with_default(subscriber, || {
    ///     let pass = tracing::info_span!("shadows", gpu.device = 0, gpu.time_ns = Empty);
    ///     // As soon as the query has been resolved; the span may have been left by then, but not closed.
    ///     pass.record("gpu.time_ns", 1_500_000);
    /// });
    /// let profile = guard.profile();
    /// let shadows = profile.sites[0].stats.gpu.as_ref().unwrap();
    /// assert_eq!(shadows.own.range_time.0, 1_500_000);
    /// assert_eq!(shadows.own.sources, [GpuSource::Reported]);
    /// # Ok::<(), tracing_cortex::BuildError>(())
    /// ```
    Reported,
}
