//! Whether a thread computed in slow polls, waited, or did not get a core.

use crate::diagnose::evidence::{Evidence, Sampled, add_samples};
use crate::model::{CpuTime, Nanos, OnCpu, Stats};

use super::poll_time::PollTime;

/// Whether a thread ran, from all that tells of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RanEvidence {
    sampled: Option<OnCpu>,
    measured: Option<CpuTime>,
}

impl RanEvidence {
    pub(super) fn of(stats: &Stats) -> RanEvidence {
        RanEvidence {
            sampled: stats.on_cpu,
            measured: stats.cpu,
        }
    }

    pub(super) fn or(self, other: RanEvidence) -> RanEvidence {
        RanEvidence {
            sampled: self.sampled.or(other.sampled),
            measured: self.measured.or(other.measured),
        }
    }

    pub(super) fn add(&mut self, other: RanEvidence) {
        self.sampled = add_samples(self.sampled, other.sampled);
        self.measured = match (self.measured, other.measured) {
            (Some(one), Some(other)) => Some(CpuTime::new(
                one.activations.saturating_add(other.activations),
                one.self_time.saturating_add(other.self_time),
                one.self_cpu.saturating_add(other.self_cpu),
            )),
            (one, other) => one.or(other),
        };
    }
}

/// What the thread did in slow polls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ran {
    /// It slept. `samples` counts activations where their CPU time was measured.
    Waited { share: f64, samples: u64 },
    /// It computed; without `exact` it may have been ready for a core only.
    Computed {
        share: f64,
        samples: u64,
        exact: bool,
    },
    /// It was ready to run, and mostly did not get a core.
    WithoutCore,
    /// There are only so many samples.
    Unknown(u64),
}

/// Tells waiting from computing. A thread that others kept off its core did neither: its CPU time alone looks like
/// waiting, and only samples or the time in run queues say that it was ready.
pub(super) fn ran(evidence: &Evidence<'_>, polls: &PollTime<'_>) -> Ran {
    let stats = Stats {
        cpu: polls.ran.measured,
        on_cpu: polls.ran.sampled,
        ..Stats::default()
    };
    let least = evidence.thresholds.on_cpu_share;
    let exact = evidence.measured(&stats).is_some();
    let (share, samples) = match evidence.running(&stats) {
        Sampled::TooFew(samples) => return Ran::Unknown(samples),
        Sampled::Enough(share, samples) => (share, samples),
    };
    let computed = Ran::Computed {
        share,
        samples,
        exact,
    };
    let queued = evidence.queued_workers();
    let explains = |queued: Nanos| queued.share_of(polls.slow) >= ENOUGH_QUEUED;
    if are_rare(polls) && queued.is_some_and(|(queued, _)| explains(queued)) {
        return Ran::WithoutCore;
    }
    if share >= least {
        return computed;
    }
    if !exact {
        return Ran::Waited { share, samples };
    }
    // Whoever wants a core waits for it as often as all others on these threads.
    let ready = queued.map(|_| share * evidence.worker_slowdown());
    match (evidence.sampled(polls.ran.sampled), ready) {
        (Sampled::Enough(ready, _), _) | (Sampled::TooFew(_), Some(ready)) if ready >= least => {
            match computes_long(evidence, stats.cpu) {
                true => computed,
                false => Ran::WithoutCore,
            }
        }
        (Sampled::TooFew(samples), None) if evidence.starved().is_some() => Ran::Unknown(samples),
        _ => Ran::Waited { share, samples },
    }
}

/// Fewer slow polls than this part of all are what a busy machine does to short ones.
const RARE: f64 = 0.05;

/// From this part of the time in slow polls on, waiting for a core may be what made them slow.
const ENOUGH_QUEUED: f64 = 0.5;

pub(super) fn are_rare(polls: &PollTime<'_>) -> bool {
    (polls.slow_polls as f64) < RARE * polls.polls as f64
}

/// Whether polls use so much CPU time on average that they would be slow on a core of their own.
fn computes_long(evidence: &Evidence<'_>, cpu: Option<CpuTime>) -> bool {
    let slow = Nanos::from(evidence.thresholds.slow_poll);
    cpu.is_some_and(|cpu| cpu.self_cpu.0 / cpu.activations.max(1) >= slow.0)
}
