//! Busy time over several devices.

use std::collections::{BTreeMap, BTreeSet};

use super::union::Union;
use crate::model::{GpuKind, GpuWork, Nanos};

/// The unions of work and of ranges, by device.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(BTreeMap<u32, OnDevice>);

#[derive(Debug, Clone, Default)]
struct OnDevice {
    work: Union,
    /// Windows with pauses in them: they count only where nothing better is known.
    ranges: Union,
}

impl Busy {
    pub(super) fn add(&mut self, work: &GpuWork, most: usize) {
        let device = self.0.entry(work.queue.device).or_default();
        match work.kind {
            GpuKind::Range { .. } => device.ranges.add_work(work, most),
            _ => device.work.add_work(work, most),
        }
    }

    /// Returns the time over all devices; `measured` are those of which more is known than ranges.
    pub(super) fn length(&self, measured: &BTreeSet<u32>) -> Nanos {
        let lengths = self.0.iter().map(|(device, on_device)| {
            if measured.contains(device) {
                on_device.work.length()
            } else {
                on_device.ranges.length()
            }
        });
        lengths.sum()
    }

    /// Returns how many unions there are, for sharing the memory among them.
    pub(super) fn unions(&self) -> usize {
        self.0.len()
    }
}
