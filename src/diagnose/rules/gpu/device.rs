//! The devices of which enough is known to judge them, and the places in the program that use them.

use crate::diagnose::board::{Board, ladder};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::Rule;
use crate::model::{
    Confidence, Finding, GpuDeviceStats, GpuProfile, GpuSource, GpuStats, GpuTotals, Nanos,
    SiteStats,
};

/// With more than this share of the records lost, a device looks idle that is not.
const MOST_LOST: f64 = 0.05;

/// A device that was recorded piece by piece for long enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device<'a> {
    pub(super) row: &'a GpuDeviceStats,
    wall: Nanos,
}

impl<'a> Device<'a> {
    /// Returns the devices that can be judged, by their ordinal.
    pub(super) fn all(evidence: &Evidence<'a>) -> Vec<Device<'a>> {
        let Some(gpu) = recorded(evidence) else {
            return Vec::new();
        };
        let thresholds = &evidence.thresholds.gpu;
        let rows = gpu.devices.iter().filter(|row| {
            pieces(&row.totals) >= thresholds.min_work
                && row.window >= Nanos::from(thresholds.min_window)
        });
        let wall = evidence.profile.wall;
        rows.map(|row| Device { row, wall }).collect()
    }

    /// Returns the one that works most: where others could be used instead, that is another finding.
    pub(super) fn busiest(evidence: &Evidence<'a>) -> Option<Device<'a>> {
        let devices = Device::all(evidence).into_iter();
        devices.max_by_key(|device| (device.busy(), std::cmp::Reverse(device.ordinal())))
    }

    pub(super) fn totals(&self) -> &'a GpuTotals {
        &self.row.totals
    }

    pub(super) fn ordinal(&self) -> u32 {
        self.row.device.ordinal
    }

    pub(super) fn name(&self) -> String {
        format!("GPU {}", self.ordinal())
    }

    pub(super) fn busy(&self) -> Nanos {
        self.totals().busy.min(self.row.window)
    }

    /// Returns how long it did nothing between its first and its last work.
    pub(super) fn idle(&self) -> Nanos {
        self.row.window.saturating_sub(self.busy())
    }

    /// Returns a time as a share of the run.
    pub(super) fn share(&self, time: Nanos) -> f64 {
        time.share_of(self.wall).min(1.0)
    }

    /// Returns a time as a share of the device's window.
    pub(super) fn of_window(&self, time: Nanos) -> f64 {
        time.share_of(self.row.window).min(1.0)
    }

    /// Returns the whole that goes with what was summed over the pauses that are kept, which are the newest.
    pub(super) fn scaled(&self, of_kept: Nanos) -> Nanos {
        let window = self.row.window.0;
        let end = self.row.pauses.began.0.saturating_add(window);
        let kept = end.saturating_sub(self.row.pauses.since.0).min(window);
        if kept == 0 {
            return Nanos::ZERO;
        }
        let whole = of_kept.0 as f64 * (window as f64 / kept as f64);
        Nanos(whole as u64).min(self.idle())
    }

    /// Returns the time of copies between it and the host.
    pub(super) fn host_copies(&self) -> Nanos {
        let totals = self.totals();
        totals.blocking_time.saturating_add(totals.free_time)
    }
}

/// Returns what was recorded piece by piece; `None` where only windows or sums are known, or where much is lost.
fn recorded<'a>(evidence: &Evidence<'a>) -> Option<&'a GpuProfile> {
    let gpu = evidence.profile.gpu.as_ref()?;
    let mut rows = gpu.devices.iter();
    let is_recorded =
        rows.any(|row| row.totals.sources.contains(&GpuSource::Cupti) && row.window > Nanos::ZERO);
    let seen: u64 = gpu.devices.iter().map(|row| pieces(&row.totals)).sum();
    let lost =
        gpu.dropped_records as f64 / (seen.saturating_add(gpu.dropped_records)).max(1) as f64;
    (is_recorded && lost <= MOST_LOST).then_some(gpu)
}

pub(super) fn pieces(totals: &GpuTotals) -> u64 {
    let copies = totals.copies.saturating_add(totals.sets);
    totals.kernels.saturating_add(copies)
}

/// Returns the callsites that used devices.
pub(super) fn sites<'a>(
    evidence: &Evidence<'a>,
) -> impl Iterator<Item = (&'a SiteStats, &'a GpuStats)> {
    let sites = evidence.sites();
    sites.filter_map(|row| Some((row, row.stats.gpu.as_deref()?)))
}

/// Returns the callsite whose own spans have the most of something.
pub(super) fn most<'a>(
    evidence: &Evidence<'a>,
    of: impl Fn(&GpuTotals) -> u64,
) -> Option<(&'a SiteStats, &'a GpuStats)> {
    let sites = sites(evidence).filter(|(_, gpu)| of(&gpu.own) > 0);
    sites.max_by_key(|(row, gpu)| (of(&gpu.own), std::cmp::Reverse(row.site.id)))
}

/// Begins a finding about a site, or about the device where no span is known.
pub(super) fn about(rule: &Rule, row: Option<&SiteStats>, device: &Device<'_>) -> Finding {
    match row {
        Some(row) => rule.about(&row.site),
        None => Finding::new(rule.id, rule.name, device.name()),
    }
}

/// Fills in what would vanish by the rule's model, and what can vanish at most.
pub(super) fn price(finding: &mut Finding, evidence: &Evidence<'_>, saved: f64, active: Nanos) {
    let saved = if saved.is_finite() {
        saved.clamp(0.0, 0.99)
    } else {
        0.0
    };
    finding.severity = ladder(saved, evidence.thresholds);
    finding.confidence = Confidence::Medium;
    finding.saving = Some(saved);
    // Under a per cent nobody can tell it from none.
    finding.gain.likely = (saved >= 0.01).then(|| 1.0 / (1.0 - saved));
    finding.gain.bound = evidence.ceiling(active);
}

/// Whether a rule found anything anywhere.
pub(super) fn found(board: &Board, evidence: &Evidence<'_>, rule: &str) -> bool {
    let mut sites = evidence.sites();
    sites.any(|row| board.has(rule, row.site.name))
        || Device::all(evidence)
            .iter()
            .any(|device| board.has(rule, &device.name()))
}

/// Prints bytes.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [(&str, f64); 3] = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let unit = UNITS.into_iter().find(|(_, size)| bytes >= *size);
    match unit {
        Some((unit, size)) => format!("{:.1} {unit}", bytes / size),
        None => format!("{bytes:.0} B"),
    }
}

/// Prints `1 copy`, `2 copies`.
pub(super) fn several(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
