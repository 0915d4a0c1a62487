//! The process's use of the cores over time, out of the resource readings.

use crate::diagnose::board::Claim;
use crate::diagnose::evidence::{Evidence, Sampled};
use crate::model::{Nanos, Point, Series, SiteStats};

/// What was read at about the same time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// Readings that this stands for.
    pub(super) samples: u64,
    /// Cores that the process kept busy.
    pub(super) busy: f64,
    /// Threads that were ready without a core.
    pub(super) waiting: f64,
    /// Periods per second in which a limit took the cores away; absent without a limit.
    pub(super) throttled: Option<f64>,
    /// Switches per second away from threads that were still ready.
    pub(super) involuntary: Option<f64>,
    pub(super) threads: Option<f64>,
}

impl Window {
    pub(super) fn ready(&self) -> f64 {
        self.busy + self.waiting
    }

    /// Returns the share of their ready time that threads waited.
    pub(super) fn waiting_share(&self) -> f64 {
        match self.ready() {
            ready if ready > 0.0 => self.waiting / ready,
            _ => 0.0,
        }
    }
}

/// The cores that the process may use, and its use of them.
#[derive(Debug)]
pub(super) struct Cores {
    pub(super) cores: f64,
    windows: Vec<Window>,
}

/// The stretches of readings in which something held, together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretches {
    /// Readings in them, and in all.
    pub(super) samples: u64,
    pub(super) of: u64,
    /// Means over the stretches.
    pub(super) busy: f64,
    pub(super) waiting: f64,
    /// The most per second.
    pub(super) throttled: Option<f64>,
    /// What threads waited in the stretches, as a share of all ready time of the run.
    pub(super) share: f64,
}

impl Cores {
    /// Returns it; `None` where run queues or the number of cores cannot be read.
    pub(super) fn of(evidence: &Evidence<'_>) -> Option<Cores> {
        let cores = evidence
            .profile
            .process
            .cores
            .filter(|&cores| cores > 0)
            .map(f64::from)?;
        let waiting = series(evidence, "process.run_queue_wait")?;
        let busy = series(evidence, "process.cpu_one_core")?;
        let throttled = series(evidence, "process.throttled_periods");
        let involuntary = series(evidence, "process.involuntary_switches");
        let threads = series(evidence, "process.threads");
        let windows = waiting.points.iter().filter_map(|point| {
            let reading = |series: Option<&Series>| near(series?, point.at);
            Some(Window {
                samples: point.samples,
                busy: near(busy, point.at)? / 100.0,
                waiting: amount(point)?,
                throttled: reading(throttled),
                involuntary: reading(involuntary),
                threads: reading(threads),
            })
        });
        Some(Cores {
            cores,
            windows: windows.collect(),
        })
    }

    /// Returns how many readings there are.
    pub(super) fn samples(&self) -> u64 {
        self.windows
            .iter()
            .fold(0, |sum, window| sum.saturating_add(window.samples))
    }

    /// Returns the stretches of at least `least` readings in a row in which `holds`.
    pub(super) fn stretches(
        &self,
        least: u64,
        holds: impl Fn(&Window) -> bool,
    ) -> Option<Stretches> {
        let long = self
            .windows
            .chunk_by(|one, next| holds(one) == holds(next))
            .filter(|stretch| {
                let samples = stretch.iter().map(|window| window.samples);
                holds(&stretch[0]) && samples.fold(0, u64::saturating_add) >= least.max(1)
            });
        let inside: Vec<&Window> = long.flatten().collect();
        let weighted = |windows: &mut dyn Iterator<Item = &Window>, of: fn(&Window) -> f64| {
            windows
                .map(|window| window.samples as f64 * of(window))
                .sum::<f64>()
        };
        let samples = weighted(&mut inside.iter().copied(), |_| 1.0);
        let waited = weighted(&mut inside.iter().copied(), |window| window.waiting);
        let ready = weighted(&mut self.windows.iter(), Window::ready);
        (samples > 0.0 && ready > 0.0).then(|| Stretches {
            samples: samples as u64,
            of: self.samples(),
            busy: weighted(&mut inside.iter().copied(), |window| window.busy) / samples,
            waiting: waited / samples,
            throttled: inside
                .iter()
                .filter_map(|window| window.throttled)
                .reduce(f64::max),
            share: (waited / ready).min(1.0),
        })
    }
}

pub(super) fn series<'a>(evidence: &Evidence<'a>, name: &str) -> Option<&'a Series> {
    let mut series = evidence.profile.resources.iter();
    series.find(|series| series.name == name && !series.points.is_empty())
}

/// Returns the reading nearest to a time. The sources are asked one after the other, so times differ a little; a reading
/// that is further away than readings are from one another is of another time.
pub(super) fn near(series: &Series, at: Nanos) -> Option<f64> {
    let points = &series.points;
    let next = points.partition_point(|point| point.at < at);
    let around = points[next.saturating_sub(1)..].iter().take(2);
    let nearest = around.min_by_key(|point| point.at.0.abs_diff(at.0))?;
    let (first, last) = (points.first()?, points.last()?);
    let gaps = points.len().saturating_sub(1).max(1) as u64;
    let gap = last.at.saturating_sub(first.at).0 / gaps;
    (points.len() == 1 || nearest.at.0.abs_diff(at.0) <= gap)
        .then(|| amount(nearest))
        .flatten()
}

/// Beyond this a reading is none: no machine has as many cores, threads or switches.
const MOST: f64 = 1e12;

fn amount(point: &Point) -> Option<f64> {
    (0.0..=MOST).contains(&point.mean).then_some(point.mean)
}

/// Claims for a rule that explains why threads waited for cores: of the time in which a site was ready, `share`.
pub(super) fn claims(evidence: &Evidence<'_>, share: f64) -> Vec<Claim> {
    let sites = evidence.sites();
    sites
        .filter_map(|row| {
            let waited = match ready_of(evidence, row)? {
                Ready::Sampled(ready) => ready * share,
                // Of time on a core what was waited comes on top, at most all that the site has left.
                Ready::Measured(got) if share < 1.0 => {
                    let left = (row.stats.self_time.0 as f64 - got).max(0.0);
                    (got * share / (1.0 - share)).min(left)
                }
                Ready::Measured(_) => return None,
            };
            Some(Claim {
                site: row.site.id,
                time: Nanos(waited as u64),
            })
        })
        .collect()
}

/// Returns the site that was ready for most of the time, and its part of that of all sites.
pub(super) fn busiest<'a>(evidence: &Evidence<'a>) -> Option<(&'a SiteStats, f64)> {
    let times: Vec<(&SiteStats, f64)> = evidence
        .sites()
        .filter_map(|row| match ready_of(evidence, row)? {
            Ready::Sampled(time) | Ready::Measured(time) => Some((row, time)),
        })
        .collect();
    let all: f64 = times.iter().map(|(_, time)| time).sum();
    let (row, time) = times
        .into_iter()
        .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (time > 0.0).then(|| (row, time / all))
}

/// A site's self time, in nanoseconds.
enum Ready {
    /// On a core or ready for one.
    Sampled(f64),
    /// On a core.
    Measured(f64),
}

/// Samples say more here: they count who is ready for a core.
fn ready_of(evidence: &Evidence<'_>, row: &SiteStats) -> Option<Ready> {
    match evidence.sampled(row.stats.on_cpu) {
        Sampled::Enough(share, _) => Some(Ready::Sampled(row.stats.self_time.0 as f64 * share)),
        Sampled::TooFew(_) => evidence
            .measured_cpu(&row.stats)
            .map(|got| Ready::Measured(got.0 as f64)),
    }
}
