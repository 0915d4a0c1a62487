//! CTX504: the host waits for the device again and again, and the device then waits for the host.

use std::collections::BTreeMap;

use crate::diagnose::board::{Board, Claim, Found, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::diagnose::rules::gpu::device::{self, Device};
use crate::diagnose::rules::gpu::quiet;
use crate::diagnose::rules::{Rule, Standing};
use crate::diagnose::wording;
use crate::model::{Confidence, GpuPause, GpuStats, Nanos, SiteId, SiteStats};

pub(super) const RULE: Rule = Rule {
    id: "CTX504",
    name: "excessive-sync",
    healthy: "waiting for the device leaves it no pauses",
    standing: Standing::Cause,
    check,
};

const EXAMPLE: &str = "\
// before: after every launch
stream.synchronize()?;
// after: where the host needs a result
if step % 100 == 0 { stream.synchronize()?; log(loss.to_host()?); }
";

fn check(evidence: &Evidence<'_>, board: &Board) -> Outcome {
    let thresholds = &evidence.thresholds.gpu;
    let devices = Device::all(evidence);
    let mut outcome = Outcome {
        looked: !devices.is_empty(),
        ..Outcome::default()
    };
    let found_at = devices
        .iter()
        .flat_map(|device| {
            let stalls = Stalls::of(evidence, device);
            let sites = stalls.into_iter();
            sites.map(move |(site, stall)| (device, site, stall))
        })
        .filter(|(device, _, stall)| device.share(stall.time) >= thresholds.stall_share)
        .max_by_key(|(_, site, stall)| (stall.time, std::cmp::Reverse(*site)));
    let Some((device, site, stall)) = found_at else {
        return outcome;
    };
    if too_small(evidence, board, site) {
        return outcome;
    }
    outcome.claims.push(Claim {
        site,
        time: stall.time,
    });
    outcome.found.push(found(evidence, device, site, stall));
    outcome
}

/// Whether the waits at a site are part of trips that are too small as a whole.
fn too_small(evidence: &Evidence<'_>, board: &Board, site: SiteId) -> bool {
    let mut trips = evidence
        .sites()
        .filter(|row| board.has("CTX508", row.site.name));
    trips.any(|row| row.site.id == site || evidence.is_below(site, row.site.id))
}

/// Pauses after the waits of one site that need not be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stall {
    /// In all pauses.
    pub(super) time: Nanos,
    count: u64,
    /// Waits and launches in one call of the step around them.
    step: Step,
}

#[derive(Debug, Clone, Copy, Default)]
struct Step {
    calls: u64,
    syncs: u64,
    launches: u64,
    /// There are several waits in each step: all but the last are not for its result.
    is_within: bool,
}

#[derive(Debug)]
pub(super) struct Stalls;

impl Stalls {
    /// Returns the sites whose waits make a device pause, as far as they wait for nearly every launch.
    pub(super) fn of(evidence: &Evidence<'_>, device: &Device<'_>) -> BTreeMap<SiteId, Stall> {
        let thresholds = &evidence.thresholds.gpu;
        let mut of_sites: BTreeMap<SiteId, Vec<&GpuPause>> = BTreeMap::new();
        for pause in &device.row.pauses.pauses {
            if let Some(site) = pause.after_wait {
                of_sites.entry(site).or_default().push(pause);
            }
        }
        let roots = roots(evidence);
        let mut stalls = BTreeMap::new();
        for (site, pauses) in of_sites {
            let Some(step) = Step::around(evidence, site) else {
                continue;
            };
            let ratio = step.syncs as f64 / step.launches.max(1) as f64;
            let often = ratio >= thresholds.syncs_per_launch;
            if !often || step.launches < thresholds.sync_launches {
                continue;
            }
            let turnaround = Nanos::from(thresholds.turnaround);
            let elsewhere = share_within(&roots, &pauses).unwrap_or(step.but_the_last());
            let (mut time, mut count) = (0.0, 0);
            for pause in pauses {
                let counts = pause.length() <= turnaround || step.is_within;
                let part = match is_within(&roots, pause) {
                    _ if !counts => 0.0,
                    Some(is_within) => f64::from(u8::from(is_within)),
                    None => elsewhere,
                };
                time += pause.length().0 as f64 * part;
                count += u64::from(part > 0.0);
            }
            let time = device.scaled(Nanos(time as u64));
            stalls.insert(site, Stall { time, count, step });
        }
        stalls
    }
}

