//! Sums over pieces of work and calls, whatever they belong to.

use super::super::merge::Recorded;
use crate::model::{GpuApi, GpuCall, GpuCopy, GpuKind, GpuTotals, GpuWork, Nanos, TickScale};

/// Everything of [`GpuTotals`] that simply adds up: all but the union of times.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// Without `busy` and the distributions.
    totals: GpuTotals,
    delay: Recorded,
    kernels: Recorded,
}

impl Sums {
    /// Adds work; `delay` is what it waited on the device, if it is the first that its call started.
    pub(super) fn add_work(&mut self, work: &GpuWork, delay: Option<Nanos>) {
        let totals = &mut self.totals;
        match &work.kind {
            GpuKind::Kernel(_) => {
                totals.kernels += 1;
                add(&mut totals.kernel_time, work.length());
                self.kernels.record(work.length().0);
            }
            GpuKind::Copy(copy) => {
                totals.copies += 1;
                add(&mut totals.copy_time, work.length());
                add_copy(totals, copy);
                add_host_copy(totals, copy, work.length());
            }
            GpuKind::Set { .. } => totals.sets += 1,
            GpuKind::Graph => {}
            GpuKind::Range { .. } => {
                totals.ranges += 1;
                add(&mut totals.range_time, work.length());
            }
        }
        if let Err(at) = totals.sources.binary_search(&work.source) {
            totals.sources.insert(at, work.source);
        }
        if let Some(delay) = delay {
            self.delay.record(delay.0);
        }
    }

    pub(super) fn add_call(&mut self, call: &GpuCall) {
        let totals = &mut self.totals;
        let length = call.end.map_or(Nanos::ZERO, |end| {
            // A clock that stepped back gives zero.
            end.saturating_sub(call.start)
        });
        match call.api {
            GpuApi::Synchronize => {
                totals.syncs += 1;
                add(&mut totals.sync_time, length);
            }
            GpuApi::Allocate => {
                add(&mut totals.memory_time, length);
                if let Some(memory) = call.memory {
                    totals.allocations += 1;
                    count(&mut totals.allocated_bytes, memory.bytes.unwrap_or(0));
                }
            }
            GpuApi::Free => add(&mut totals.memory_time, length),
            GpuApi::Launch
            | GpuApi::GraphLaunch
            | GpuApi::Copy
            | GpuApi::CopyAsync
            | GpuApi::Set
            | GpuApi::SetAsync => {
                totals.launches += 1;
                add(&mut totals.launch_time, length);
            }
        }
    }

    /// Adds what belongs to something else.
    pub(super) fn absorb(&mut self, other: &Sums) {
        let (to, from) = (&mut self.totals, &other.totals);
        for (to, from) in [
            (&mut to.kernel_time, from.kernel_time),
            (&mut to.copy_time, from.copy_time),
            (&mut to.range_time, from.range_time),
            (&mut to.launch_time, from.launch_time),
            (&mut to.sync_time, from.sync_time),
            (&mut to.memory_time, from.memory_time),
            (&mut to.blocking_time, from.blocking_time),
            (&mut to.free_time, from.free_time),
        ] {
            add(to, from);
        }
        for (to, from) in [
            (&mut to.kernels, from.kernels),
            (&mut to.copies, from.copies),
            (&mut to.to_device_bytes, from.to_device_bytes),
            (&mut to.to_host_bytes, from.to_host_bytes),
            (&mut to.on_device_bytes, from.on_device_bytes),
            (&mut to.peer_bytes, from.peer_bytes),
            (&mut to.pageable_copies, from.pageable_copies),
            (&mut to.pageable_bytes, from.pageable_bytes),
            (&mut to.blocking_copies, from.blocking_copies),
            (&mut to.blocking_bytes, from.blocking_bytes),
            (&mut to.free_bytes, from.free_bytes),
            (&mut to.sets, from.sets),
            (&mut to.ranges, from.ranges),
            (&mut to.launches, from.launches),
            (&mut to.syncs, from.syncs),
            (&mut to.allocations, from.allocations),
            (&mut to.allocated_bytes, from.allocated_bytes),
        ] {
            count(to, from);
        }
        to.sources.extend(&from.sources);
        to.sources.sort_unstable();
        to.sources.dedup();
        self.delay.absorb(&other.delay);
        self.kernels.absorb(&other.kernels);
    }

    /// Returns the totals with the time in which anything ran.
    pub(super) fn totals(&self, busy: Nanos) -> GpuTotals {
        let known = |recorded: &Recorded| {
            let distribution = recorded.distribution(TickScale::nanoseconds());
            (distribution.count > 0).then_some(distribution)
        };
        GpuTotals {
            busy,
            launch_delay: known(&self.delay),
            kernel_lengths: known(&self.kernels),
            ..self.totals.clone()
        }
    }
}

fn add(to: &mut Nanos, length: Nanos) {
    *to = to.saturating_add(length);
}

/// Sizes may come from the program, which may say anything.
fn count(to: &mut u64, more: u64) {
    *to = to.saturating_add(more);
}

fn add_copy(totals: &mut GpuTotals, copy: &GpuCopy) {
    let bytes = match (copy.from.is_host(), copy.to.is_host()) {
        _ if copy.peer.is_some() => &mut totals.peer_bytes,
        (true, false) => &mut totals.to_device_bytes,
        (false, true) => &mut totals.to_host_bytes,
        (false, false) => &mut totals.on_device_bytes,
        // From host to host: no device memory is read or written.
        (true, true) => &mut 0,
    };
    count(bytes, copy.bytes);
    if copy.is_pageable() {
        totals.pageable_copies += 1;
        count(&mut totals.pageable_bytes, copy.bytes);
    }
}

/// Copies to the device up to this size go along with the command, whatever memory they are from.
const SENT_ALONG: u64 = 64 << 10;

fn add_host_copy(totals: &mut GpuTotals, copy: &GpuCopy, length: Nanos) {
    if copy.peer.is_some() || copy.from.is_host() == copy.to.is_host() {
        return;
    }
    let sent_along = copy.from.is_host() && copy.bytes <= SENT_ALONG;
    if (copy.is_pageable() || !copy.is_async) && !sent_along {
        totals.blocking_copies += 1;
        count(&mut totals.blocking_bytes, copy.bytes);
        add(&mut totals.blocking_time, length);
    } else {
        count(&mut totals.free_bytes, copy.bytes);
        add(&mut totals.free_time, length);
    }
}
