//! What the work of devices adds up to.

use std::sync::Arc;

use serde::Serialize;

use super::super::{Distribution, Nanos, SiteId};
use super::{GpuQueue, GpuSource};

/// Everything that is known of the GPUs; in [`Profile::gpu`](crate::Profile::gpu) where the capture was told to look.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GpuProfile {
    /// What is not measured, and why; empty if everything is.
    pub notices: Vec<GpuNotice>,
    /// One row per device that the process may see.
    pub devices: Vec<GpuDeviceStats>,
    /// The kernels that took the most device time, the most first; at most 100.
    pub kernels: Vec<GpuKernelStats>,
    /// Work that no span had started: launched outside of all spans.
    pub outside: GpuTotals,
    /// Work whose call was not seen, so that nobody knows whose it is.
    pub unattributed: u64,
    /// Records that the driver dropped because it had no buffer.
    pub dropped_records: u64,
    /// Calls into the driver that were not recorded, for lack of room.
    pub dropped_calls: u64,
    /// Explicit ranges that were not measured.
    pub lost_ranges: GpuLostRanges,
    /// Work that had not ended when the capture did.
    pub unfinished: u64,
    /// Calls of functions that this crate does not know; they are counted and not classified.
    pub unknown_calls: u64,
}

/// Explicit ranges that were not measured, by the cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GpuLostRanges {
    /// Their stream was being captured into a graph at one of their ends.
    pub captured: u64,
    /// Too many others were under way.
    pub exhausted: u64,
    /// The driver refused; one of [`GpuProfile::notices`] says how it did first.
    pub failed: u64,
}

impl GpuLostRanges {
    /// Returns what was counted since `before`.
    #[cfg(feature = "cuda")]
    pub(crate) fn since(self, before: GpuLostRanges) -> GpuLostRanges {
        GpuLostRanges {
            captured: self.captured.saturating_sub(before.captured),
            exhausted: self.exhausted.saturating_sub(before.exhausted),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

/// One thing that is not measured, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GpuNotice {
    /// What is missing, such as `kernels and copies`.
    pub what: &'static str,
    /// Why, and what to do about it.
    pub why: String,
}

impl GpuNotice {
    /// Builds a notice.
    pub fn new(what: &'static str, why: impl Into<String>) -> GpuNotice {
        GpuNotice {
            what,
            why: why.into(),
        }
    }
}

/// What is known of a device itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GpuDevice {
    /// CUDA's ordinal.
    pub ordinal: u32,
    /// The product's name.
    pub name: Option<String>,
    /// The identity that CUDA and NVML share, as `GPU-xxxxxxxx-...`.
    pub uuid: Option<String>,
    /// All of its memory.
    pub memory_bytes: Option<u64>,
    /// Streaming multiprocessors.
    pub multiprocessors: Option<u32>,
}

/// What one device did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GpuDeviceStats {
    /// The device.
    #[serde(flatten)]
    pub device: GpuDevice,
    /// What it did in all.
    #[serde(flatten)]
    pub totals: GpuTotals,
    /// From the first work to the end of the last.
    #[serde(rename = "window_ns")]
    pub window: Nanos,
    /// Why it did nothing in between, over its streams.
    pub idle: GpuIdle,
    /// Time in which at least one kernel ran: what is left of `busy` are copies and fills beside which nothing ran.
    #[serde(rename = "kernel_busy_ns")]
    pub kernel_busy: Nanos,
    /// When it did nothing at all, on any stream.
    #[serde(skip)]
    pub pauses: GpuPauses,
    /// The most memory that the process held there at one time; `None` where allocations are not seen.
    pub peak_bytes: Option<u64>,
    /// One row per stream.
    pub streams: Vec<GpuStreamStats>,
}

/// When a device did nothing, and how busy it was over time.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GpuPauses {
    /// When the first work began.
    pub began: Nanos,
    /// The length of one of the windows of `busy`; doubles when a long run would need too many.
    pub window: Nanos,
    /// Time in each window in which anything ran, from `began` on; at most 256.
    pub busy: Vec<Nanos>,
    /// Pauses that are no device's usual one between two kernels, the newest, by their start; at most 32,768.
    pub pauses: Vec<GpuPause>,
    /// From when on `pauses` lacks none.
    pub since: Nanos,
}

/// One time in which a device did nothing, between two pieces of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuPause {
    /// When the work before ended.
    pub start: Nanos,
    /// When the next began.
    pub end: Nanos,
    /// The next had not been launched when the work before ended: the host was too slow.
    pub host: bool,
    /// The site of the span that waited for the work before, if the thread that launched the next did nothing else with
    /// the device in between. [`SiteId::OTHER`] where it was in no span.
    pub after_wait: Option<SiteId>,
}

impl GpuPause {
    /// Describes a pause that the host made and that follows no wait.
    pub fn new(start: Nanos, end: Nanos) -> GpuPause {
        GpuPause {
            start,
            end,
            host: true,
            after_wait: None,
        }
    }

    /// Returns its length.
    pub fn length(&self) -> Nanos {
        self.end.saturating_sub(self.start)
    }
}

