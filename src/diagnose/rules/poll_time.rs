//! Where polls of async spans spend long stretches of time, for the two rules about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnose::evidence::{Evidence, add_samples};
use crate::model::{Distribution, Nanos, OnCpu, Site, SiteId, SiteStats, Stats};

/// Time in slow polls on a runtime's workers, and the site whose own code spends it.
#[derive(Debug)]
pub(super) struct PollTime<'a> {
    pub(super) site: &'a Arc<Site>,
    /// The async site whose poll it is, where `site` is a plain span inside.
    pub(super) inside: Option<&'a Arc<Site>>,
    /// Activations of `site`, and those of them that are slow.
    pub(super) polls: u64,
    pub(super) slow_polls: u64,
    /// The least time in slow polls that must be the site's own.
    pub(super) slow: Nanos,
    /// What can vanish if the site's own time does.
    pub(super) removable: Nanos,
    /// What of `slow` is self time of `site`, for the rules that come later.
    pub(super) claim: Nanos,
    /// How long a slow poll is: the 99th percentile, or the mean of the slow ones where slow polls are rarer than that.
    pub(super) typical: Nanos,
    pub(super) max: Nanos,
    pub(super) on_cpu: Option<OnCpu>,
    /// `slow` as a share of the workers' time.
    pub(super) worker_share: f64,
}

/// What a site did as a plain span inside the polls of one async site.
#[derive(Debug)]
struct Inner<'a> {
    site: &'a Arc<Site>,
    parts: Vec<&'a Stats>,
}

pub(super) fn has_workers(evidence: &Evidence<'_>) -> bool {
    polled(evidence).next().is_some()
}

/// Finds sites that spend at least the smaller of both rules' shares of the workers' time in slow polls.
pub(super) fn long_polls<'a>(evidence: &Evidence<'a>) -> Vec<PollTime<'a>> {
    let mut found = Vec::new();
    for row in polled(evidence) {
        of_site(evidence, row, &mut found);
    }
    found
}

fn polled<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = &'a SiteStats> {
    evidence
        .sites()
        .filter(|row| row.stats.is_async() && row.workers > 0)
}

/// Splits the slow polls of one async site between itself and the plain spans inside.
///
/// A plain span that takes a noticeable part is named itself. Many short ones are not: then the poll as a whole is too
/// long, and the async span is named for all of them. Async spans inside have polls of their own.
fn of_site<'a>(evidence: &Evidence<'a>, row: &'a SiteStats, found: &mut Vec<PollTime<'a>>) {
    let below = Below::of(evidence, row.site.id);
    let worker_time = evidence.worker_time();
    let least = least_share(evidence);
    let (slow_polls, slow) = slow_part(evidence, &row.stats.activation);
    let mut rest = slow.saturating_sub(below.nested);
    let mut removable = row.stats.self_time;
    let mut on_cpu = below.own_samples.or(row.stats.on_cpu);
    let mut named_inside = false;
    for inner in below.plain.values() {
        let part = of_inner(evidence, inner, &row.site);
        if part.slow.share_of(worker_time) >= least {
            rest = rest.saturating_sub(part.slow);
            named_inside = true;
            found.push(PollTime {
                worker_share: part.slow.share_of(worker_time).min(1.0),
                ..part
            });
        } else {
            removable = removable.saturating_add(part.removable);
            on_cpu = add_samples(on_cpu, part.on_cpu);
        }
    }
    if rest.share_of(worker_time) < least || slow_polls == 0 {
        return;
    }
    let typical = if named_inside {
        Nanos(rest.0 / slow_polls)
    } else {
        typical(evidence, &row.stats.activation, slow_polls, slow)
    };
    let children = row.stats.busy.saturating_sub(row.stats.self_time);
    found.push(PollTime {
        site: &row.site,
        inside: None,
        polls: row.stats.activation.count,
        slow_polls,
        slow: rest,
        removable: removable.max(rest),
        claim: slow.saturating_sub(children).min(row.stats.self_time),
        typical,
        max: row.stats.activation.max,
        on_cpu,
        worker_share: rest.share_of(worker_time).min(1.0),
    });
}

fn of_inner<'a>(evidence: &Evidence<'a>, inner: &Inner<'a>, owner: &'a Arc<Site>) -> PollTime<'a> {
    let sum = |of: fn(&Stats) -> Nanos| inner.parts.iter().map(|stats| of(stats)).sum::<Nanos>();
    let self_time = sum(|stats| stats.self_time);
    let children = sum(|stats| stats.busy).saturating_sub(self_time);
    let activation = merged(inner.parts.iter().map(|stats| &stats.activation));
    let (slow_polls, slow) = slow_part(evidence, &activation);
    // Even if all of the children's time fell into slow calls, this much is the site's own.
    let own = slow.saturating_sub(children).min(self_time);
    let sampled = inner
        .parts
        .iter()
        .fold(None, |sum, stats| add_samples(sum, stats.on_cpu));
    let on_site = || {
        evidence
            .site(inner.site.id)
            .and_then(|row| row.stats.on_cpu)
    };
    PollTime {
        site: inner.site,
        inside: Some(owner),
        polls: activation.count,
        slow_polls,
        slow: own,
        removable: self_time,
        claim: own,
        typical: typical(evidence, &activation, slow_polls, slow),
        max: activation.max,
        on_cpu: sampled.or_else(on_site),
        worker_share: 0.0,
    }
}

