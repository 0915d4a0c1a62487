//! Where polls of async spans spend long stretches of time, for the rules about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnose::evidence::Evidence;
use crate::diagnose::replay::Replayed;
use crate::model::{Bucket, Distribution, Nanos, OperationTree, Site, SiteStats, Stats, TreeKind};

use super::inside::{Below, Inner, Seen};
use super::ran::RanEvidence;
use super::tree;

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
    pub(super) ran: RanEvidence,
    /// `slow` as a share of the workers' time.
    pub(super) worker_share: f64,
}

pub(super) fn has_workers(evidence: &Evidence<'_>) -> bool {
    polled(evidence).next().is_some() && !one_task(evidence)
}

/// Finds sites that spend at least a share `least` of the workers' time in polls that take `from` or longer.
pub(super) fn long_polls<'a>(
    evidence: &Evidence<'a>,
    from: Nanos,
    least: f64,
) -> Vec<PollTime<'a>> {
    let mut found = Vec::new();
    if has_workers(evidence) {
        let search = Search {
            evidence,
            from,
            least,
            seen: Seen::of(evidence),
        };
        for row in polled(evidence) {
            search.of_site(row, &mut found);
        }
    }
    found
}

/// Returns the share from which one of the two rules about slow polls may fire.
pub(super) fn least_share(evidence: &Evidence<'_>) -> f64 {
    let thresholds = evidence.thresholds;
    thresholds.blocking_share.min(thresholds.cpu_poll_share)
}

/// Whether all async spans are one task that does one thing after the other, such as the `main` of a runtime with one
/// thread: nobody waits for it. Without trees nothing says so.
fn one_task(evidence: &Evidence<'_>) -> bool {
    let mut inside = vec![false; evidence.profile.paths.len()];
    let mut tasks = 0_u64;
    for index in 0..inside.len() {
        let stats = &evidence.path(index).stats;
        let above = evidence.parent(index).is_some_and(|parent| inside[parent]);
        inside[index] = above || stats.is_async();
        if stats.is_async() && !above {
            tasks = tasks.saturating_add(stats.spans.max(stats.calls));
        }
    }
    if tasks > 1 {
        return false;
    }
    let mut trees = evidence.trees().peekable();
    trees.peek().is_some() && trees.all(|weighted| is_one_task(weighted.tree))
}

fn is_one_task(tree: &OperationTree) -> bool {
    let children = tree::children(tree);
    let side_by_side = |siblings: &Vec<usize>| {
        let mut reached = Nanos::ZERO;
        siblings.iter().any(|&at| {
            let span = &tree.spans[at];
            let overlaps = span.kind == TreeKind::Async && span.start < reached;
            reached = reached.max(span.end);
            overlaps
        })
    };
    let mut inner = 1..tree.spans.len();
    !children.iter().any(side_by_side) && !inner.any(|index| tree::is_spawned(tree, index))
}

/// Returns what the trees say would vanish with this much of the time in slow polls, as numbers and in whole; that is
/// the site's own latency and not that of the tasks which it keeps from running.
pub(super) fn replayed(
    evidence: &Evidence<'_>,
    polls: &PollTime<'_>,
    time: Nanos,
) -> (Vec<(&'static str, f64)>, Option<Replayed>) {
    let id = polls.site.id;
    let Some(row) = evidence.site(id) else {
        return (Vec::new(), None);
    };
    let part = time.share_of(row.stats.self_time).min(1.0);
    let replayed = evidence.changed(u64::from(id.0), |tree, scales| {
        let children = tree::children(tree);
        for (index, span) in tree.spans.iter().enumerate() {
            if span.site.id == id {
                let busy = tree::own_busy(tree, index, &children[index]);
                let slow = Nanos((busy.0 as f64 * part) as u64);
                let own = tree::own_time(tree, index, &children[index]);
                tree::remove(&mut scales[index], slow, own);
            }
        }
    });
    let numbers = replayed.map(|replayed| {
        vec![
            ("replayed_saving", replayed.share),
            ("replayed_saving_low", replayed.low),
            ("replayed_saving_high", replayed.high),
            ("replayed_trees", evidence.replay_trees().0 as f64),
        ]
    });
    (numbers.unwrap_or_default(), replayed)
}

fn polled<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = &'a SiteStats> {
    evidence
        .sites()
        .filter(|row| row.stats.is_async() && row.workers > 0)
}

