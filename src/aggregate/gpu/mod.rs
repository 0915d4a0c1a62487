//! What devices did, added up by span, device and stream.
//!
//! | file | holds |
//! |---|---|
//! | `union` | time in which at least one piece of work ran |
//! | `busy` | that over several devices |
//! | `sums` | everything that simply adds up |
//! | `spans` | by call path and by site |
//! | `stream` | pauses and their causes, launches that wait |
//! | `pauses` | when a device did nothing at all, and after whose wait |
//! | `memory` | device memory that was held at a time |
//! | `kernels` | by name |
//! | `reported` | what the program says itself |

mod busy;
mod kernels;
mod memory;
mod pauses;
pub(super) mod reported;
mod spans;
mod stream;
mod sums;
#[cfg(test)]
mod tests;
mod union;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use busy::Busy;
use kernels::Kernels;
use memory::Memory;
use pauses::{Pauses, Waits};
use spans::Spans;
pub(super) use spans::StepsOf;
use stream::Stream;
use sums::Sums;
use union::Union;

use super::tree::Built;
use crate::model::GpuNotice;
use crate::model::{GpuApi, GpuCall, GpuDevice, GpuDeviceStats, GpuIdle, GpuKind, GpuLostRanges};
use crate::model::{GpuProfile, GpuQueue, GpuSource, GpuStreamStats, GpuWork, Nanos};

/// Intervals that a device keeps apart, 400 KiB: what it does in a flush of the driver, if streams come one by one.
const DEVICE_INTERVALS: usize = 16_384;

/// Streams with a row; work of others counts for its device only. Some programs make a stream for each request.
const MAX_STREAMS: usize = 256;

/// Pieces of work that all streams together keep in order, about 16 MiB, and what one of them keeps at least and at most.
const PIECES: usize = 131_072;
const LEAST_PIECES: usize = 512;
const MOST_PIECES: usize = 8_192;

/// Graph launches of which it is known that some of their work has come.
const MAX_GRAPHS: usize = 4_096;

/// What is known of the GPUs beyond their work.
#[derive(Debug, Default)]
pub(crate) struct GpuContext {
    pub(crate) notices: Vec<GpuNotice>,
    pub(crate) devices: Vec<GpuDevice>,
    pub(crate) dropped_records: u64,
    pub(crate) dropped_calls: u64,
    pub(crate) unattributed: u64,
    pub(crate) lost_ranges: GpuLostRanges,
    pub(crate) unfinished: u64,
    pub(crate) unknown_calls: u64,
}

/// Everything that was seen of the devices.
#[derive(Debug, Default)]
pub(super) struct Gpu {
    spans: Spans,
    outside: Outside,
    devices: BTreeMap<u32, Device>,
    streams: BTreeMap<GpuQueue, Stream>,
    /// Calls by context, which say nothing of the device.
    contexts: BTreeMap<u32, Sums>,
    /// The device of each context, learned from its work.
    device_of: BTreeMap<u32, u32>,
    memory: Memory,
    kernels: Kernels,
    firsts: Firsts,
    waits: Waits,
    /// The last reset. What ended before it may come after it.
    since: Nanos,
}

/// What no span had started.
#[derive(Debug, Default)]
struct Outside {
    sums: Sums,
    busy: Busy,
}

#[derive(Debug)]
struct Device {
    sums: Sums,
    busy: Busy,
    kernels: Union,
    pauses: Pauses,
    first: Nanos,
    last: Nanos,
    /// Whether more than ranges is known.
    measured: bool,
}

/// Tells the first work of a call from what else it started, which did not wait for the launch alone.
#[derive(Debug, Default)]
struct Firsts {
    last: Option<(u32, Nanos)>,
    /// Graph launches, the newest: their work comes over a long time.
    graphs: HashSet<(u32, Nanos)>,
    order: VecDeque<(u32, Nanos)>,
}

impl Firsts {
    fn is_first(&mut self, call: &GpuCall) -> bool {
        let key = (call.correlation, call.start);
        if call.api != GpuApi::GraphLaunch {
            return self.last.replace(key) != Some(key);
        }
        let first = self.graphs.insert(key);
        if first {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_GRAPHS
            && let Some(oldest) = self.order.pop_front()
        {
            self.graphs.remove(&oldest);
        }
        first
    }
}

impl Gpu {
    pub(super) fn take(
        &mut self,
        work: &[GpuWork],
        calls: &[Arc<GpuCall>],
        steps_of: &StepsOf<'_>,
    ) {
        let mut calls: Vec<&GpuCall> = calls.iter().map(Arc::as_ref).collect();
        calls.sort_by_key(|call| call.start);
        for call in calls {
            self.memory.take(call);
            if call.end.is_some_and(|end| end < self.since) {
                continue;
            }
            self.contexts
                .entry(call.context)
                .or_default()
                .add_call(call);
            self.waits.add(call);
            match &call.caller {
                Some(caller) => self.spans.add_call(caller.path, call, steps_of),
                None => self.outside.sums.add_call(call),
            }
        }
        // In order, most of it is cheap to put in its place.
        let mut work: Vec<&GpuWork> = work.iter().collect();
        work.sort_by_key(|work| work.start);
        let most = self.spans.intervals();
        for work in work {
            self.device_of.insert(work.queue.context, work.queue.device);
            if work.end < self.since {
                continue;
            }
            let first = work.call.as_ref().filter(|call| self.firsts.is_first(call));
            let delay = first.and_then(|_| work.launch_delay());
            self.take_on_device(work, delay, first.map(Arc::as_ref));
            match &work.caller {
                Some(caller) => self
                    .spans
                    .add_work(caller.path, work, delay, most, steps_of),
                // Work without its call may be anybody's.
                None if work.call.is_none() && work.source == GpuSource::Cupti => {}
                None => {
                    self.outside.sums.add_work(work, delay);
                    self.outside.busy.add(work, DEVICE_INTERVALS);
                }
            }
        }
    }