/// What stands below an async site in the call tree, down to the next async site.
#[derive(Debug, Default)]
struct Below<'a> {
    plain: BTreeMap<SiteId, Inner<'a>>,
    /// Time in polls of async spans inside.
    nested: Nanos,
    own_samples: Option<OnCpu>,
}

impl<'a> Below<'a> {
    fn of(evidence: &Evidence<'a>, owner: SiteId) -> Below<'a> {
        let mut below = Below::default();
        let mut pending = Vec::new();
        for index in 0..evidence.profile.paths.len() {
            let path = evidence.path(index);
            if path.site.id == owner {
                below.own_samples = add_samples(below.own_samples, path.stats.on_cpu);
                pending.extend_from_slice(evidence.children(index));
            }
        }
        while let Some(index) = pending.pop() {
            let path = evidence.path(index);
            if evidence.is_async(path.site.id) {
                below.nested = below.nested.saturating_add(path.stats.busy);
                continue;
            }
            let inner = below.plain.entry(path.site.id).or_insert(Inner {
                site: &path.site,
                parts: Vec::new(),
            });
            inner.parts.push(&path.stats);
            pending.extend_from_slice(evidence.children(index));
        }
        below
    }
}

fn least_share(evidence: &Evidence<'_>) -> f64 {
    let thresholds = evidence.thresholds;
    thresholds.blocking_share.min(thresholds.cpu_poll_share)
}

/// Returns how many activations were slow and how long those took together.
fn slow_part(evidence: &Evidence<'_>, polls: &Distribution) -> (u64, Nanos) {
    let slow = Nanos::from(evidence.thresholds.slow_poll);
    let buckets = polls.buckets.iter().filter(|bucket| bucket.value >= slow);
    let (count, time) = buckets.fold((0_u64, 0_u64), |(count, time), bucket| {
        (
            count.saturating_add(bucket.count),
            time.saturating_add(bucket.value.0.saturating_mul(bucket.count)),
        )
    });
    // A bucket's middle may be a little above the values in it.
    (count, Nanos(time).min(polls.sum))
}

fn typical(evidence: &Evidence<'_>, polls: &Distribution, slow_polls: u64, slow: Nanos) -> Nanos {
    if polls.quantiles.p99 >= Nanos::from(evidence.thresholds.slow_poll) {
        polls.quantiles.p99
    } else {
        Nanos(slow.0.checked_div(slow_polls).unwrap_or(0))
    }
}

fn merged<'d>(parts: impl Iterator<Item = &'d Distribution>) -> Distribution {
    let mut counts: BTreeMap<Nanos, u64> = BTreeMap::new();
    let (mut sum, mut outliers) = (Nanos::ZERO, 0_u64);
    let (mut min, mut max) = (None::<Nanos>, Nanos::ZERO);
    for part in parts.filter(|part| part.count > 0) {
        for bucket in &part.buckets {
            let count = counts.entry(bucket.value).or_default();
            *count = count.saturating_add(bucket.count);
        }
        sum = sum.saturating_add(part.sum);
        outliers = outliers.saturating_add(part.outliers);
        min = Some(min.map_or(part.min, |min| min.min(part.min)));
        max = max.max(part.max);
    }
    let buckets = counts.into_iter();
    let buckets = buckets.map(|(value, count)| crate::model::Bucket { value, count });
    Distribution::from_buckets(
        buckets.collect(),
        sum,
        min.unwrap_or_default(),
        max,
        outliers,
    )
}

/// Returns the numbers behind a finding about polls.
pub(super) fn numbers(
    polls: &PollTime<'_>,
    cpu_share: f64,
    samples: u64,
) -> BTreeMap<&'static str, f64> {
    BTreeMap::from([
        ("polls", polls.polls as f64),
        ("slow_polls", polls.slow_polls as f64),
        ("slow_ns", polls.slow.0 as f64),
        ("slow_poll_ns", polls.typical.0 as f64),
        ("max_ns", polls.max.0 as f64),
        ("worker_share", polls.worker_share),
        ("cpu_share", cpu_share),
        ("cpu_samples", samples as f64),
    ])
}

/// Says how many polls are slow and what part of the workers' time they take.
pub(super) fn amount(evidence: &Evidence<'_>, polls: &PollTime<'_>) -> String {
    let what = if polls.inside.is_some() {
        "calls"
    } else {
        "polls"
    };
    format!(
        "{} of {} {what} took {} or more, {} of the workers' time.",
        polls.slow_polls,
        polls.polls,
        Nanos::from(evidence.thresholds.slow_poll),
        crate::diagnose::wording::percent(polls.worker_share),
    )
}