impl Step {
    /// Returns the innermost step around the waits of a site that launches too, and has several waits if there is one.
    fn around(evidence: &Evidence<'_>, site: SiteId) -> Option<Step> {
        if site == SiteId::OTHER {
            let outside = &evidence.profile.gpu.as_ref()?.outside;
            return Some(Step {
                calls: 1,
                syncs: outside.syncs,
                launches: outside.launches,
                is_within: false,
            });
        }
        let gpu_of = |index: usize| evidence.path(index).stats.gpu.as_deref();
        let own_syncs = |index: usize| gpu_of(index).map_or(0, |gpu: &GpuStats| gpu.own.syncs);
        let paths = 0..evidence.profile.paths.len();
        let path = paths
            .filter(|&index| evidence.path(index).site.id == site)
            .max_by_key(|&index| (own_syncs(index), std::cmp::Reverse(index)))?;
        let mut launching = None;
        for index in std::iter::successors(Some(path), |&at| evidence.parent(at)) {
            let Some(gpu) = gpu_of(index).filter(|gpu| gpu.total.launches > 0) else {
                continue;
            };
            let calls = evidence.path(index).stats.calls.max(1);
            // A root that is the whole program is no step, unless it waits itself.
            let repeats = calls >= 2 || index == path;
            let step = Step {
                calls,
                syncs: gpu.total.syncs,
                launches: gpu.total.launches,
                is_within: repeats && gpu.total.syncs >= calls.saturating_mul(2),
            };
            if step.is_within {
                return Some(step);
            }
            launching.get_or_insert(step);
        }
        launching
    }

    /// Returns the part of the waits that are not the last of their step.
    fn but_the_last(self) -> f64 {
        1.0 - self.calls as f64 / self.syncs.max(1) as f64
    }
}

/// Returns the times of the roots in the trees, by their start.
fn roots(evidence: &Evidence<'_>) -> Vec<(Nanos, Nanos)> {
    let roots = quiet::kept(evidence).filter_map(|tree| tree.spans.first());
    let mut roots: Vec<_> = roots.map(|root| (root.start, root.end)).collect();
    roots.sort_unstable();
    roots
}

/// Returns whether a pause that began in a root also ended in it: beyond its end nobody knows that there was anything to
/// do. `None` for one that began in no root whose tree is known.
fn is_within(roots: &[(Nanos, Nanos)], pause: &GpuPause) -> Option<bool> {
    let at = roots.partition_point(|root| root.0 <= pause.start);
    let &(_, end) = roots.get(at.checked_sub(1)?)?;
    (pause.start <= end).then_some(pause.end <= end)
}

/// Returns the part of the pauses that are within a root, of those of which it is known.
fn share_within(roots: &[(Nanos, Nanos)], pauses: &[&GpuPause]) -> Option<f64> {
    let (mut inside, mut all) = (0.0, 0.0);
    for pause in pauses {
        if let Some(is_within) = is_within(roots, pause) {
            let length = pause.length().0 as f64;
            all += length;
            inside += if is_within { length } else { 0.0 };
        }
    }
    (all > 0.0).then(|| inside / all)
}

fn found(evidence: &Evidence<'_>, device: &Device<'_>, site: SiteId, stall: Stall) -> Found {
    let row: Option<&SiteStats> = evidence.site(site);
    let mut finding = device::about(&RULE, row, device);
    let gpu = row.and_then(|row| row.stats.gpu.as_deref());
    let sync_time = match gpu {
        Some(gpu) => gpu.own.sync_time,
        None => device.totals().sync_time,
    };
    // Without the waits the host goes on while the device works, until one of them has nothing left.
    let saved = stall.time.min(sync_time);
    device::price(&mut finding, evidence, device.share(saved), device.idle());
    finding.confidence = Confidence::Medium;
    let share = device.share(stall.time);
    finding.share = Some(share);
    let step = stall.step;
    let per_step = step.syncs as f64 / step.calls.max(1) as f64;
    let mean = Nanos(stall.time.0 / stall.count.max(1));
    finding.evidence = BTreeMap::from([
        ("syncs", step.syncs as f64),
        ("launches", step.launches as f64),
        ("syncs_per_step", per_step),
        ("stall_ns", stall.time.0 as f64),
        ("stalls", stall.count as f64),
        ("sync_ns", sync_time.0 as f64),
    ]);
    let name = device.name();
    let place = row.map_or("code outside all spans", |row| row.site.name);
    let percent = wording::percent(share);
    finding.message = format!(
        "`{place}` waits for {name} {} for {}; each time the device has nothing to do until the next launch, {mean} on \
         average and {percent} of the run in all.",
        wording::count(step.syncs, "time"),
        device::several(step.launches, "launch", "launches"),
    );
    finding.recommendation = "Wait only where the host needs a result: work on one stream runs in order without it. Read \
        results back every so many steps, or one step late. Where each launch depends on a result on the host, leave it. \
        Afterwards the device's pauses after waits are gone."
        .to_owned();
    finding.example = EXAMPLE.to_owned();
    let lead = format!(
        "`{place}` waits for {name} after nearly every launch, which leaves it without work in {percent} of the run."
    );
    Found { finding, lead }
}