/// What one stream did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GpuStreamStats {
    /// The stream.
    #[serde(flatten)]
    pub queue: GpuQueue,
    /// What it did in all. Of the calls only those that started its work: no other call is known to be for a stream.
    #[serde(flatten)]
    pub totals: GpuTotals,
    /// Why it did nothing in between.
    pub idle: GpuIdle,
    /// The most work that was started and not done at one time; `None` where calls are not seen.
    pub max_queue_depth: Option<u32>,
}

impl GpuStreamStats {
    /// Builds a row; the rest starts at zero.
    pub fn new(queue: GpuQueue) -> GpuStreamStats {
        GpuStreamStats {
            queue,
            totals: GpuTotals::default(),
            idle: GpuIdle::default(),
            max_queue_depth: None,
        }
    }
}

/// The time between two pieces of work, by its cause, as Holistic Trace Analysis tells them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GpuIdle {
    /// The next work had not been launched when the last ended: the host was too slow.
    #[serde(rename = "host_ns")]
    pub host: Nanos,
    /// It had been launched, and the pause is what a device takes between two kernels: under 30 us.
    #[serde(rename = "kernel_ns")]
    pub kernel: Nanos,
    /// It had been launched and waited for something else: another stream, an event, a copy.
    #[serde(rename = "other_ns")]
    pub other: Nanos,
}

impl GpuIdle {
    /// Returns the sum.
    pub fn total(self) -> Nanos {
        self.host
            .saturating_add(self.kernel)
            .saturating_add(self.other)
    }
}

/// What the spans of a site, or of a call path, had devices do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GpuStats {
    /// Started in these spans and in all that were entered inside them.
    pub total: GpuTotals,
    /// Started in these spans themselves.
    pub own: GpuTotals,
}

/// Sums over pieces of work and over the calls that belong to them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GpuTotals {
    /// Device time in which at least one piece of work ran, summed over devices: the union of intervals, so that work on
    /// two streams at the same time counts once.
    #[serde(rename = "busy_ns")]
    pub busy: Nanos,
    /// Runs of kernels.
    pub kernels: u64,
    /// The sum of their lengths.
    #[serde(rename = "kernel_ns")]
    pub kernel_time: Nanos,
    /// Their lengths; `None` without kernels.
    #[serde(rename = "kernel_length")]
    pub kernel_lengths: Option<Distribution>,
    /// Copies.
    pub copies: u64,
    /// The sum of their lengths.
    #[serde(rename = "copy_ns")]
    pub copy_time: Nanos,
    /// Bytes copied from the host to a device.
    pub to_device_bytes: u64,
    /// Bytes copied from a device to the host.
    pub to_host_bytes: u64,
    /// Bytes copied within a device.
    pub on_device_bytes: u64,
    /// Bytes copied between devices.
    pub peer_bytes: u64,
    /// Copies to or from the host's ordinary memory, which the driver must stage.
    pub pageable_copies: u64,
    /// Their bytes.
    pub pageable_bytes: u64,
    /// Copies between host and device that hold up who starts them: through pageable memory, or by a call that waits.
    /// Without those of at most 64 KiB to the device, which the driver sends along with the command.
    pub blocking_copies: u64,
    /// Their bytes.
    pub blocking_bytes: u64,
    /// The sum of their lengths, device time.
    #[serde(rename = "blocking_copy_ns")]
    pub blocking_time: Nanos,
    /// Bytes of all other copies between host and device.
    pub free_bytes: u64,
    /// The sum of their lengths, device time.
    #[serde(rename = "free_copy_ns")]
    pub free_time: Nanos,
    /// Fills.
    pub sets: u64,
    /// Explicit ranges, whose time counts for `busy` only where nothing else was measured on the device; and what the
    /// program [reported](GpuSource::Reported) itself, which never does.
    pub ranges: u64,
    /// The sum of their lengths: windows, not busy time.
    #[serde(rename = "range_ns")]
    pub range_time: Nanos,
    /// Calls that started work.
    pub launches: u64,
    /// Host time in them.
    #[serde(rename = "launch_ns")]
    pub launch_time: Nanos,
    /// Calls that waited for a device.
    pub syncs: u64,
    /// Host time in them.
    #[serde(rename = "sync_ns")]
    pub sync_time: Nanos,
    /// Allocations of device memory.
    pub allocations: u64,
    /// Their bytes.
    pub allocated_bytes: u64,
    /// Host time in allocations and releases.
    #[serde(rename = "memory_ns")]
    pub memory_time: Nanos,
    /// From the end of the launching call to the begin of the work; `None` where calls are not seen.
    pub launch_delay: Option<Distribution>,
    /// Who measured this.
    pub sources: Vec<GpuSource>,
}

/// All runs of one kernel.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GpuKernelStats {
    /// Its name, demangled.
    pub name: Arc<str>,
    /// How often it ran.
    pub runs: u64,
    /// How long it ran in all.
    #[serde(rename = "time_ns")]
    pub time: Nanos,
    /// The shortest run.
    #[serde(rename = "min_ns")]
    pub min: Nanos,
    /// The longest.
    #[serde(rename = "max_ns")]
    pub max: Nanos,
}

impl GpuKernelStats {
    /// Builds a row without runs.
    pub fn new(name: Arc<str>) -> GpuKernelStats {
        GpuKernelStats {
            name,
            runs: 0,
            time: Nanos::ZERO,
            min: Nanos(u64::MAX),
            max: Nanos::ZERO,
        }
    }
}