    /// `launched` is the call, if this is the first work that it started.
    fn take_on_device(&mut self, work: &GpuWork, delay: Option<Nanos>, launched: Option<&GpuCall>) {
        let queue = work.queue;
        self.kernels.add(work);
        let device = self.devices.entry(queue.device).or_insert_with(|| Device {
            sums: Sums::default(),
            busy: Busy::default(),
            kernels: Union::default(),
            pauses: Pauses::default(),
            first: work.start,
            last: work.end,
            measured: false,
        });
        device.first = device.first.min(work.start);
        device.last = device.last.max(work.end);
        device.measured |= !matches!(work.kind, GpuKind::Range { .. });
        device.sums.add_work(work, delay);
        device.busy.add(work, DEVICE_INTERVALS);
        if matches!(work.kind, GpuKind::Kernel(_) | GpuKind::Graph) {
            device.kernels.add_work(work, DEVICE_INTERVALS);
        }
        device.pauses.add(work, &self.waits);
        let pieces = (PIECES / self.streams.len().max(1)).clamp(LEAST_PIECES, MOST_PIECES);
        if self.streams.len() < MAX_STREAMS || self.streams.contains_key(&queue) {
            let stream = self.streams.entry(queue).or_default();
            stream.sums.add_work(work, delay);
            if let Some(call) = launched {
                stream.sums.add_call(call);
            }
            stream.busy.add(work, pieces);
            stream.add(work, pieces);
        }
    }

    /// Begins anew at this time. What the process holds stays held, and contexts stay where they are.
    pub(super) fn reset(&mut self, at: Nanos) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.restart();
        *self = Gpu {
            memory,
            device_of: std::mem::take(&mut self.device_of),
            since: at,
            ..Gpu::default()
        };
    }

    /// Tells each path and site what its spans had devices do.
    pub(super) fn fill_in(&self, built: &mut Built) {
        let (mut paths, mut sites) = self.spans.stats(&self.measured());
        for (path, id) in built.paths.iter_mut().zip(&built.path_ids) {
            path.stats.gpu = paths.remove(id).map(Box::new);
        }
        for row in &mut built.sites {
            row.stats.gpu = sites.remove(&row.site.id).map(Box::new);
        }
    }

    pub(super) fn profile(&self, context: GpuContext) -> GpuProfile {
        let measured = self.measured();
        let mut devices: BTreeMap<u32, GpuDevice> = context
            .devices
            .into_iter()
            .map(|device| (device.ordinal, device))
            .collect();
        for &ordinal in self.devices.keys() {
            devices.entry(ordinal).or_insert_with(|| GpuDevice {
                ordinal,
                ..GpuDevice::default()
            });
        }
        let rows = devices.into_values();
        GpuProfile {
            notices: context.notices,
            devices: rows.map(|device| self.row(device, &measured)).collect(),
            kernels: self.kernels.top(),
            outside: {
                let busy = self.outside.busy.length(&measured);
                self.outside.sums.totals(busy)
            },
            unattributed: context.unattributed,
            dropped_records: context.dropped_records,
            dropped_calls: context.dropped_calls,
            lost_ranges: context.lost_ranges,
            unfinished: context.unfinished,
            unknown_calls: context.unknown_calls,
        }
    }

    fn row(&self, device: GpuDevice, measured: &BTreeSet<u32>) -> GpuDeviceStats {
        let ordinal = device.ordinal;
        let contexts = || {
            let all = self.device_of.iter();
            all.filter_map(move |(&context, &on)| (on == ordinal).then_some(context))
        };
        let mut row = GpuDeviceStats {
            peak_bytes: self.memory.peak(contexts()),
            device,
            ..GpuDeviceStats::default()
        };
        let mut sums = Sums::default();
        for context in contexts() {
            if let Some(calls) = self.contexts.get(&context) {
                sums.absorb(calls);
            }
        }
        let mut busy = Nanos::ZERO;
        if let Some(seen) = self.devices.get(&ordinal) {
            sums.absorb(&seen.sums);
            busy = seen.busy.length(measured);
            row.window = seen.last.saturating_sub(seen.first);
            row.kernel_busy = seen.kernels.length();
            row.pauses = seen.pauses.summed_up();
        }
        row.totals = sums.totals(busy);
        let streams = self.streams.iter();
        for (&queue, stream) in streams.filter(|(queue, _)| queue.device == ordinal) {
            let between = stream.between();
            let mut of_stream = GpuStreamStats::new(queue);
            of_stream.totals = stream.sums.totals(stream.busy.length(measured));
            of_stream.idle = between.idle;
            of_stream.max_queue_depth = between.max_depth;
            row.idle = sum(row.idle, between.idle);
            row.streams.push(of_stream);
        }
        row
    }

    /// Returns the devices of which more is known than ranges.
    fn measured(&self) -> BTreeSet<u32> {
        let devices = self.devices.iter();
        devices
            .filter_map(|(&ordinal, device)| device.measured.then_some(ordinal))
            .collect()
    }
}

fn sum(a: GpuIdle, b: GpuIdle) -> GpuIdle {
    GpuIdle {
        host: a.host.saturating_add(b.host),
        kernel: a.kernel.saturating_add(b.kernel),
        other: a.other.saturating_add(b.other),
    }
}
