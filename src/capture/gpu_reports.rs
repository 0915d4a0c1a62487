//! Device times that the program has measured itself and says in fields of its spans.
//!
//! They are added up where they are said, so that they cost nothing where nobody says any, and so that none can get lost
//! on the way to the collector.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use super::lock;
use crate::model::{GpuReported, Nanos, PathId};

/// The field with the time. One that has it may have the others as well.
pub(super) const TIME: &str = "gpu.time_ns";
/// The ordinal of the device.
pub(super) const DEVICE: &str = "gpu.device";

/// Sums that are kept apart. Devices have small numbers, so that nobody comes here who says a device.
const MOST_SUMS: usize = 65_536;
/// Open spans whose device is remembered.
const MOST_DEVICES: usize = 65_536;

/// What was said of a device in one go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) time: Option<Nanos>,
    pub(super) device: Option<u32>,
}

impl Said {
    pub(super) fn is_something(self) -> bool {
        self.time.is_some() || self.device.is_some()
    }
}

/// How often, and how long in all; by call path and device.
type Sums = HashMap<(PathId, Option<u32>), (u64, Nanos)>;

/// All that was said since the start or the last reset.
#[derive(Debug, Default)]
pub(super) struct Reports {
    sums: Mutex<Sums>,
    /// By the sequence number of spans that are open.
    devices: Mutex<HashMap<u64, u32>>,
}

impl Reports {
    /// Takes what was said of a span's work.
    pub(super) fn take(&self, span: u64, path: PathId, said: Said) {
        let device = {
            let mut devices = lock(&self.devices);
            if let Some(device) = said.device
                && devices.len() < MOST_DEVICES
            {
                devices.insert(span, device);
            }
            said.device.or_else(|| devices.get(&span).copied())
        };
        let Some(time) = said.time else { return };
        let mut sums = lock(&self.sums);
        let is_full = sums.len() >= MOST_SUMS;
        let (count, sum) = match sums.entry((path, device)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) if !is_full => new.insert_entry((0, Nanos::ZERO)).into_mut(),
            // There are no more paths than this, so that a sum without the device finds its place.
            Entry::Vacant(_) => sums.entry((path, None)).or_default(),
        };
        *count += 1;
        *sum = sum.saturating_add(time);
    }

    /// Forgets a span that is closed.
    pub(super) fn forget(&self, span: u64) {
        lock(&self.devices).remove(&span);
    }

    pub(super) fn reset(&self) {
        lock(&self.sums).clear();
    }

    pub(super) fn sums(&self) -> Vec<GpuReported> {
        let sums = lock(&self.sums);
        let reported = |(&(path, device), &(reports, time))| GpuReported {
            path,
            device,
            reports,
            time,
        };
        sums.iter().map(reported).collect()
    }
}
