//! When a device did nothing, laid beside what the host did in the same time.

use std::collections::BTreeMap;

use crate::diagnose::evidence::Evidence;
use crate::model::{GpuDeviceStats, GpuPause, Nanos, OperationTree, SiteId, TreeSpan};

/// The pauses of a device, to be asked for any time.
#[derive(Debug)]
pub(super) struct Quiet<'a> {
    pauses: &'a [GpuPause],
    /// The sum of all pauses before each.
    before: Vec<u64>,
    /// The time of which all pauses are known.
    from: Nanos,
    to: Nanos,
}

impl<'a> Quiet<'a> {
    pub(super) fn of(row: &'a GpuDeviceStats) -> Quiet<'a> {
        let pauses = row.pauses.pauses.as_slice();
        let mut sum = 0_u64;
        let before = pauses.iter().map(|pause| {
            let before = sum;
            sum = sum.saturating_add(pause.length().0);
            before
        });
        Quiet {
            before: before.collect(),
            pauses,
            from: row.pauses.since,
            to: row.pauses.began.saturating_add(row.window),
        }
    }

    /// Whether the pauses of all of an operation's time are known.
    pub(super) fn knows(&self, span: &TreeSpan) -> bool {
        span.start >= self.from && span.end <= self.to
    }

    /// Returns how long the device did nothing from one time to another.
    pub(super) fn within(&self, from: Nanos, to: Nanos) -> Nanos {
        Nanos(self.up_to(to).saturating_sub(self.up_to(from)))
    }

    fn up_to(&self, at: Nanos) -> u64 {
        let after = self.pauses.partition_point(|pause| pause.start < at);
        let Some(last) = after.checked_sub(1) else {
            return 0;
        };
        let pause = &self.pauses[last];
        let part = at.min(pause.end).saturating_sub(pause.start).0;
        self.before[last].saturating_add(part)
    }

    /// Returns the share of the roots' time in which the device did nothing, in those of which it is known; `None` where
    /// it is of none.
    pub(super) fn in_roots(&self, evidence: &Evidence<'_>) -> Option<f64> {
        let roots = kept(evidence).filter_map(|tree| tree.spans.first());
        let (mut idle, mut all) = (0.0, 0.0);
        for root in roots {
            // Of a root that goes beyond what is known, that part.
            let (from, to) = (root.start.max(self.from), root.end.min(self.to));
            idle += self.within(from, to).0 as f64;
            all += to.saturating_sub(from).0 as f64;
        }
        (all > 0.0).then(|| (idle / all).min(1.0))
    }

    /// Returns in whose own time the device did nothing, the most first, as shares of all idle time in the kept trees.
    pub(super) fn hosts(&self, evidence: &Evidence<'_>) -> Vec<(SiteId, f64)> {
        let mut of_sites: BTreeMap<SiteId, u64> = BTreeMap::new();
        for tree in kept(evidence) {
            let own = own_intervals(tree);
            for (span, own) in tree.spans.iter().zip(own) {
                let idle = own.iter().map(|&(from, to)| self.within(from, to).0).sum();
                let sum = of_sites.entry(span.site.id).or_default();
                *sum = u64::saturating_add(*sum, idle);
            }
        }
        let all = of_sites.values().sum::<u64>().max(1) as f64;
        let mut sites: Vec<_> = of_sites
            .into_iter()
            .filter(|(_, idle)| *idle > 0)
            .map(|(site, idle)| (site, idle as f64 / all))
            .collect();
        sites.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        sites
    }
}

/// Returns all trees that were kept. Of those that lack operations the others are right.
pub(super) fn kept<'a>(evidence: &Evidence<'a>) -> impl Iterator<Item = &'a OperationTree> {
    let groups = evidence.profile.trees.iter();
    groups.flat_map(|group| group.kept.iter().map(|kept| &kept.tree))
}

/// Returns for each operation the times in which none of its children ran.
fn own_intervals(tree: &OperationTree) -> Vec<Vec<(Nanos, Nanos)>> {
    let spans = &tree.spans;
    let mut covered: Vec<Nanos> = spans.iter().map(|span| span.start).collect();
    let mut own = vec![Vec::new(); spans.len()];
    let mut by_start: Vec<usize> = (1..spans.len()).collect();
    by_start.sort_by_key(|&index| (spans[index].start, index));
    for index in by_start {
        let Some(parent) = parent(&spans[index], index) else {
            continue;
        };
        let (from, until) = (covered[parent], spans[parent].end);
        let child = spans[index].start.min(until);
        if child > from {
            own[parent].push((from, child));
        }
        covered[parent] = from.max(spans[index].end.min(until));
    }
    for (index, span) in spans.iter().enumerate() {
        if span.end > covered[index] {
            own[index].push((covered[index], span.end));
        }
    }
    own
}

/// Returns the index of the operation around; one that does not stand before would be a loop.
pub(super) fn parent(span: &TreeSpan, index: usize) -> Option<usize> {
    let parent = usize::try_from(span.parent?).ok()?;
    (parent < index).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_pauses_is_that_of_their_parts() {
        let mut row = GpuDeviceStats {
            window: Nanos(100),
            ..GpuDeviceStats::default()
        };
        let pause = |start, end| GpuPause::new(Nanos(start), Nanos(end));
        row.pauses.pauses = vec![pause(10, 20), pause(40, 70)];
        let quiet = Quiet::of(&row);
        let within = |from, to| quiet.within(Nanos(from), Nanos(to)).0;
        assert_eq!(within(0, 100), 40);
        assert_eq!(within(15, 45), 10);
        assert_eq!((within(20, 40), within(0, 10)), (0, 0));
        assert_eq!((within(50, 60), within(60, 50)), (10, 0));
    }
}
