//! The rules, one a file. A rule reads the evidence and what the rules before it posted, and changes nothing.

mod cold_start;
mod database;
mod dominant_subtree;
mod dropped_or_truncated_data;
mod gpu;
mod hot_self_time;
mod insufficient_data;
mod memory;
mod network;
mod profiler_overhead;
mod storage;
mod tail_latency;
mod tasks;
mod threads;
mod trends;
mod uninstrumented_time;
mod work;

use crate::diagnose::board::{Board, Outcome};
use crate::diagnose::evidence::Evidence;
use crate::model::{Distribution, Finding, Nanos, Site, Stats};

/// One rule. The id is never used again once the rule is retired.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    /// What holds where the rule looked and found nothing.
    pub(crate) healthy: &'static str,
    pub(crate) standing: Standing,
    pub(crate) check: fn(&Evidence<'_>, &Board) -> Outcome,
}

/// What a rule's findings are about; earlier kinds are told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Something that takes time and can be changed.
    Cause,
    /// Where to look; nothing to change there.
    Pointer,
    /// The data itself.
    Data,
}

/// All rules. Those that say exactly what happened and claim the time come before those that take what is left; the rule
/// about missing data comes last.
pub(crate) fn in_order() -> impl Iterator<Item = &'static Rule> {
    const FAMILIES: [&[Rule]; 14] = [
        gpu::RULES,
        database::RULES,
        network::RULES,
        storage::RULES,
        threads::RULES,
        tasks::RULES,
        work::RULES,
        memory::RULES,
        &[trends::TWO_SPEEDS, tail_latency::RULE, cold_start::RULE],
        trends::RULES,
        storage::GENERIC,
        network::GENERIC,
        threads::GENERIC,
        &[
            hot_self_time::RULE,
            dominant_subtree::RULE,
            uninstrumented_time::RULE,
            profiler_overhead::RULE,
            dropped_or_truncated_data::RULE,
            insufficient_data::RULE,
        ],
    ];
    FAMILIES.into_iter().flatten()
}

/// Findings that are about no single callsite have this as their site.
const PROCESS: &str = "process";

impl Rule {
    fn about(&self, site: &Site) -> Finding {
        let mut finding = Finding::new(self.id, self.name, site.name);
        finding.location = site.location();
        finding
    }

    fn about_process(&self) -> Finding {
        Finding::new(self.id, self.name, PROCESS)
    }
}

/// Returns the part of some of the operations' time that is self time, if all operations have the same part.
fn own_part(stats: &Stats, time: Nanos) -> Nanos {
    let part = stats.self_time.share_of(stats.operations().sum).min(1.0);
    Nanos((time.0 as f64 * part) as u64).min(stats.self_time)
}

/// Returns the operations without the first one, which often pays for what later ones find ready.
fn without_first(operations: &Distribution, first: Option<Nanos>) -> Distribution {
    let Some(first) = first else {
        return operations.clone();
    };
    let mut buckets = operations.buckets.clone();
    let nearest = buckets
        .iter_mut()
        .filter(|bucket| bucket.count > 0)
        .min_by_key(|bucket| bucket.value.0.abs_diff(first.0));
    if let Some(bucket) = nearest {
        bucket.count -= 1;
    }
    buckets.retain(|bucket| bucket.count > 0);
    let sum = operations.sum.saturating_sub(first);
    Distribution::from_buckets(
        buckets,
        sum,
        operations.min,
        operations.max,
        operations.outliers,
    )
}