/// What is looked for.
struct Search<'s, 'a> {
    evidence: &'s Evidence<'a>,
    /// A poll of this length is slow.
    from: Nanos,
    /// The least share of the workers' time.
    least: f64,
    seen: Seen,
}

impl<'a> Search<'_, 'a> {
    /// Splits the slow polls of one async site between itself and the plain spans inside.
    ///
    /// A plain span that takes a noticeable part is named itself. Many short ones are not: then the poll as a whole is too
    /// long, and the async span is named for all of them. Async spans inside have polls of their own.
    fn of_site(&self, row: &'a SiteStats, found: &mut Vec<PollTime<'a>>) {
        let evidence = self.evidence;
        let below = Below::of(evidence, row.site.id, &self.seen);
        let worker_time = evidence.worker_time();
        let (slow_polls, slow) = self.slow_part(&row.stats.activation);
        let mut rest = slow.saturating_sub(below.nested);
        let mut removable = row.stats.self_time;
        let mut ran = below.own.or(RanEvidence::of(&row.stats));
        let mut named_inside = false;
        for inner in below.plain.values() {
            let part = self.of_inner(inner, &row.site);
            if part.slow >= self.from && part.slow.share_of(worker_time) >= self.least {
                rest = rest.saturating_sub(part.slow);
                named_inside = true;
                found.push(PollTime {
                    worker_share: part.slow.share_of(worker_time).min(1.0),
                    ..part
                });
            } else {
                removable = removable.saturating_add(part.removable);
                ran.add(part.ran);
            }
        }
        if rest < self.from || rest.share_of(worker_time) < self.least || slow_polls == 0 {
            return;
        }
        let typical = if named_inside {
            Nanos(rest.0 / slow_polls)
        } else {
            self.typical(&row.stats.activation, slow_polls, slow)
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
            ran,
            worker_share: rest.share_of(worker_time).min(1.0),
        });
    }

    fn of_inner(&self, inner: &Inner<'a>, owner: &'a Arc<Site>) -> PollTime<'a> {
        let sum =
            |of: fn(&Stats) -> Nanos| inner.parts.iter().map(|stats| of(stats)).sum::<Nanos>();
        let self_time = sum(|stats| stats.self_time);
        let children = sum(|stats| stats.busy).saturating_sub(self_time);
        let activation = merged(inner.parts.iter().map(|stats| &stats.activation));
        let (slow_polls, slow) = self.slow_part(&activation);
        // Even if all of the children's time fell into slow calls, this much is the site's own.
        let own = slow.saturating_sub(children).min(self_time);
        let in_polls = |time: Nanos| Nanos((time.0 as f64 * inner.in_polls) as u64);
        let own = in_polls(own);
        let mut ran = RanEvidence::default();
        for stats in &inner.parts {
            ran.add(RanEvidence::of(stats));
        }
        if let Some(row) = self.evidence.site(inner.site.id) {
            ran = ran.or(RanEvidence::of(&row.stats));
        }
        PollTime {
            site: inner.site,
            inside: Some(owner),
            polls: activation.count,
            slow_polls,
            slow: own,
            removable: in_polls(self_time),
            claim: own,
            typical: self.typical(&activation, slow_polls, slow),
            max: activation.max,
            ran,
            worker_share: 0.0,
        }
    }

    /// Returns how many activations were slow and how long those took together.
    fn slow_part(&self, polls: &Distribution) -> (u64, Nanos) {
        let buckets = polls
            .buckets
            .iter()
            .filter(|bucket| bucket.value >= self.from);
        let (count, time) = buckets.fold((0_u64, 0_u64), |(count, time), bucket| {
            (
                count.saturating_add(bucket.count),
                time.saturating_add(bucket.value.0.saturating_mul(bucket.count)),
            )
        });
        // A bucket's middle may be a little above the values in it.
        (count, Nanos(time).min(polls.sum))
    }

    fn typical(&self, polls: &Distribution, slow_polls: u64, slow: Nanos) -> Nanos {
        if polls.quantiles.p99 >= self.from {
            polls.quantiles.p99
        } else {
            Nanos(slow.0.checked_div(slow_polls).unwrap_or(0))
        }
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
    let buckets = buckets.map(|(value, count)| Bucket { value, count });
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
